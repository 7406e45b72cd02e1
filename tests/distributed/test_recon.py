"""What a search counts is a recount from whole gradients, whatever the method and the sharding."""

import itertools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recsys_mtl.config.file import load_config
from recsys_mtl.worker.counted_layers import counted_layers_of_run
from tests.distributed.plain_torch import train_plainly
from tests.distributed.test_worker_equivalence import run_yaml, train

__all__ = ["run_yaml"]

STEPS, SEARCH_STEPS, THRESHOLD = 8, 6, -0.05
ALWAYS = [
    f"recon={{threshold: {THRESHOLD}, search_share: {SEARCH_STEPS / 20}}}",
    "model.bottom_hidden_sizes=[24, 16, 8]",
    "optimizer.dense.learning_rate=0.05",
    "optimizer.tables.learning_rate=0.05",
]
VARIANTS = {
    "gradops": [],
    "column-wise": ["sharding.items={kind: column_wise, columns_per_shard: 4}"],
    "scope bottom": ["gradients.scope=bottom"],
    "uniform, mmoe": [
        "method={kind: uniform}",
        "model.body={kind: mmoe, experts: 3, expert_hidden_sizes: [12, 8]}",
    ],
    "ple": ["model.body={kind: ple, task_experts: 2, expert_hidden_sizes: [12, 8]}"],
    "refreshed": ["gradients.refresh_interval_steps=4"],
    "representation": ["gradients={space: representation, audit_interval_steps: 3}"],
    "gradnorm, a layer of their own": [
        "method={kind: gradnorm}",
        "model.task_specific_layers=[bottom.layers.1]",
    ],
    "a task without labels": ["data.labels={purchase: purchase, never: never, wish: wish}"],
    "every layer of their own": [
        "model.task_specific_layers=[bottom.layers.0, bottom.layers.1, bottom.layers.2]"
    ],
}
TABLES = ("tables.user", "tables.items", "tables.shop")
NAMES = {
    "gradops": ("bottom.layers.0", "bottom.layers.1", "bottom.layers.2", *TABLES),
    "gradnorm, a layer of their own": ("bottom.layers.0", "bottom.layers.2", *TABLES),
    "every layer of their own": TABLES,
}
"""In which order a variant's pairs are counted."""
NEAR = 1e-4
"""Within float32's rounding of the threshold a pair may be counted or not."""
Outcome = dict[str, Any]


def test_pairs_of_every_layer_and_table_are_a_recount_and_nothing_else_changes(
    run_yaml: Path,
) -> None:
    # One test: a process of pytest-xdist that had a part of it would train all again.
    variants = {name: [*ALWAYS, *changed] for name, changed in VARIANTS.items()}
    plain = {
        name: train_plainly(str(run_yaml), STEPS, tuple(changed))
        for name, changed in variants.items()
    }
    of_layers = cosines(plain["a task without labels"]["grams"])
    assert of_layers.isfinite().sum(dim=-1).eq(1).all(), "of three pairs one"
    one, two = (train(run_yaml, workers, STEPS, variants) for workers in (1, 2))
    for name in VARIANTS:
        for found in (one[name], two[name]):
            counted = [pairs is not None for pairs in found["pairs"]]
            assert counted == [True] * SEARCH_STEPS + [False] * (STEPS - SEARCH_STEPS), name
            assert_a_recount(found, plain[name], name)
            assert_trained_alike(found, plain[name], name)
        for ours, theirs in zip(one[name]["pairs"], two[name]["pairs"], strict=True):
            assert ours is theirs is None or all(map(torch.equal, ours, theirs)), name
    for name, names in NAMES.items():
        assert counted_layers_of_run(load_config(run_yaml, tuple(variants[name])), None) == names
        assert len(one[name]["pairs"][0][0]) == len(names)


def cosines(grams: Tensor) -> Tensor:
    """[..., L, pairs] of each pair of tasks; NaN where one of the two has no gradient."""
    pairs = itertools.combinations(range(grams.shape[-1]), 2)
    return torch.stack(
        [grams[..., i, j] / (grams[..., i, i] * grams[..., j, j]).sqrt() for i, j in pairs], dim=-1
    )


def assert_a_recount(found: Outcome, plain: Outcome, name: str) -> None:
    """The counts of each step, layer and table are those of the plain run's gradients."""
    steps = found["pairs"][:SEARCH_STEPS]
    conflicting, compared = (torch.stack(counts) for counts in zip(*steps, strict=True))
    assert (conflicting.dtype, compared.dtype) == (torch.int64, torch.int64)
    expected = cosines(plain["grams"][:SEARCH_STEPS])  # [steps, L, pairs]
    assert torch.equal(compared, expected.isfinite().sum(dim=-1)), name
    surely, perhaps = ((expected < THRESHOLD + near).sum(dim=-1) for near in (-NEAR, NEAR))
    assert (surely == perhaps).double().mean() > 0.9, name
    assert (surely <= conflicting).all(), name
    assert (conflicting <= perhaps).all(), name
    # Were all pairs alike, a count in the wrong place would not be seen.
    assert conflicting.sum(dim=0).unique().numel() > 1, name


def assert_trained_alike(found: Outcome, plain: Outcome, name: str) -> None:
    """Weights, parameters and tables are those of a run that searches nothing."""
    torch.testing.assert_close(found["weights"], plain["weights"], rtol=1e-4, atol=1e-5, msg=name)
    for group in ("parameters", "tables"):
        wide = {key: tensor.double() for key, tensor in found[group].items()}
        torch.testing.assert_close(wide, plain[group], rtol=1e-4, atol=1e-5)
