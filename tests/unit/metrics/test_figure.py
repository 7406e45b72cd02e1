"""traces.png is drawn for any number of tasks and steps, also where little was measured."""

import importlib
import io
import secrets
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recsys_mtl.gradients.methods.contract import Diagnostic
from recsys_mtl.metrics.columns import Column, trace_columns
from recsys_mtl.metrics.figure import draw_traces, running_mean, without_short_gaps
from tests.unit.metrics.records import GRADOPS_COLUMNS, MADE_UP_COLUMNS, TASKS, UNIFORM_COLUMNS

PANELS_OF_EVERY_RUN = [
    "Task weights",
    "Training losses",
    "Cosines between task gradients",
    "Training AUC over a window of steps",
]


def fresh_generator() -> np.random.Generator:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return np.random.default_rng(seed)


def make_trace(columns: Sequence[Column], steps: int) -> pa.Table:
    """A trace that restarted halfway and measured AUC at every fifth step."""
    rng = fresh_generator()
    values: dict[str, Any] = {column.name: rng.uniform(0.01, 1.0, steps) for column in columns}
    step = np.arange(steps)
    values |= {"step": step, "attempt": np.where(step < steps / 2, 1, 2)}
    for column in columns:
        if column.quantity == "auc_window":
            values[column.name] = np.where(step % 5 == 0, values[column.name], np.nan)
    return pa.table(values)


def not_measured(trace: pa.Table, column_start: str) -> pa.Table:
    for i, name in enumerate(trace.column_names):
        if name.startswith(column_start):
            trace = trace.set_column(i, name, pa.array(np.full(trace.num_rows, np.nan)))
    return trace


def draw(columns: Sequence[Column] = GRADOPS_COLUMNS, steps: int = 400) -> None:
    draw_traces(make_trace(columns, steps), columns, io.BytesIO())


def titles(panels: list[Axes]) -> list[str]:
    return [axes.get_title(loc="left") for axes in panels]


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


def test_layers_and_tables_have_a_panel_each_with_those_of_most_conflicts_first(
    panels: list[Axes],
) -> None:
    layers = [*(f"layer_{place}" for place in range(14)), "tables.item"]
    columns = trace_columns(TASKS, (), layers)
    trace = make_trace(columns, 40)
    order = fresh_generator().permutation(14)
    for place, rank in enumerate(order):  # the higher the rank, the fewer pairs
        name = f"conflicting_pairs_layer_{place}"
        pairs = np.where(np.arange(40) < 10, 14.0 - rank, np.nan)
        trace = trace.set_column(trace.column_names.index(name), name, pa.array(pairs))
    draw_traces(trace, columns, io.BytesIO())
    layers_title = "Conflicts per layer: the 12 with the most, of 14"
    assert titles(panels)[4:] == [layers_title, "Conflicts per table"]
    labels = [text.get_text() for text in panels[4].get_legend().get_texts()]
    best = [int(np.flatnonzero(order == rank)[0]) for rank in range(12)]
    expected = [f"layer_{place} ({10 * (14 - rank)})" for rank, place in enumerate(best)]
    assert [label for label in labels if label != "restart"] == expected


@pytest.mark.parametrize(
    ("num_diagnostics", "num_tasks", "steps", "height"),
    [(0, 1, 1, 1000), (1, 3, 1, 1500), (2, 3, 2, 1500), (3, 3, 400, 2000), (4, 8, 400, 2000)],
)
def test_the_picture_is_a_png_that_grows_by_500_pixels_for_two_diagnostics(
    tmp_path: Path, num_diagnostics: int, num_tasks: int, steps: int, height: int
) -> None:
    path = tmp_path / "traces.png"
    diagnostics = [Diagnostic(f"number_{i}", "A number.") for i in range(num_diagnostics)]
    columns = trace_columns([f"task_{i}" for i in range(num_tasks)], diagnostics)
    draw_traces(make_trace(columns, steps), columns, path)
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", content[16:24]) == (1600, height)
    assert content[-8:-4] == b"IEND"


def test_a_file_object_gets_the_same_picture_as_a_path(tmp_path: Path) -> None:
    trace, file = make_trace(UNIFORM_COLUMNS, 20), io.BytesIO()
    draw_traces(trace, UNIFORM_COLUMNS, file)
    draw_traces(trace, UNIFORM_COLUMNS, str(tmp_path / "traces.png"))
    assert file.getvalue() == (tmp_path / "traces.png").read_bytes()


def test_a_method_s_numbers_have_panels_of_their_own_with_its_words(panels: list[Axes]) -> None:
    draw(MADE_UP_COLUMNS)
    assert titles(panels) == [*PANELS_OF_EVERY_RUN, "Pull", "Step radius"]
    pull, radius = panels[4:]
    assert [text.get_text() for text in pull.texts] == ["How hard the task pulls."]
    assert [line.get_label() for line in pull.get_lines() if line.get_linewidth() == 2] == [*TASKS]
    assert [text.get_text() for text in radius.texts] == ["How far the step may go."]
    assert "all tasks" in [line.get_label() for line in radius.get_lines()]


