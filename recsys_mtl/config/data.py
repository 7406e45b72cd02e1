"""Where the click log lies and what its columns mean."""

from collections import Counter
from itertools import combinations
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from recsys_mtl.config.label import LabelOrColumn
from recsys_mtl.config.section import FiniteFloat, Name, PositiveFloat, PositiveInt, Section


class IdFeature(Section):
    """An integer or string column, one value or list per row, looked up in an embedding table."""

    kind: Literal["id"]
    """Discriminates the union."""
    column: str | None = None
    """Parquet column; the feature's own name when not given."""
    # data/ids.py chooses a row by 32 bits of a hash.
    rows: Annotated[int, Field(ge=1, lt=2**32)] | None = None
    """Rows of this feature's table. An integer from 0 to rows - 1 has the row of its number, so
    compact ids never share a row. Any other integer and every string is hashed to a row, and some
    meet there: 63 % of the ids share a row where there are as many rows as ids, 10 % where there
    are ten times as many. A null has an extra row of its own."""
    embedding_dim: Annotated[int, Field(ge=4, multiple_of=4)] | None = None
    """Columns of this feature's table; a multiple of 4, as fbgemm's kernels load 4 floats."""
    table: str | None = None
    """The feature whose table this one shares, instead of `rows` and `embedding_dim`."""
    pooling: Literal["sum", "mean"] = "sum"
    """How the embeddings of a list become one vector. An empty list gives zeros."""

    @model_validator(mode="after")
    def _table_is_own_or_shared(self) -> Self:
        if self.table is None and (self.rows is None or self.embedding_dim is None):
            raise ValueError("needs `rows` and `embedding_dim`, or the `table` it shares")
        if self.table is not None and (self.rows, self.embedding_dim) != (None, None):
            raise ValueError(
                "`table` shares another feature's table, so `rows` and `embedding_dim` belong "
                "there; remove them here"
            )
        return self


class DenseFeature(Section):
    """A numeric column that enters the bottom as one number."""

    kind: Literal["dense"]
    """Discriminates the union."""
    column: str | None = None
    """Parquet column; the feature's own name when not given."""
    transform: Literal["identity", "log1p"] = "identity"
    """`log1p` is sign(x) log(1 + |x|), for counts and prices with heavy tails."""
    mean: FiniteFloat = 0.0
    """Subtracted after the transform."""
    std: PositiveFloat = 1.0
    """Divides after the mean is subtracted."""
    fill: FiniteFloat = 0.0
    """The model's input for a null or non-finite value, neither transformed nor scaled."""


MOST_VALUES = 4096
"""Of a vocabulary: each value is a column of every batch and of the body's first layer."""


def _checked_vocabulary(values: object) -> tuple[object, ...]:
    """The values of a vocabulary, each once and all of one kind."""
    if not isinstance(values, list | tuple):
        raise ValueError(f"must be a list of strings or integers (found {values!r})")
    if not values:
        raise ValueError("must not be empty; name the values that have an input of their own")
    for value in values:
        if isinstance(value, bool):
            raise ValueError(f"holds {value!r}; put texts that YAML reads so (yes, no) in quotes")
        if value is None:
            raise ValueError("holds null, which has an input of its own without being named")
        if not isinstance(value, str | int):
            raise ValueError(f"holds {value!r}; give strings or integers")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"holds {value}, which has more than 64 bits with its sign")
        if isinstance(value, str) is not isinstance(values[0], str):
            raise ValueError(
                f"holds {values[0]!r} and {value!r}; give strings alone or integers alone, as the "
                "column has them"
            )
    value, times = Counter(values).most_common(1)[0]
    if times > 1:
        raise ValueError(f"names {value!r} {times} times; name each value once")
    if len(values) > MOST_VALUES:
        raise ValueError(
            f"has {len(values):,} values, and {MOST_VALUES:,} is the most, as each is an input of "
            "the body; take kind: id, which looks values up in an embedding table"
        )
    return tuple(values)


Vocabulary = Annotated[
    tuple[str, ...] | tuple[int, ...],
    BeforeValidator(_checked_vocabulary),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            "minItems": 1,
            "maxItems": MOST_VALUES,
            "uniqueItems": True,
        }
    ),
]
"""Values that have an input of their own, all strings or all integers."""


class OneHotFeature(Section):
    """An integer or string column of few values, one per row, which enters the body as one input
    per value: 1 for the row's value, 0 for the others. It has no table; the weights that read it
    are the body's, and the dense optimizer trains them."""

    kind: Literal["one_hot"]
    """Discriminates the union."""
    column: str | None = None
    """Parquet column; the feature's own name when not given."""
    vocabulary: Vocabulary
    """Strings, or integers, as the column has them. Their inputs come in this order, then one for
    any other value and one for null."""

    @property
    def columns(self) -> int:
        """How many inputs it has."""
        return len(self.vocabulary) + 2

    @property
    def holds_strings(self) -> bool:
        """Whether its column must hold strings; else it must hold integers."""
        return isinstance(self.vocabulary[0], str)


