"""N workers train what one worker trains: losses, weights and parameters."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.distributed.plain_torch import train_plainly
from tests.distributed.train_steps import train_variants

STEPS = 20
RUN = """
run: {{name: equivalence, seed: 3}}
data:
  train: {folder}
  eval: {folder}
  lanes: 4
  features:
    user: {{kind: id, rows: 40, embedding_dim: 8}}
    items: {{kind: id, rows: 60, embedding_dim: 16, pooling: mean}}
    last_item: {{kind: id, table: items}}
    shop: {{kind: id, rows: 30, embedding_dim: 4}}
    price: {{kind: dense, transform: log1p}}
  labels: {{purchase: purchase, cart: cart, wish: wish}}
model: {{bottom_hidden_sizes: [32, 16], dropout: 0.2, head_hidden_sizes: [8]}}
method: {{kind: gradops, alpha: -1.0}}
optimizer:
  dense: {{kind: sgd, learning_rate: 0.5}}
  tables: {{kind: sgd, learning_rate: 0.5}}
training: {{global_batch_size: 32, max_steps: 20, warm_up_steps: 5}}
"""


@pytest.fixture(scope="module")
def run_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 517 rows in uneven row groups: 17 steps an epoch, the last one short.

    Purchase and wish pull against each other, and a third of the wishes is not known.
    """
    folder = tmp_path_factory.mktemp("log")
    # Always the same log. Where a unit's input or two tasks' product comes within rounding of zero,
    # a ReLU or a conflict is one thing for one number of workers and another for another.
    rng = np.random.default_rng(7)
    rows = 517
    user = rng.integers(0, 60, rows)
    lists = [rng.integers(0, 90, rng.integers(0, 5)).tolist() for _ in range(rows)]
    taste = np.sin(user)
    table = pa.table(
        {
            "user": pa.array(user, mask=rng.random(rows) < 0.1),
            "items": pa.array([None if rng.random() < 0.1 else x for x in lists]),
            "last_item": rng.integers(0, 90, rows),
            "shop": [f"shop {i}" for i in rng.integers(0, 25, rows)],
            "price": rng.lognormal(3, 1, rows),
            "purchase": (taste + rng.normal(size=rows) > 0.5).astype(np.int8),
            "cart": (rng.random(rows) < 0.3).astype(np.int8),
            "wish": pa.array(
                (-taste + rng.normal(size=rows) > 0.5).astype(np.int8), mask=rng.random(rows) < 0.3
            ),
            "never": pa.nulls(rows, pa.int8()),
        }
    )
    pq.write_table(table.slice(0, 300), folder / "a.parquet", row_group_size=70)
    pq.write_table(table.slice(300), folder / "b.parquet", row_group_size=45)
    path = folder / "run.yaml"
    path.write_text(RUN.format(folder=folder))
    return path