def test_a_method_without_numbers_has_the_panels_of_every_run(panels: list[Axes]) -> None:
    draw(UNIFORM_COLUMNS)
    assert titles(panels) == PANELS_OF_EVERY_RUN


def test_each_task_keeps_its_colour_and_each_pair_has_its_line(panels: list[Axes]) -> None:
    draw()
    lines = [{line.get_label(): line.get_color() for line in axes.get_lines()} for axes in panels]
    weights, cosines = lines[0], lines.pop(2)
    for task in TASKS:
        assert {of_panel[task] for of_panel in lines} == {weights[task]}
    assert len({weights[task] for task in TASKS}) == 3
    assert {"purchase · cart", "purchase · wish", "cart · wish"} <= cosines.keys()
    assert not set(cosines.values()) & {weights[task] for task in TASKS}


def test_every_panel_has_a_title_and_named_axes_and_a_mark_where_training_restarted(
    panels: list[Axes],
) -> None:
    draw()
    assert len(set(titles(panels))) == len(panels) == 6
    for axes in panels:
        assert axes.get_xlabel() == "training step"
        assert axes.get_ylabel()
        marks = [line for line in axes.get_lines() if line.get_label() == "restart"]
        assert [list(np.asarray(line.get_xdata())) for line in marks] == [[200, 200]]


def test_a_strong_line_is_the_mean_of_the_steps_around(panels: list[Axes]) -> None:
    trace = make_trace(UNIFORM_COLUMNS, 400)
    draw_traces(trace, UNIFORM_COLUMNS, io.BytesIO())
    (strong,) = [line for line in panels[0].get_lines() if line.get_label() == "cart"]
    expected = running_mean(trace["weight_cart"].to_numpy(), 400 // 50)
    assert np.array_equal(np.asarray(strong.get_ydata()), expected)


def test_auc_points_are_only_the_steps_at_which_it_was_measured(panels: list[Axes]) -> None:
    draw(steps=50)
    points = next(line for line in panels[3].get_lines() if line.get_label() == "wish")
    assert list(np.asarray(points.get_xdata())) == list(range(0, 50, 5))


def test_what_is_measured_at_some_steps_only_is_one_line_that_can_be_seen(
    panels: list[Axes],
) -> None:
    trace = make_trace(GRADOPS_COLUMNS, 400)
    step = np.arange(400)
    seldom = pa.array(np.where(step % 10 == 0, step / 400, np.nan))
    place = trace.column_names.index("share_kept_cart")
    draw_traces(trace.set_column(place, "share_kept_cart", seldom), GRADOPS_COLUMNS, io.BytesIO())
    shares = panels[titles(panels).index("Share kept")]
    line = next(line for line in shares.get_lines() if line.get_label() == "cart")
    assert list(np.asarray(line.get_xdata())) == list(range(0, 400, 10))
    assert np.isfinite(np.asarray(line.get_ydata(), dtype=float)).all()
    assert line.get_marker() == "o"


@pytest.mark.parametrize(
    ("column_start", "panel"),
    [("weight_", 0), ("loss_", 1), ("cosine_", 2), ("auc_", 3), ("contribution_", 4)],
)
def test_a_panel_without_a_number_says_so_and_the_others_do_not(
    panels: list[Axes], column_start: str, panel: int
) -> None:
    trace = not_measured(make_trace(GRADOPS_COLUMNS, 400), column_start)
    draw_traces(trace, GRADOPS_COLUMNS, io.BytesIO())
    said = ["not measured" in [text.get_text() for text in axes.texts] for axes in panels]
    assert said == [i == panel for i in range(6)]


def test_a_missing_column_and_an_empty_trace_are_refused_by_name() -> None:
    trace = make_trace(UNIFORM_COLUMNS, 3)
    with pytest.raises(ValueError, match="no column 'loss_cart'"):
        draw_traces(trace.drop_columns("loss_cart"), UNIFORM_COLUMNS, io.BytesIO())
    with pytest.raises(ValueError, match="no rows"):
        draw_traces(trace.slice(0, 0), UNIFORM_COLUMNS, io.BytesIO())


def test_a_line_breaks_where_nothing_was_measured_for_long() -> None:
    measured = [0, 10, 20, 60, 70]
    values = np.full(80, np.nan)
    values[measured] = measured
    steps, points = without_short_gaps(np.arange(80.0), values)
    assert steps.tolist() == [0, 10, 20, 60, 60, 70]
    assert np.isnan(points).tolist() == [False, False, False, True, False, False]
    assert points[~np.isnan(points)].tolist() == measured


@pytest.mark.parametrize("measured", [[], [3], [3, 70]])
def test_a_few_measured_points_are_not_torn_apart(measured: list[int]) -> None:
    values = np.full(80, np.nan)
    values[measured] = 1.0
    steps, points = without_short_gaps(np.arange(80.0), values)
    assert steps.tolist() == measured
    assert points.tolist() == [1.0] * len(measured)


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
    fresh.draw_traces(make_trace(UNIFORM_COLUMNS, 5), UNIFORM_COLUMNS, io.BytesIO())
