"""The whole configuration of a run: one frozen tree."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import Field, model_validator

from recsys_mtl.config.data import Data
from recsys_mtl.config.section import FiniteFloat, PositiveFloat, PositiveInt, Section, spelled


class Run(Section):
    """What the run is called and where it lives."""

    name: Annotated[
        str,
        spelled(
            r"[A-Za-z0-9][A-Za-z0-9._-]*",
            "letters, digits, '.', '_' and '-', none of the last three first",
        ),
    ]
    """Names the folder under `storage_path`; the same name continues the same run."""
    storage_path: str = "runs"
    """Folder or URL that every node of the cluster can write to."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Decides initial parameters, the order of rows and dropout."""


class Model(Section):
    """The shared bottom and the heads."""

    bottom_hidden_sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (
        1024,
        512,
        256,
        128,
    )
    """Widths of the shared layers, each followed by ReLU."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that a unit of a shared layer is dropped in training."""
    head_hidden_sizes: tuple[PositiveInt, ...] = ()
    """Widths of each task's own hidden layers before its logit; empty is a linear head."""


class Uniform(Section):
    """The plain sum of the tasks' losses: one backward, no deconfliction."""

    kind: Literal["uniform"]
    """Discriminates the union."""


class GradOPS(Section):
    """Each conflicting gradient off the span of the others, then reweighted by r_i^alpha."""

    kind: Literal["gradops"]
    """Discriminates the union."""
    alpha: FiniteFloat = 0.0
    """The trade-off: above 0 favours tasks that dominate the update, below 0 the dominated."""


Method = Annotated[Uniform | GradOPS, Field(discriminator="kind")]


class Adam(Section):
    """Adam on the bottom and the heads."""

    kind: Literal["adam"] = "adam"
    """Discriminates the union."""
    learning_rate: PositiveFloat = 1e-3
    """After warm-up."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of the mean of gradients."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the mean of squared gradients."""
    epsilon: PositiveFloat = 1e-8
    """Added to the root of the second moment."""


class Sgd(Section):
    """Plain gradient descent on the bottom and the heads."""

    kind: Literal["sgd"]
    """Discriminates the union."""
    learning_rate: PositiveFloat
    """After warm-up."""


class Tables(Section):
    """The optimizer fused into the tables' backward."""

    kind: Literal["rowwise_adagrad", "adagrad", "sgd"] = "rowwise_adagrad"
    """`rowwise_adagrad` keeps one number a row."""
    learning_rate: PositiveFloat = 0.02
    """After warm-up."""
    epsilon: PositiveFloat = 1e-8
    """Added to the root of Adagrad's accumulator."""


class Optimizer(Section):
    """How parameters move."""

    dense: Annotated[Adam | Sgd, Field(discriminator="kind")] = Adam()
    """Bottom and heads."""
    tables: Tables = Tables()
    """Embedding tables."""


class Training(Section):
    """How long and in what portions."""

    global_batch_size: PositiveInt
    """Rows of a step over all workers; split evenly over the lanes."""
    epochs: PositiveInt | None = None
    """Passes over data.train. With neither this nor `max_steps`: one."""
    max_steps: PositiveInt | None = None
    """Ends the run at this step; with `epochs` too, whichever comes first."""
    warm_up_steps: Annotated[int, Field(ge=0)] = 0
    """Learning rates rise linearly to their value over this many steps."""
    gradient_clip_norm: PositiveFloat | None = None
    """Largest norm of the combined shared gradient; heads are clipped to it apart."""
    log_interval_steps: PositiveInt = 20
    """Steps between two looks at the counters: progress line, exporter, trace."""
    auc_window_steps: PositiveInt = 200
    """The training AUC covers between one and two of these windows."""
    checkpoint_interval_steps: PositiveInt | None = 1000
    """Steps between checkpoints; null leaves only the one at the end."""
    evaluation_interval_steps: PositiveInt | None = None
    """Steps between evaluations on data.eval; null leaves only the one at the end."""


class Cluster(Section):
    """What the run asks of Ray."""

    num_workers: PositiveInt = 1
    """Ray Train workers; must divide `data.lanes`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` is cuda where the cluster has a GPU for every worker, else cpu."""
    cpus_per_worker: PositiveInt = 1
    """CPUs reserved for a worker, and its number of torch threads."""
    max_restarts: Annotated[int, Field(ge=0)] = 3
    """How often a run goes on from its last checkpoint after a worker or node is lost."""
    timeout_seconds: PositiveInt = 300
    """A collective operation that waits longer than this ends the attempt."""