MMOE = ["model.body={kind: mmoe, experts: 3, expert_hidden_sizes: [12, 8]}"]
OWN_LAYER = [
    "model.bottom_hidden_sizes=[24, 16, 8]",
    "model.task_specific_layers=[bottom.layers.1]",
]
VARIANTS = {
    "sgd": [],
    "bottom": ["gradients.scope=bottom"],
    "column-wise": ["sharding.items={kind: column_wise, columns_per_shard: 4}"],
    "adagrad, column-wise, clipped": [
        "optimizer.tables.kind=adagrad",
        "optimizer.tables.learning_rate=0.05",
        "sharding.items={kind: column_wise, columns_per_shard: 4}",
        "training.gradient_clip_norm=0.05",
    ],
    "uniform, clipped": ["method={kind: uniform}", "training.gradient_clip_norm=0.05"],
    "refreshed": ["gradients.refresh_interval_steps=4"],
    "refreshed, bottom": ["gradients.refresh_interval_steps=4", "gradients.scope=bottom"],
    "bfloat16": ["training.precision=bfloat16"],
    "mmoe, clipped": [*MMOE, "training.gradient_clip_norm=0.05"],
    "mmoe, bfloat16": [
        *MMOE,
        "training.gradient_clip_norm=0.05",
        "training.precision=bfloat16",
    ],
    "own layer, clipped": [*OWN_LAYER, "training.gradient_clip_norm=0.05"],
    "own layer, bfloat16": [
        *OWN_LAYER,
        "training.gradient_clip_norm=0.05",
        "training.precision=bfloat16",
    ],
    "decaying": ["optimizer.schedule={kind: cosine, final_factor: 0.1}"],
    "pcgrad": ["method={kind: pcgrad}"],
    "gradnorm": ["method={kind: gradnorm}"],
    "representation": ["gradients.space=representation", "gradients.audit_interval_steps=5"],
    "still": ["optimizer.dense.learning_rate=1e-30", "optimizer.tables.learning_rate=1e-30"],
}
ON_FOUR = [
    "sgd",
    "adagrad, column-wise, clipped",
    "still",
    "mmoe, clipped",
    "own layer, clipped",
    "gradnorm",
]
ON_THREE = ["sgd", "representation", "mmoe, clipped", "own layer, clipped"]
"""On 4 lanes, two of three workers have a padding lane."""
COMPARED = [
    *((2, name) for name in VARIANTS if "bfloat16" not in name),
    *((3, name) for name in ON_THREE),
    *((4, name) for name in ON_FOUR),
]
Outcome = dict[str, Any]


@pytest.fixture(scope="module")
def outcomes(
    run_yaml: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, dict[str, Outcome]]:
    """World size to variant to what came of it; three and four train a few variants.

    Test processes that share the module's tests out make it once: the first one for all.
    """
    names = {1: VARIANTS, 2: VARIANTS, 3: ON_THREE, 4: ON_FOUR}
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    place = tmp_path_factory.getbasetemp().parent if session else run_yaml.parent
    made = place / f"outcomes_{session}.pt"
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            found = {
                world_size: train(run_yaml, world_size, STEPS, {n: VARIANTS[n] for n in chosen})
                for world_size, chosen in names.items()
            }
            torch.save(found, made)
    return dict(torch.load(made))


def train(
    run_yaml: Path, world_size: int, steps: int, variants: dict[str, list[str]]
) -> dict[str, Outcome]:
    """What each variant of the run comes to, on so many gloo workers."""
    out = run_yaml.with_name(f"out_{world_size}.pt")
    train_variants(run_yaml, world_size, steps, out, variants)
    return dict(torch.load(out))


