"""Which Arrow types the columns of a click log may have."""

from collections.abc import Iterator, Mapping
from typing import Literal, assert_never

import pyarrow as pa

from recsys_mtl.config import Data, DenseFeature, Feature, OneHotFeature, UserError

# What opening or reading a broken Parquet file raises: UnicodeDecodeError for damaged names.
UNREADABLE = (OSError, UnicodeDecodeError, pa.ArrowException)


_Use = Literal["ids", "strings", "integers", "numbers", "times"]
_ALLOWED: dict[_Use, str] = {
    "ids": "integers, strings or lists of them",
    "strings": "one string per row, as its vocabulary has strings",
    "integers": "one integer per row, as its vocabulary has integers",
    "numbers": "numbers or booleans",
    "times": "timestamps, dates or integers (Unix seconds)",
}


class DataError(UserError):
    """The click log is not what the configuration says. Names the file and the column."""


def in_one_line(error: Exception) -> str:
    """The message of a library's error without its line breaks; its kind, where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def refuse_other_families(
    found: Mapping[str, str], known: Mapping[str, str], *, here: str, there: str
) -> None:
    """Nothing, where every id feature holds the same kind of values in two logs.

    Args:
        found: what the columns of a log hold, as `column_families` says it.
        known: what they held in the log that a model was trained on.
        here: where `found` was found, for the message.
        there: the same of `known`.

    Raises:
        DataError: one holds integers and the other strings, whose rows have nothing in common.
    """
    for use, family in found.items():
        kinds = kind_of_ids(family), kind_of_ids(known.get(use))
        if None not in kinds and kinds[0] != kinds[1]:
            place, _, column = use.partition(":")
            raise DataError(
                f"column {column!r} ({place}) holds {kinds[0]} in {here} and {kinds[1]} in "
                f"{there}, so every id would have another row of its table; write the column with "
                "one type"
            )


def kind_of_ids(family: str | None) -> str | None:
    """`integers` or `strings`; None for what is neither, or where nothing is known."""
    match (family or "").removeprefix("list of "):
        case "integer" | "uint64":
            return "integers"
        case "string":
            return "strings"
        case _:
            return None


def columns_read(data: Data) -> list[str]:
    """Names of the Parquet columns that training reads, each once."""
    of_labels = [column for label in data.labels.values() for _, column in label.columns()]
    return list(dict.fromkeys([*feature_columns(data.features), *of_labels]))


def feature_columns(features: Mapping[str, Feature]) -> list[str]:
    """Names of the Parquet columns that features read, each once."""
    return list(dict.fromkeys(feature.column or name for name, feature in features.items()))


def probability_column(task: str) -> str:
    """The column of a task's probabilities, in predictions and in the logs of servers."""
    return f"probability_{task}"


def column_families(
    schema: pa.Schema, data: Data, file: str, *, labelled: bool = True
) -> dict[str, str]:
    """What each column read holds: `integer`, `uint64` or `string` ids, a `list of` one of these,
    a `number`, times as `integer`, `timestamp` or `date`, or `null` where a file has no value at
    all.

    Args:
        labelled: False leaves the labels out.

    Raises:
        DataError: a column is missing or of a type that its use does not allow.
    """
    families: dict[str, str] = {}
    for place, column, use in _uses(data, labelled=labelled):
        kind = check_column_is_there(schema, column, place, file)
        family = _family(kind, use)
        if family is None:
            raise DataError(
                f"column {column!r} ({place}) in {file} has type {kind}; it must hold "
                f"{_ALLOWED[use]}"
            )
        families[f"{place}:{column}"] = family
    _check_shared_tables(families, data, file)
    return families


def check_column_is_there(schema: pa.Schema, column: str, place: str, file: str) -> pa.DataType:
    """The type of a column of a file.

    Args:
        place: the setting or the argument that names it, for the message.

    Raises:
        DataError: there is none of this name, or two.
    """
    index = schema.get_all_field_indices(column)
    if len(index) != 1:
        what = "is missing" if not index else "stands twice"
        raise DataError(
            f"column {column!r} ({place}) {what} in {file}; the file has: {', '.join(schema.names)}"
        )
    return schema.field(index[0]).type


def _check_shared_tables(families: dict[str, str], data: Data, file: str) -> None:
    """An integer and the string of the same digits get different rows: they cannot share."""
    first: dict[str, tuple[str, str]] = {}
    for name, feature in data.id_features():
        column = feature.column or name
        kind = families[f"data.features.{name}:{column}"].removeprefix("list of ")
        if kind == "null":
            continue
        kind = "strings" if kind == "string" else "integers"
        other, other_kind = first.setdefault(feature.table or name, (column, kind))
        if kind != other_kind:
            raise DataError(
                f"columns {other!r} and {column!r} share the table of {feature.table or name!r}, "
                f"but in {file} they hold {other_kind} and {kind}; write both with one type, or "
                "give each its own table"
            )


def _uses(data: Data, *, labelled: bool) -> Iterator[tuple[str, str, _Use]]:
    """(place in the configuration, column, what it must hold) of every use of a column."""
    for name, feature in data.features.items():
        yield f"data.features.{name}", feature.column or name, _use_of(feature)
    for task, label in data.labels.items() if labelled else ():
        for setting, column in label.columns():
            place = f"data.labels.{task}" + ("" if setting == "column" else f".{setting}")
            yield place, column, "times" if setting == "event_time" else "numbers"


def _use_of(feature: Feature) -> _Use:
    """What the column of a feature must hold."""
    if isinstance(feature, DenseFeature):
        return "numbers"
    if isinstance(feature, OneHotFeature):
        return "strings" if feature.holds_strings else "integers"
    return "ids"


def is_list(kind: pa.DataType) -> bool:
    """Whether a column of this type holds one list per row."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _family(kind: pa.DataType, use: _Use) -> str | None:
    """What a column of this type holds in such a use; None where it cannot be used so."""
    match use:
        case "ids":
            return id_family(kind)
        case "strings":
            return _one_id_per_row(kind, "string")
        case "integers":
            return _one_id_per_row(kind, "integer", "uint64")
        case "numbers":
            return number_family(kind)
        case "times":
            return _time_family(kind)
        case _:
            assert_never(use)


def id_family(kind: pa.DataType) -> str | None:
    """What a column of ids of this type holds, as `column_families` says it; None for no ids."""
    if is_list(kind):
        inner = None if is_list(kind.value_type) else id_family(kind.value_type)
        return inner if inner in (None, "null") else f"list of {inner}"
    if pa.types.is_dictionary(kind):
        return id_family(kind.value_type)
    if pa.types.is_null(kind):
        return "null"
    if pa.types.is_uint64(kind):
        return "uint64"
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "string"
    return None


def _one_id_per_row(kind: pa.DataType, *allowed: str) -> str | None:
    family = None if is_list(kind) else id_family(kind)
    return family if family in (*allowed, "null") else None


def number_family(kind: pa.DataType) -> str | None:
    """What a column of numbers of this type holds; None for no numbers."""
    if pa.types.is_null(kind):
        return "null"
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return "number" if numeric or pa.types.is_boolean(kind) else None


def _time_family(kind: pa.DataType) -> str | None:
    if pa.types.is_null(kind):
        return "null"
    if pa.types.is_timestamp(kind):
        return "timestamp"
    if pa.types.is_date(kind):
        return "date"
    return "integer" if pa.types.is_integer(kind) else None
