"""What the files of a bundle hold, and whether they are whole.

features.json         what the model reads of a row, which table each id is looked up in, and which
                      run it was
tables/<feature>.npy  the embedding table that a feature owns, [rows, D], float32 or float16
model.pt2             torch.export: pooled embeddings [B, E], dense inputs [B, F] to logits [B, T]
examples.parquet      rows of a log with the probabilities to expect
checksums.sha256      of all other files, as `sha256sum --check` reads it
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from recsys_mtl.config import FeatureColumns, Section, UserError
from recsys_mtl.config.section import Name
from recsys_mtl.data.ids import ID_ENCODING_VERSION, golden_vectors, row_of

BUNDLE_VERSION = 1
"""Which files a bundle has, and what they mean."""

DESCRIPTION = "features.json"
MODEL = "model.pt2"
EXAMPLES = "examples.parquet"
CHECKSUMS = "checksums.sha256"

_LINES = re.compile(r"(?:[0-9a-f]{64}  [^\n]+\n)+")


TableType = Literal["float32", "float16"]


class BundleError(UserError):
    """A bundle is not there, damaged, or of another version."""


class StoredTable(Section):
    """One embedding table."""

    file: str
    """A .npy file, in row order."""
    type: TableType
    """Of its numbers. They are summed in float32 all the same."""
    rows: int
    """The rows for values, and behind them one row for nulls per feature that reads the table."""
    columns: int
    """D"""


class StoredVector(Section):
    """An id, and the row that an encoder must give it."""

    value: int | str
    """An integer of 64 bits, signed or not, or a string."""
    rows: int
    """Of the table, for values."""
    row: int
    """From 0."""


class IdEncoding(Section):
    """Which rule gives ids their rows."""

    version: int
    """`ID_ENCODING_VERSION` of the run; `recsys_mtl/data/ids.py` is the rule."""
    golden_vectors: tuple[StoredVector, ...]
    """To hold an encoder to; loading a bundle does."""


class Origin(Section):
    """The run that was exported."""

    name: str
    """run.name"""
    checkpoint: str
    """The checkpoint's name in the run's folder."""
    step: int
    """Steps that were trained."""
    precision: str
    """training.precision. The bundle's products are float32 whatever it says."""
    metrics: dict[str, dict[str, Any]]
    """The newest evaluation on data.eval before the checkpoint, task by task; null for what could
    not be known."""


class Bundle(FeatureColumns):
    """features.json."""

    bundle_version: int
    """`BUNDLE_VERSION` of the code that wrote it."""
    run: Origin
    """Where the numbers come from."""
    tasks: Annotated[tuple[Name, ...], Field(min_length=1)]
    """In the order of the model's logits."""
    columns: dict[str, str]
    """What each column of the log held that features read: `integer`, `uint64` or `string` ids or
    values of a vocabulary, a `list of` ids, a `number`, or `null` for ids where there was no value
    at all."""
    tables: dict[Name, StoredTable]
    """By the feature that owns it."""
    null_rows: dict[Name, int]
    """By id feature, the row of its table that a null has."""
    id_encoding: IdEncoding
    """How ids become rows of tables."""
    torch: str
    """The release of torch that wrote the model; others may not read it."""

    def to_json(self) -> str:
        """The content of features.json, its version first."""
        tree = self.model_dump(mode="json")
        return json.dumps({"bundle_version": tree.pop("bundle_version")} | tree, indent=2)


def id_encoding() -> IdEncoding:
    """The rule of this code."""
    vectors = tuple(StoredVector(**vector._asdict()) for vector in golden_vectors())
    return IdEncoding(version=ID_ENCODING_VERSION, golden_vectors=vectors)


def columns_of(features: FeatureColumns, families: Mapping[str, str]) -> dict[str, str]:
    """`Bundle.columns`.

    A column that is read as ids and as a number holds ids. One without a value in the log holds
    what the vocabulary does that it is read with, if any.

    Args:
        families: as `data.schema.column_families` gives them.
    """
    columns = {feature.column or name: "number" for name, feature in features.dense_features()}
    for name, feature in features.id_features():
        column = feature.column or name
        columns[column] = families[f"data.features.{name}:{column}"]
    for name, vocabulary in features.one_hot_features():
        column = vocabulary.column or name
        held = families[f"data.features.{name}:{column}"]
        known = "string" if vocabulary.holds_strings else "integer"
        columns[column] = known if held == "null" else held
    return columns


