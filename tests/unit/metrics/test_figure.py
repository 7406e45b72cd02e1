"""traces.png is drawn for any number of tasks and steps, also where little was measured."""

import importlib
import io
import secrets
import struct
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recsys_mtl.metrics.figure import draw_traces, running_mean

TASKS = ["purchase", "cart", "wish"]


def fresh_generator() -> np.random.Generator:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return np.random.default_rng(seed)


def make_trace(tasks: list[str], steps: int) -> pa.Table:
    """A trace that restarted halfway and measured AUC at every fifth step."""
    rng = fresh_generator()
    step = np.arange(steps)
    columns = {"step": step, "attempt": np.where(step < steps / 2, 1, 2)}
    for task in tasks:
        columns[f"weight_{task}"] = rng.uniform(0.5, 1.5, steps)
        columns[f"loss_{task}"] = rng.uniform(0.01, 0.7, steps)
        columns[f"auc_window_{task}"] = np.where(step % 5 == 0, rng.uniform(0.5, 1, steps), np.nan)
    for a, b in combinations(tasks, 2):
        columns[f"cosine_{a}_{b}"] = rng.uniform(-1, 1, steps)
    return pa.table(columns)


def not_measured(trace: pa.Table, column_start: str) -> pa.Table:
    for i, name in enumerate(trace.column_names):
        if name.startswith(column_start):
            trace = trace.set_column(i, name, pa.array(np.full(trace.num_rows, np.nan)))
    return trace


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch) -> list[Axes]:
    """The panels of the figures saved in the test."""
    saved: list[Axes] = []
    save = Figure.savefig

    def remember(self: Figure, *args: Any, **options: Any) -> None:
        saved.extend(self.axes)
        save(self, *args, **options)

    monkeypatch.setattr(Figure, "savefig", remember)
    return saved


@pytest.mark.parametrize(
    ("tasks", "steps"),
    [(TASKS[:1], 1), (TASKS, 1), (TASKS, 2), (TASKS, 400), ([f"task_{i}" for i in range(8)], 400)],
)
def test_the_picture_is_a_png_of_1600_by_1000_pixels(
    tmp_path: Path, tasks: list[str], steps: int
) -> None:
    path = tmp_path / "traces.png"
    draw_traces(make_trace(tasks, steps), tasks, path)
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (1600, 1000)
    assert content[-8:-4] == b"IEND"


def test_a_file_object_gets_the_same_picture_as_a_path(tmp_path: Path) -> None:
    trace, file = make_trace(TASKS, 20), io.BytesIO()
    draw_traces(trace, TASKS, file)
    draw_traces(trace, TASKS, str(tmp_path / "traces.png"))
    assert file.getvalue() == (tmp_path / "traces.png").read_bytes()


def test_each_task_keeps_its_colour_and_each_pair_has_its_line(panels: list[Axes]) -> None:
    draw_traces(make_trace(TASKS, 400), TASKS, io.BytesIO())
    weights, losses, cosines, aucs = (
        {line.get_label(): line.get_color() for line in axes.get_lines()} for axes in panels
    )
    for task in TASKS:
        assert weights[task] == losses[task] == aucs[task]
    assert len({weights[task] for task in TASKS}) == 3
    assert {"purchase · cart", "purchase · wish", "cart · wish"} <= cosines.keys()


def test_every_panel_has_a_title_and_named_axes_and_a_mark_where_training_restarted(
    panels: list[Axes],
) -> None:
    draw_traces(make_trace(TASKS, 400), TASKS, io.BytesIO())
    for axes in panels:
        assert axes.get_title(loc="left")
        assert axes.get_xlabel() == "training step"
        assert axes.get_ylabel()
        marks = [line for line in axes.get_lines() if line.get_label() == "restart"]
        assert [list(np.asarray(line.get_xdata())) for line in marks] == [[200, 200]]


def test_auc_points_are_only_the_steps_at_which_it_was_measured(panels: list[Axes]) -> None:
    draw_traces(make_trace(TASKS, 50), TASKS, io.BytesIO())
    points = next(line for line in panels[3].get_lines() if line.get_label() == "wish")
    assert list(np.asarray(points.get_xdata())) == list(range(0, 50, 5))


@pytest.mark.parametrize(
    ("column_start", "panel"), [("weight_", 0), ("loss_", 1), ("cosine_", 2), ("auc_", 3)]
)
def test_a_panel_without_a_number_says_so_and_the_others_do_not(
    panels: list[Axes], column_start: str, panel: int
) -> None:
    draw_traces(not_measured(make_trace(TASKS, 400), column_start), TASKS, io.BytesIO())
    said = ["not measured" in [text.get_text() for text in axes.texts] for axes in panels]
    assert said == [i == panel for i in range(4)]


def test_a_missing_column_and_an_empty_trace_are_refused_by_name() -> None:
    trace = make_trace(TASKS, 3)
    with pytest.raises(ValueError, match="no column 'loss_cart'"):
        draw_traces(trace.drop_columns("loss_cart"), TASKS, io.BytesIO())
    with pytest.raises(ValueError, match="no rows"):
        draw_traces(trace.slice(0, 0), TASKS, io.BytesIO())


def test_running_mean_is_the_mean_of_the_known_neighbours() -> None:
    rng = fresh_generator()
    values = np.where(rng.random(60) < 0.2, np.nan, rng.normal(size=60))
    width = int(rng.integers(1, 12))
    expected = np.full(60, np.nan)
    for i in np.flatnonzero(~np.isnan(values)):
        neighbours = [j for j in range(i - width // 2, i - width // 2 + width) if 0 <= j < 60]
        expected[i] = np.nanmean(values[neighbours])
    assert np.allclose(running_mean(values, width), expected, atol=1e-12, equal_nan=True)


def test_drawing_does_without_pyplot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it now fails
    monkeypatch.delitem(sys.modules, "recsys_mtl.metrics.figure")
    fresh = importlib.import_module("recsys_mtl.metrics.figure")
    fresh.draw_traces(make_trace(TASKS, 5), TASKS, io.BytesIO())