class Metrics(Section):
    """The run's Prometheus endpoint."""

    bind_address: str = "0.0.0.0"
    """Address the endpoint listens on; 127.0.0.1 keeps it on the machine."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port of the endpoint; 0 takes a free one. The URL is printed."""


class RunConfig(Section):
    """Everything a run needs, as read from its YAML file."""

    run: Run
    """Name, place and seed."""
    data: Data
    """Click logs, features and labels."""
    model: Model = Model()
    """Bottom and heads."""
    method: Method
    """How the tasks' gradients become one update."""
    optimizer: Optimizer = Optimizer()
    """Dense and table optimizers."""
    training: Training
    """Batch, length, intervals."""
    cluster: Cluster = Cluster()
    """Workers and device."""
    metrics: Metrics = Metrics()
    """Prometheus endpoint."""

    MAY_CHANGE: ClassVar[tuple[str, ...]] = (
        "run.storage_path",
        "data.train",  # the manifest's digest says whether the rows are still the same
        "data.eval",
        "data.prefetch_batches",
        "data.on_error",
        "training.epochs",
        "training.max_steps",
        "training.log_interval_steps",
        "training.auc_window_steps",
        "training.checkpoint_interval_steps",
        "training.evaluation_interval_steps",
        "cluster",
        "metrics",
    )

    @model_validator(mode="after")
    def _sizes_divide(self) -> Self:
        workers, lanes, rows = (
            self.cluster.num_workers,
            self.data.lanes,
            self.training.global_batch_size,
        )
        if lanes % workers:
            divisors = [d for d in range(1, lanes + 1) if lanes % d == 0]
            raise ValueError(
                f"cluster.num_workers is {workers}, which does not divide data.lanes ({lanes}); "
                f"allowed: {', '.join(map(str, divisors))}, or another number of lanes"
            )
        if rows % lanes:
            raise ValueError(
                f"training.global_batch_size is {rows}, which data.lanes ({lanes}) does not "
                f"divide; the nearest that fits is {max(lanes, round(rows / lanes) * lanes)}"
            )
        for name, feature in self.data.id_features():
            place = f"data.features.{name}.sharding"
            tables = self.optimizer.tables.kind
            if feature.sharding == "column_wise" and tables == "rowwise_adagrad":
                raise ValueError(
                    f"{place} is column_wise, where rowwise_adagrad would keep one state per "
                    "column shard and give other results; take optimizer.tables.kind adagrad or "
                    "sgd, or table_wise"
                )
            if feature.sharding == "row_wise" and self.cluster.device == "cpu":
                raise ValueError(
                    f"{place} is row_wise, which TorchRec has on CUDA only; choose table_wise or "
                    "column_wise for cluster.device cpu"
                )
        return self

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the T tasks, in the order of every [T] tensor."""
        return tuple(self.data.labels)

    def to_yaml(self) -> str:
        """The whole tree, defaults included, as YAML that `load_config` reads back."""
        tree = self.model_dump(mode="json")
        return str(yaml.dump(tree, Dumper=_Dumper, sort_keys=False))

    def changes_since(self, earlier: "RunConfig") -> list[str]:
        """What forbids going on with `earlier`'s run, each as `path: old -> new`.

        The order of features and of tasks counts: it is the order of weights and of task states.
        """
        old, new = (dict(_leaves(c.model_dump(mode="json"))) for c in (earlier, self))
        for leaves, config in ((old, earlier), (new, self)):
            leaves["data.features"] = list(config.data.features)
            leaves["data.labels"] = list(config.data.labels)
        return [
            f"{path}: {old.get(path)!r} -> {new.get(path)!r}"
            for path in sorted(old.keys() | new.keys())
            if old.get(path) != new.get(path)
            and not any(path == p or path.startswith(p + ".") for p in self.MAY_CHANGE)
        ]


EXPONENT_NUMBER = re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9]*)?[eE][-+]?[0-9]+$")
"""1e-3: YAML 1.1 takes it for text, as it has no dot; here it is a number."""


class _Dumper(yaml.SafeDumper):
    """SafeDumper that puts text like 1e5 in quotes, for `load_config` would read a number."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT_NUMBER, list("-+0123456789"))


def _leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping) and tree:
        for key, value in tree.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, tree