Feature = Annotated[IdFeature | DenseFeature | OneHotFeature, Field(discriminator="kind")]


class FeatureColumns(Section):
    """What the model reads of a row: all that a served model needs to know of the log."""

    features: Annotated[dict[Name, Feature], Field(min_length=1)]
    """Feature name to feature, in the order of the model's input."""

    @model_validator(mode="after")
    def _shared_tables_are_there(self) -> Self:
        for name, feature in self.features.items():
            if isinstance(feature, IdFeature) and feature.table is not None:
                owner = self.features.get(feature.table)
                if not isinstance(owner, IdFeature) or owner.table is not None:
                    owners = [n for n, f in self.id_features() if f.table is None]
                    raise ValueError(
                        f"data.features.{name}.table is {feature.table!r}, which has no table of "
                        f"its own; allowed: {', '.join(owners) or 'none'}"
                    )
        return self

    def id_features(self) -> list[tuple[str, IdFeature]]:
        """Names and features of kind `id`, in order."""
        return [(n, f) for n, f in self.features.items() if isinstance(f, IdFeature)]

    def dense_features(self) -> list[tuple[str, DenseFeature]]:
        """Names and features of kind `dense`, in order."""
        return [(n, f) for n, f in self.features.items() if isinstance(f, DenseFeature)]

    def one_hot_features(self) -> list[tuple[str, OneHotFeature]]:
        """Names and features of kind `one_hot`, in order."""
        return [(n, f) for n, f in self.features.items() if isinstance(f, OneHotFeature)]

    def dense_widths(self) -> dict[str, int]:
        """Features of kind `dense` and `one_hot` in order, each with how many dense inputs it
        has."""
        return {
            name: feature.columns if isinstance(feature, OneHotFeature) else 1
            for name, feature in self.features.items()
            if not isinstance(feature, IdFeature)
        }

    @property
    def dense_columns(self) -> int:
        """F, the columns of all dense inputs."""
        return sum(self.dense_widths().values())


class Data(FeatureColumns):
    """Where the click log lies and what its columns mean."""

    train: str
    """Parquet file, folder or glob, on a local path or any fsspec URL."""
    eval: str
    """The same, for the rows that judge the model."""
    labels: Annotated[dict[Name, LabelOrColumn], Field(min_length=1)]
    """Task name to the column of its label, which holds 0, 1 or null (not known), or to a section
    that says more: which rows count, and by how much."""
    lanes: PositiveInt = 8
    """Fixed cuts of an epoch that workers share out among themselves: a run may go on with any
    number of workers up to this one, over the very same batches."""
    shuffle_window_row_groups: PositiveInt = 2
    """Rows are shuffled within this many row groups of a lane; a worker holds so many of each of
    its lanes in memory, which are lanes / workers, rounded up."""
    prefetch_batches: PositiveInt = 4
    """Batches the reader's thread may be ahead of training."""
    on_error: Literal["fail", "skip"] = "fail"
    """A row group that cannot be read, a label that is not 0, 1 or null, or a sample_weight,
    only_where or event_time that cannot be used: `fail` ends the run, `skip` trains on without
    those rows and counts them by reason."""

    @property
    def weighs_rows(self) -> bool:
        """Whether some task's rows count by weights of their own."""
        return any(label.sample_weight is not None for label in self.labels.values())

    @model_validator(mode="after")
    def _tasks_differ(self) -> Self:
        for (task, label), (other, other_label) in combinations(self.labels.items(), 2):
            if label.reads_the_same_as(other_label):
                raise ValueError(
                    f"data.labels: {task} and {other} name the same column and count its rows "
                    "alike, so they are one task; give each its own column, sample_weight, "
                    "only_where or window"
                )
        return self

    @model_validator(mode="after")
    def _no_feature_holds_the_answer(self) -> Self:
        label_of = {label.column: task for task, label in self.labels.items()}
        weight_of = {label.sample_weight: task for task, label in self.labels.items()}
        for name, feature in self.features.items():
            column = feature.column or name
            if column in label_of:
                raise ValueError(
                    f"data.features.{name} reads column {column!r}, the label of task "
                    f"{label_of[column]!r}; a feature must not hold the answer"
                )
            if column in weight_of:
                raise ValueError(
                    f"data.features.{name} reads column {column!r}, the sample_weight of task "
                    f"{weight_of[column]!r}, which may follow from the answer; where it does not, "
                    "write the column a second time, under a name of its own"
                )
        return self
