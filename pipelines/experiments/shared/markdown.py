"""Tables of experiments in Markdown, the papers' figures beside what was measured here."""

import math
from collections.abc import Iterable, Mapping, Sequence

from pipelines.experiments.shared.paper import Published
from pipelines.experiments.shared.scores import AVERAGE, Contrast, Line
from recsys_mtl.metrics.comparison import PairedDifference


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table: the first column is text, the others are numbers."""
    aligned = ["---", *("---:" for _ in columns[1:])]
    lines = (f"| {' | '.join(cells)} |" for cells in (columns, aligned, *rows))
    return "\n".join(lines) + "\n"


def score_table(
    lines: Sequence[Line],
    tasks: Sequence[str],
    *,
    reference: str,
    published: Mapping[str, Published] | None = None,
) -> str:
    """The scores of all arms; below each figure of ours stands the paper's, in italics.

    Args:
        lines: one per arm.
        tasks: names, in the order of the published scores.
        reference: the arm from which the average's difference is taken.
        published: the paper's lines by arm; None where it has no such table.
    """
    columns = ["method", *tasks, AVERAGE, "delta-m %", "MR", f"average - {reference} (95 %)"]
    rows = []
    for line in lines:
        scores = (_mean_and_std(line.means[t], line.stds[t]) for t in (*tasks, AVERAGE))
        versus = interval(line.differences[AVERAGE]) if line.differences else "-"
        ranked = (number(line.delta_m, 2), number(line.mean_rank, 2))
        rows.append([f"{line.arm} ({_runs(line.seeds)})", *scores, *ranked, versus])
        if published and line.arm in published:
            rows.append(_published_row(published[line.arm], published.get(reference)))
    return table(columns, rows)


def _published_row(row: Published, reference: Published | None) -> list[str]:
    scores = (f"*{auc(value)}*" for value in (*row.scores, row.average))
    ranked = ("" if v is None else f"*{v:.2f}*" for v in (row.delta_m, row.mean_rank))
    versus = "" if reference in (None, row) else f"*{row.average - reference.average:+.4f}*"
    return ["*paper*", *scores, *ranked, versus]


def contrast_table(contrasts: Sequence[Contrast], tasks: Sequence[str]) -> str:
    """The contrasts that were decided on, and what each did to every task."""
    columns = ["contrast", "average (95 %)", "p", "p, Holm", "pairs", *tasks]
    return table(
        columns,
        (
            [
                f"{contrast.arm} minus {contrast.other}",
                interval(contrast.difference),
                p_value(contrast.difference.p_value),
                p_value(contrast.adjusted_p_value),
                str(contrast.difference.pairs),
                *(interval(contrast.by_task[task]) for task in tasks),
            ]
            for contrast in contrasts
        ),
    )


def interval(found: PairedDifference) -> str:
    """A difference with the ends of its interval, where it has one."""
    if math.isnan(found.mean):
        return "-"
    if math.isnan(found.lower):
        return f"{found.mean:+.4f}"
    return f"{found.mean:+.4f} ({found.lower:+.4f} to {found.upper:+.4f})"


def p_value(value: float) -> str:
    """A p-value: three digits after the point, or that it is smaller."""
    return "-" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def auc(value: float) -> str:
    """Four digits after the point, as the papers write them: .9454."""
    return "-" if math.isnan(value) else f"{value:.4f}".removeprefix("0")


def number(value: float, digits: int) -> str:
    """A number, or a dash where it is not known; without the sign of a zero."""
    return "-" if math.isnan(value) else f"{round(value, digits) + 0.0:.{digits}f}"


def _mean_and_std(mean: float, std: float) -> str:
    return auc(mean) if math.isnan(std) else f"{auc(mean)} ± {auc(std)}"


def _runs(seeds: int) -> str:
    return "1 seed" if seeds == 1 else f"{seeds} seeds"