def read_bundle(folder: Path, *, verify: bool) -> Bundle:
    """What a bundle says of itself.

    Args:
        verify: read every file, and compare it with its checksum.

    Raises:
        BundleError: there is no bundle, a file of it is missing or damaged, it is of another
            version, or this environment encodes ids in another way.
    """
    text = _read_text(folder, DESCRIPTION)
    if verify:
        verify_checksums(folder)
    try:
        tree = json.loads(text)
        _refuse_other_versions(folder, tree["bundle_version"], tree["id_encoding"]["version"])
        bundle = Bundle.model_validate_json(text)
    except (KeyError, TypeError, ValueError) as error:
        problems = error.error_count() if isinstance(error, ValidationError) else 1
        raise BundleError(
            f"{folder / DESCRIPTION} does not describe a bundle ({type(error).__name__}, "
            f"{problems} problem(s)); export the run again"
        ) from None
    _refuse_another_encoder(folder, bundle.id_encoding)
    return bundle


def write_checksums(folder: Path) -> None:
    """Write the checksums of all files that are there."""
    names = sorted(
        file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()
    )
    lines = (f"{digest}  {name}\n" for name, digest in _digests(folder, names))
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def verify_checksums(folder: Path) -> None:
    """Read every file of a bundle, in pieces.

    Raises:
        BundleError: one is missing or differs from its checksum, or the checksums are damaged.
    """
    text = _read_text(folder, CHECKSUMS)
    if _LINES.fullmatch(text) is None:
        raise BundleError(f"{folder / CHECKSUMS} is damaged; copy or export the bundle again")
    expected = {line[66:]: line[:64] for line in text[:-1].split("\n")}
    for name in (DESCRIPTION, MODEL, EXAMPLES, *expected):
        if name not in expected or not (folder / name).is_file():
            raise BundleError(
                f"{name!r} stands in {CHECKSUMS} or in the folder {folder}, but not in both; copy "
                "or export the bundle again"
            )
    for name, digest in _digests(folder, list(expected)):
        if digest != expected[name]:
            raise BundleError(
                f"{folder / name} differs from its checksum in {CHECKSUMS}; one of the two is "
                "damaged: copy or export the bundle again"
            )


def _digests(folder: Path, names: list[str]) -> Iterator[tuple[str, str]]:
    """Name and SHA-256 of each file; hashing leaves other threads the interpreter."""

    def digest(name: str) -> str:
        try:
            with (folder / name).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BundleError(f"{folder / name} cannot be read ({error}); mend that") from None

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        yield from zip(names, pool.map(digest, names), strict=True)


def _read_text(folder: Path, name: str) -> str:
    try:
        return (folder / name).read_bytes().decode()
    except UnicodeDecodeError:
        raise BundleError(f"{folder / name} is damaged; copy or export the bundle again") from None
    except OSError as error:
        raise BundleError(
            f"{folder} holds no bundle ({name}: {error.strerror}); give the folder that "
            "recsys-mtl export wrote"
        ) from None


def _refuse_other_versions(folder: Path, bundle: object, encoding: object) -> None:
    if bundle != BUNDLE_VERSION:
        raise BundleError(
            f"{folder} is a bundle of version {bundle}, and this recsys-mtl reads version "
            f"{BUNDLE_VERSION}; serve it with the release that wrote it, or export the run again"
        )
    if encoding != ID_ENCODING_VERSION:
        raise BundleError(
            f"{folder} has tables for ids encoded by version {encoding}, and this recsys-mtl "
            f"encodes by version {ID_ENCODING_VERSION}; serve it with the release that wrote it"
        )


def _refuse_another_encoder(folder: Path, encoding: IdEncoding) -> None:
    for vector in encoding.golden_vectors:
        row = row_of(vector.value, vector.rows)
        if row != vector.row:
            raise BundleError(
                f"{folder} gives the id {vector.value!r} row {vector.row}, and this environment "
                f"row {row}; install the pandas and numpy of recsys-mtl's lock file"
            )
