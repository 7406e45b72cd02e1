"""recsys-mtl init: a run's YAML for a click log, from its footers and a sample of its rows."""

import argparse
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import yaml

from recsys_mtl.commands.arguments import Commands
from recsys_mtl.commands.printing import print_lines
from recsys_mtl.config import UserError

if TYPE_CHECKING:
    from recsys_mtl.data.guess import Guess
    from recsys_mtl.data.sample import LogSample


def add_to(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add_parser("init", help="write a run's YAML for a click log, to stdout")
    parser.add_argument(
        "--data", required=True, metavar="URL", help="the log: a Parquet file, a folder or a glob"
    )
    parser.add_argument(
        "--eval",
        metavar="URL",
        help="the log that judges the model; by default eval, test or valid in --data",
    )
    parser.add_argument(
        "--one-hot",
        type=_number_of_values,
        default=0,
        metavar="N",
        help="write columns of at most N strings or integers as one_hot: dense inputs, one per "
        "value, instead of embedding tables (by default none)",
    )
    parser.set_defaults(command=init)


def _number_of_values(text: str) -> int:
    """A number of values that a vocabulary may have, or 0."""
    from recsys_mtl.config.data import MOST_VALUES

    if not text.isdecimal() or int(text) > MOST_VALUES:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of values from 0 to {MOST_VALUES}; take 50, for example"
        )
    return int(text)


def init(options: argparse.Namespace) -> int:
    """Look at the log and print the YAML."""
    from recsys_mtl.data.guess import guess_columns
    from recsys_mtl.data.parts import train_and_eval
    from recsys_mtl.data.sample import read_sample

    train, evaluation = train_and_eval(options.data, options.eval)
    sample = read_sample(train)
    guesses = guess_columns(sample, one_hot_values=options.one_hot)
    if not any(guess.use == "label" for guess in guesses):
        raise UserError(
            f"{train} has no label: no column holds 0 and 1 alone; add one per task, 1 where it "
            f"happened (the columns are {', '.join(sample.table.column_names)})"
        )
    if not any(guess.use == "feature" for guess in guesses):
        raise UserError(f"{train} has no column that could be a feature, besides its labels")
    print_lines(_yaml(train, evaluation, sample, guesses))
    return 0


def _yaml(
    train: str, evaluation: str, sample: "LogSample", guesses: list["Guess"]
) -> Iterator[str]:
    batch = max(64, min(4096, 1 << max(0, (sample.rows // 100).bit_length() - 1)))
    hidden = "[128, 64]" if sample.rows < 100_000 else "[512, 256, 128]"
    names = _names([guess.name for guess in guesses])
    labels = [guess for guess in guesses if guess.use == "label"]
    left_out = [guess for guess in guesses if guess.use == "left out"]
    read = len(sample.table)
    yield f"# From {sample.rows:,} rows in {sample.files:,} file(s), {read:,} of them read."
    yield "# Every line is a guess to be looked at; `recsys-mtl settings` says what else there is."
    yield f"run: {{name: {_run_name(train)}, storage_path: runs, seed: 1}}"
    yield "data:"
    yield f"  train: {json.dumps(train)}"
    yield f"  eval: {json.dumps(evaluation)}"
    yield "  features:"
    for guess in guesses:
        if guess.use == "feature":
            yield f"    {_entry(guess, names)}   # {_comment(guess.why)}"
    for guess in left_out:
        yield f"    # left out: {_comment(guess.name)}   {_comment(guess.why)}"
    yield "  labels:"
    for guess in labels:
        yield f"    {names[guess.name]}: {json.dumps(guess.name)}   # {_comment(guess.why)}"
    yield f"model: {{bottom_hidden_sizes: {hidden}}}"
    yield "method: {kind: gradops, alpha: 0.0}"
    yield "training:"
    yield f"  global_batch_size: {batch}   # about a hundred steps per epoch or more"
    yield f"  epochs: {1 if sample.rows >= 300_000 else 3}"
    yield "  log_interval_steps: 10"
    yield "cluster: {num_workers: 1}   # 0 trains in this process, without Ray"


def _entry(guess: "Guess", names: Mapping[str, str]) -> str:
    name = names[guess.name]
    settings = dict(guess.settings)
    if name != guess.name:
        settings = {"kind": settings.pop("kind"), "column": guess.name, **settings}
    if "table" in settings:
        settings["table"] = names[str(settings["table"])]
    return f"{name}: {{{', '.join(f'{k}: {_value(k, v)}' for k, v in settings.items())}}}"


def _value(key: str, value: object) -> str:
    """A setting's value as YAML; the log's words in quotes, as one may be `on` or hold a comma."""
    if isinstance(value, list):
        return f"[{', '.join(_value(key, item) for item in value)}]"
    if isinstance(value, str) and key in ("column", "vocabulary"):
        return yaml.safe_dump(value, default_style='"', width=math.inf).strip()
    return str(value) if isinstance(value, str) else json.dumps(value)


def _names(columns: Sequence[str]) -> dict[str, str]:
    """A name for each column that a feature or a task may have, no two alike."""
    names: dict[str, str] = {}
    for column in columns:
        name = _name(column)
        while name in names.values():
            name += "_"
        names[column] = name
    return names


def _name(column: str) -> str:
    """A column's name as one that a feature or a task may have."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", column)
    name = name if re.match(r"[A-Za-z_]", name) else f"_{name}"
    # YAML reads these as true, false and null.
    return (
        f"{name}_"
        if name.lower() in ("y", "n", "yes", "no", "on", "off", "true", "false", "null")
        else name
    )


def _run_name(url: str) -> str:
    parts = [p for p in re.split(r"[^A-Za-z0-9]+", url) if p and p not in ("train", "parquet")]
    return f"{parts[-1]}-run" if parts else "run"


def _comment(text: str) -> str:
    return " ".join(text.split())
