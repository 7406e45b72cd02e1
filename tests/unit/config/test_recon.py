"""What a search may be asked for, and how many steps it takes."""

import re
from pathlib import Path

import pytest

from recsys_mtl.config import Recon
from recsys_mtl.config.file import load_config
from tests.unit.run_files import refusal, write_run


@pytest.mark.parametrize(
    ("share", "last_step", "steps"),
    [(0.25, 1000, 250), (0.1, 30, 3), (1.0, 17, 17), (0.25, 1, 1), (0.001, 100, 1)],
)
def test_a_search_takes_its_share_of_the_run_s_steps_and_at_least_one(
    share: float, last_step: int, steps: int
) -> None:
    assert Recon(threshold=0.0, search_share=share).search_steps(last_step) == steps


def test_a_run_without_the_section_counts_nothing(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    assert load_config(path).recon is None
    assert load_config(path, ("recon.threshold=-0.02",)).recon == Recon(threshold=-0.02)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["recon={}"], "recon.threshold: is missing"),
        (["recon.threshold=0.1"], r"recon.threshold: .*less than or equal to 0 \(found 0.1\)"),
        (["recon.threshold=-1"], r"recon.threshold: .*greater than -1 \(found -1"),
        (["recon.threshold=.nan"], r"recon.threshold: .*\(found nan\)"),
        (["recon={threshold: 0, search_share: 0}"], "recon.search_share: .*greater than 0"),
        (["recon={threshold: 0, search_share: 1.5}"], "recon.search_share: .*equal to 1"),
        (["recon.threshold=0", "data.labels={cart: cart}"], "data.labels has one task; name an"),
        (
            [
                "recon.threshold=0",
                "method={kind: uniform}",
                "model={bottom_hidden_sizes: [8], task_specific_layers: [bottom.layers.0]}",
                "data.features={price: {kind: dense}}",
            ],
            "every layer of a model without embedding tables; leave a layer shared",
        ),
    ],
)
def test_what_cannot_be_counted_is_refused_in_a_sentence(
    tmp_path: Path, overrides: list[str], told: str
) -> None:
    (line,) = refusal(write_run(tmp_path), *overrides)
    assert re.search(told, line), line
