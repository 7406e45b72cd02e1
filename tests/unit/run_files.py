"""A run's YAML to start from."""

from pathlib import Path

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
