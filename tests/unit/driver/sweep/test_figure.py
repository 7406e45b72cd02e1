"""sweep.png: over what AUC is drawn, and that each kind of sweep is drawn."""

import io
from pathlib import Path
from typing import Any

import matplotlib.image
import pyarrow as pa
import pytest

from recsys_mtl.driver.sweep.arms import Arm
from recsys_mtl.driver.sweep.figure import Axis, draw_sweep, varying_number
from recsys_mtl.driver.sweep.traces import settings_by_arm
from tests.unit.driver.sweep.sweeps import (
    ALONE,
    UNIFORM,
    cells_of,
    outcomes_of,
    record_of,
    request,
)

ALPHAS = [Arm(f"alpha={a}", (f"method.alpha={a}",)) for a in (0, -2, 1)]


def axis_of(folder: Path, arms: list[Arm]) -> Axis | None:
    return varying_number(settings_by_arm(cells_of(folder, arms, (1, 2))))


def test_the_number_in_which_most_arms_differ_alone_is_the_axis(tmp_path: Path) -> None:
    wide = Arm("wide", ("method.alpha=5", "model.bottom_hidden_sizes=[9]"))
    lanes = Arm("lanes", ("data.lanes=4", "method.alpha=0"))
    found = axis_of(tmp_path, [UNIFORM, ALONE, *ALPHAS, wide, lanes])
    assert found == Axis("method.alpha", {"alpha=-2": -2.0, "alpha=0": 0.0, "alpha=1": 1.0})
    assert list(found.values) == ["alpha=-2", "alpha=0", "alpha=1"], "ascending"


@pytest.mark.parametrize("arms", [[UNIFORM], [UNIFORM, ALPHAS[0]], [ALONE]])
def test_arms_that_differ_in_more_than_a_number_have_no_axis(
    tmp_path: Path, arms: list[Arm]
) -> None:
    assert axis_of(tmp_path, arms) is None


@pytest.mark.parametrize("arms", [[ALONE, UNIFORM, *ALPHAS], [ALONE, UNIFORM], [ALONE]])
@pytest.mark.parametrize("seeds", [(1, 2), (1,)])
def test_every_kind_of_sweep_is_drawn(
    tmp_path: Path, arms: list[Arm], seeds: tuple[int, ...]
) -> None:
    aucs = {(arm.name, s): (0.8 + s / 100, 0.7) for arm in arms for s in seeds}
    if len(arms) > 1 and len(seeds) > 1:
        del aucs[arms[-1].name, seeds[-1]]  # a cell that failed
    outcomes = outcomes_of(cells_of(tmp_path, arms, seeds), aucs, aucs)
    record: dict[str, Any] = record_of(request(arms, seeds), outcomes)
    trace = {"step": [1, 2, 3], "weight_purchase": [1.0, 0.9, None], "weight_cart": [1.0, 1.1, 1.2]}
    weighed = [arm.name for arm in arms if not arm.single_task]
    traces = {name: [pa.table(trace)] * len(seeds) for name in weighed}
    picture = draw_sweep(record, axis_of(tmp_path, arms), traces)
    height, width, _ = matplotlib.image.imread(io.BytesIO(picture)).shape
    assert width == 3 * 440, "one panel for each of two tasks, and one for their average"
    assert height >= 300
