"""A run's YAML to start from, and what is said of one that is wrong."""

from pathlib import Path

import pytest

from recsys_mtl.config import ConfigError
from recsys_mtl.config.file import load_config

SMALLEST = """\
run: {name: demo}
data:
  train: clicks/train
  eval: clicks/eval
  features:
    item: {kind: id, rows: 100, embedding_dim: 8}
    price: {kind: dense}
  labels: {purchase: buy, cart: cart}
method: {kind: gradops}
training: {global_batch_size: 64}
"""


def write_run(folder: Path, text: str = SMALLEST) -> Path:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path, *overrides: str) -> list[str]:
    """The lines of the refusal, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    return str(caught.value).removeprefix(f"{path}: ").split("\n  ")
