"""recon.png has a bar per layer and per table, in the order that it is given."""

import io
import struct
from dataclasses import dataclass
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from recsys_mtl.metrics.recon_figure import draw_ranking


@dataclass(frozen=True)
class Pairs:
    """A layer's count."""

    conflicting_pairs: int
    share: float


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


def names_of(axes: Axes) -> list[str]:
    return [tick.get_text() for tick in axes.get_yticklabels()]


def test_each_layer_and_table_has_a_bar_of_its_share_with_its_pairs_beside(
    panels: list[Axes],
) -> None:
    layers = {"bottom.layers.1": Pairs(3000, 0.3), "bottom.layers.0": Pairs(0, float("nan"))}
    file = io.BytesIO()
    draw_ranking(layers, {"item": Pairs(7, 0.7)}, -0.02, file)
    of_layers, of_tables = panels
    assert names_of(of_layers) == ["bottom.layers.1", "bottom.layers.0"]
    assert [bar.get_width() for bar in of_layers.patches] == [0.3, 0.0]
    assert [text.get_text() for text in of_layers.texts] == ["3,000", "0"]
    assert names_of(of_tables) == ["item"]
    assert of_layers.get_xlabel() == "pairs of tasks with a cosine below -0.02"
    low, high = of_layers.get_ylim()
    assert low > high, "the first bar is on top"
    assert struct.unpack(">II", file.getvalue()[16:24]) == (1600, 260)


def test_a_model_without_tables_has_one_panel_and_many_tables_are_cut_short(
    panels: list[Axes],
) -> None:
    draw_ranking({"a": Pairs(0, 0.0)}, {}, 0.0, io.BytesIO())
    draw_ranking({}, {f"table_{i}": Pairs(40 - i, 0.5) for i in range(40)}, 0.0, io.BytesIO())
    alone, tables = panels
    assert alone.get_xlim() == (0.0, 1.0)
    assert names_of(tables) == [f"table_{i}" for i in range(30)]
    assert tables.get_title(loc="left") == "Conflicts per table (the first 30 of 40)"
