"""What a search counts is a recount from whole gradients, whatever the method and the sharding."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from recsys_mtl.config.file import load_config
from recsys_mtl.worker.counted_layers import counted_layers_of_run
from tests.distributed.plain_torch import train_plainly
from tests.distributed.test_worker_equivalence import run_yaml, train

__all__ = ["run_yaml"]

STEPS, SEARCH_STEPS, THRESHOLD = 12, 10, -0.05
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
    "uniform": ["method={kind: uniform}"],
    "uniform, mmoe": [
        "method={kind: uniform}",
        "model.body={kind: mmoe, experts: 3, expert_hidden_sizes: [12, 8]}",
    ],
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
NEAR = 1e-4
"""Within float32's rounding of the threshold a pair may be counted or not."""
Outcome = dict[str, Any]


@pytest.fixture(scope="module")
def searched(run_yaml: Path) -> dict[int, dict[str, Outcome]]:
    """World size to variant to what came of it."""
    variants = {name: [*ALWAYS, *changed] for name, changed in VARIANTS.items()}
    return {world_size: train(run_yaml, world_size, STEPS, variants) for world_size in (1, 2)}


@pytest.fixture(scope="module")
def plain(run_yaml: Path) -> dict[str, Outcome]:
    return {
        name: train_plainly(str(run_yaml), STEPS, (*ALWAYS, *changed))
        for name, changed in VARIANTS.items()
    }


def cosines(grams: Tensor) -> Tensor:
    """[..., L, pairs] of each pair of tasks; NaN where one of the two has no gradient."""
    pairs = itertools.combinations(range(grams.shape[-1]), 2)
    return torch.stack(
        [grams[..., i, j] / (grams[..., i, i] * grams[..., j, j]).sqrt() for i, j in pairs], dim=-1
    )


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_pairs_of_every_layer_and_table_are_those_of_whole_gradients(
    searched: dict[int, dict[str, Outcome]],
    plain: dict[str, Outcome],
    variant: str,
    world_size: int,
) -> None:
    steps = searched[world_size][variant]["pairs"][:SEARCH_STEPS]
    conflicting, compared = (torch.stack(counts) for counts in zip(*steps, strict=True))
    assert (conflicting.dtype, compared.dtype) == (torch.int64, torch.int64)
    expected = cosines(plain[variant]["grams"][:SEARCH_STEPS])  # [steps, L, pairs]
    assert torch.equal(compared, expected.isfinite().sum(dim=-1))
    surely, perhaps = ((expected < THRESHOLD + near).sum(dim=-1) for near in (-NEAR, NEAR))
    assert (surely == perhaps).double().mean() > 0.95
    assert (surely <= conflicting).all()
    assert (conflicting <= perhaps).all()
    # So that the test could fail: layers differ, and so do tables.
    assert 0 < conflicting.sum() < compared.sum()


def test_workers_count_what_one_counts(searched: dict[int, dict[str, Outcome]]) -> None:
    for variant in VARIANTS:
        one, two = (searched[n][variant]["pairs"][:SEARCH_STEPS] for n in (1, 2))
        for (conflicting, compared), (others, others_compared) in zip(one, two, strict=True):
            assert torch.equal(conflicting, others), variant
            assert torch.equal(compared, others_compared), variant


def test_a_task_without_labels_conflicts_with_nobody(plain: dict[str, Outcome]) -> None:
    grams = plain["a task without labels"]["grams"]
    assert cosines(grams).isfinite().sum(dim=-1).eq(1).all(), "of three pairs one"


def test_after_the_search_nothing_is_counted(searched: dict[int, dict[str, Outcome]]) -> None:
    for found in searched[2].values():
        counted = [pairs is not None for pairs in found["pairs"]]
        assert counted == [True] * SEARCH_STEPS + [False] * (STEPS - SEARCH_STEPS)


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_search_changes_nothing_that_is_trained(
    searched: dict[int, dict[str, Outcome]],
    plain: dict[str, Outcome],
    variant: str,
    world_size: int,
) -> None:
    found, expected = searched[world_size][variant], plain[variant]
    if variant != "a task without labels":  # whose weight no method of the plain run says
        torch.testing.assert_close(found["weights"], expected["weights"], rtol=1e-4, atol=1e-5)
    for group in ("parameters", "tables"):
        wide = {name: tensor.double() for name, tensor in found[group].items()}
        torch.testing.assert_close(wide, expected[group], rtol=1e-4, atol=1e-5)


def test_each_count_has_the_name_of_its_layer_or_table(
    run_yaml: Path, searched: dict[int, dict[str, Outcome]]
) -> None:
    tables = ("tables.user", "tables.items", "tables.shop")
    expected = {
        "gradops": ("bottom.layers.0", "bottom.layers.1", "bottom.layers.2", *tables),
        "gradnorm, a layer of their own": ("bottom.layers.0", "bottom.layers.2", *tables),
        "every layer of their own": tables,
    }
    for variant, names in expected.items():
        config = load_config(run_yaml, (*ALWAYS, *VARIANTS[variant]))
        assert counted_layers_of_run(config, None) == names
        conflicting, _ = searched[1][variant]["pairs"][0]
        assert len(conflicting) == len(names)