@pytest.mark.parametrize(("world_size", "variant"), COMPARED)
def test_several_workers_train_what_one_trains(
    outcomes: dict[int, dict[str, Outcome]], variant: str, world_size: int
) -> None:
    one, many = outcomes[1][variant], outcomes[world_size][variant]
    assert one["losses"].shape == (STEPS, 3)
    for name in ("losses", "weights", "coefficients"):
        torch.testing.assert_close(many[name], one[name], rtol=1e-5, atol=1e-5)
    for group in ("parameters", "tables"):
        torch.testing.assert_close(many[group], one[group], rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def plain(run_yaml: Path) -> dict[str, Outcome]:
    """Variant to what one process with dense tables and Algorithm 1 on vectors makes of it."""
    return {
        name: train_plainly(str(run_yaml), STEPS, tuple(VARIANTS[name]))
        for name in ("sgd", "bottom", "decaying")
    }


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("variant", ["sgd", "bottom", "column-wise", "decaying"])
def test_workers_with_sharded_tables_train_what_plain_torch_trains(
    outcomes: dict[int, dict[str, Outcome]],
    plain: dict[str, Outcome],
    variant: str,
    world_size: int,
) -> None:
    found = outcomes[world_size][variant]
    expected = plain["sgd" if variant == "column-wise" else variant]
    # Before the parameters have drifted apart by float32 rounding: the same products.
    first = found["coefficients"][0]
    torch.testing.assert_close(first, expected["coefficients"][0], rtol=0, atol=1e-6)
    torch.testing.assert_close(found["losses"].double(), expected["losses"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["weights"], expected["weights"], rtol=1e-3, atol=1e-4)
    for group in ("parameters", "tables"):
        wide = {name: tensor.double() for name, tensor in found[group].items()}
        torch.testing.assert_close(wide, expected[group], rtol=1e-4, atol=1e-5)


def test_the_tasks_of_the_compared_runs_conflict(
    outcomes: dict[int, dict[str, Outcome]],
) -> None:
    conflicts = (outcomes[1]["sgd"]["grams"] < 0).any(dim=2).any(dim=1)
    assert conflicts.sum() >= 3


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_training_moves_every_part_of_the_model(
    outcomes: dict[int, dict[str, Outcome]], world_size: int
) -> None:
    still, moved = (outcomes[world_size][variant] for variant in ("still", "sgd"))
    for group in ("parameters", "tables"):
        for name, tensor in still[group].items():
            assert (moved[group][name] - tensor).abs().max() > 1e-3, name


def test_a_table_asked_for_in_columns_is_cut_over_the_workers(
    outcomes: dict[int, dict[str, Outcome]],
) -> None:
    shards = outcomes[2]["column-wise"]["plan"]["items_table"]
    assert [shard["sizes"][1] for shard in shards] == [4] * 4
    assert {shard["rank"] for shard in shards} == {0, 1}


def test_the_products_of_the_tables_count(outcomes: dict[int, dict[str, Outcome]]) -> None:
    everything, bottom = (outcomes[2][scope]["coefficients"][0] for scope in ("sgd", "bottom"))
    assert (everything - bottom).abs().max() > 1e-3


def test_what_is_held_or_of_the_representation_is_compared_with_the_tasks(
    outcomes: dict[int, dict[str, Outcome]],
) -> None:
    def measured(variant: str) -> list[int]:
        opposed = outcomes[2][variant]["opposed"]
        return [step for step, against in enumerate(opposed) if against is not None]

    assert measured("sgd") == measured("uniform, clipped") == []
    assert measured("refreshed") == [4, 8, 12, 16]
    assert measured("representation") == [0, 5, 10, 15]


def test_between_refreshes_the_coefficients_stay(outcomes: dict[int, dict[str, Outcome]]) -> None:
    coefficients = outcomes[2]["refreshed"]["coefficients"]
    for first in range(0, STEPS, 4):
        assert (coefficients[first : first + 4] == coefficients[first]).all()
    assert not torch.equal(coefficients[0], coefficients[4])


def test_the_triton_kernels_train_what_torch_trains(run_yaml: Path) -> None:
    dense = "optimizer.dense={kind: adamw, learning_rate: 0.01, weight_decay: 5.0}"
    adam = [dense, "training.gradient_clip_norm=0.05"]
    variants = {b: [*adam, f"gradients.backend={b}"] for b in ("torch", "triton")}
    out = run_yaml.with_name("interpreted.pt")
    arguments = (run_yaml, 2, 3, out, json.dumps(variants))
    command = [sys.executable, "-m", "tests.distributed.train_steps", *map(str, arguments)]
    # Triton reads the variable when it is imported: only a new process will do.
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run(command, check=True, timeout=400, env=environment)
    found = torch.load(out)
    for name in ("losses", "weights", "coefficients", "parameters"):
        ours, theirs = found["triton"][name], found["torch"][name]
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("lower_precision", "exactly"),
    [
        ("bfloat16", "sgd"),
        ("mmoe, bfloat16", "mmoe, clipped"),
        ("own layer, bfloat16", "own layer, clipped"),
    ],
)
def test_bfloat16_products_train_nearly_what_float32_trains(
    outcomes: dict[int, dict[str, Outcome]], lower_precision: str, exactly: str
) -> None:
    exact = outcomes[2][exactly]
    for world_size in (1, 2):  # workers round apart: each is near the exact run
        lower = outcomes[world_size][lower_precision]
        assert {p.dtype for p in lower["parameters"].values()} == {torch.float32}
        assert not torch.equal(lower["losses"], exact["losses"])
        torch.testing.assert_close(lower["losses"], exact["losses"], rtol=0.05, atol=0.02)
