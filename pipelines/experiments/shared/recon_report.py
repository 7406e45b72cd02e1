"""What the experiment on Recon reports: scores, and whether each claim holds, as it was fixed."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from pipelines.experiments.shared.conflict_counts import Counts, same_choice
from pipelines.experiments.shared.figures import draw_interval, name_rows, panels, save
from pipelines.experiments.shared.markdown import auc, interval, number, table
from pipelines.experiments.shared.method_arms import UNIFORM
from pipelines.experiments.shared.scores import AVERAGE, Scores, difference, score
from pipelines.experiments.shared.setting import Setting
from recsys_mtl.metrics.comparison import PairedDifference, paired_difference
from recsys_mtl.metrics.figure import STEP_COLOUR

HARDLY_LESS = 0.9
"""Surgery leaves conflicts where it leaves so much of the plain sum's share."""
WITH_RECON = "_recon"


@dataclass(frozen=True)
class Found:
    """Everything that the report is made of."""

    methods: list[str]
    """The arms that were trained without Recon and, as `<method>_recon`, with it."""
    chosen: list[str]
    """The layers that became task-specific."""
    scores: Scores
    """Of all arms, the controls' as `<method>_<control>`."""
    counts: dict[str, dict[int, Counts]]
    """Arm to seed."""
    other_log: dict[int, Counts] | None
    """Of a search on another log, by seed; None where there is none."""
    controls: dict[str, str]
    """What each control is, in words."""

    @property
    def layers(self) -> list[str]:
        """The layers of the bottom, from the inputs up."""
        counted = next(c for method in self.methods for c in self.counts[method].values())
        return list(counted.scores)

    @property
    def remaining(self) -> list[str]:
        """The layers that all tasks share with Recon, too."""
        return [layer for layer in self.layers if layer not in self.chosen]


def report(found: Found, setting: Setting, seeds: Sequence[int]) -> str:
    """All tables and findings in Markdown."""
    parts = (
        setting.in_words(seeds),
        f"Task-specific: {', '.join(found.chosen)}; shared with and without Recon: "
        f"{', '.join(found.remaining)}. Controls: "
        + "; ".join(f"{name}: {words}" for name, words in found.controls.items())
        + ".\n",
        _score_table(found, setting.tasks),
        _conflict_table(found),
        _ranking_table(found),
        "".join(f"- {sentence}\n" for sentence in claims(found)),
    )
    return "\n".join(parts)


def claims(found: Found) -> list[str]:
    """One sentence per claim and whether it is confirmed."""
    plain = _mean(shares(found, UNIFORM.name, None))
    surgery = [m for m in found.methods if m != UNIFORM.name and found.counts[m]]
    # Where the plain sum never conflicts, or was not trained, nothing can be said of the others.
    left = {m: _mean(shares(found, m, None)) / plain for m in surgery if plain > 0}
    fewer = {m: share_difference(found, m + WITH_RECON, m, found.remaining) for m in found.methods}
    chose = _same_choices(found)
    return [
        "1. Surgery does not reduce conflicts: "
        + _verdicts({m: ratio >= HARDLY_LESS for m, ratio in left.items()}),
        "2. Recon does, in the layers that stay shared: "
        + _verdicts({m: d.upper < 0 for m, d in fewer.items() if not math.isnan(d.upper)}),
        "3. One search serves all: " + _verdicts(chose),
    ]


def _verdicts(holds: Mapping[str, bool]) -> str:
    """`confirmed for a, b; not for c`."""
    yes = [name for name, value in holds.items() if value]
    no = [name for name, value in holds.items() if not value]
    parts = [f"confirmed for {', '.join(yes)}"] if yes else []
    parts += [f"not for {', '.join(no)}"] if no else []
    return ("; ".join(parts) or "not to be told from these runs") + "."


def _same_choices(found: Found) -> dict[str, bool]:
    """Whether the searches of every other method, and on the other log, choose the layers that the
    plain sum's chose, in most of their seeds."""
    searches = {m: found.counts[m] for m in found.methods if m != UNIFORM.name}
    if found.other_log is not None:
        searches["the other log"] = found.other_log
    return {
        name: mean(same_choice(c.ranking(), found.chosen) for c in by_seed.values()) > 0.5
        for name, by_seed in searches.items()
        if by_seed
    }


def shares(found: Found, arm: str, layers: Iterable[str] | None) -> dict[int, float]:
    """Seed to the share of pairs that conflicted in these layers; None: in all that are shared."""
    return {
        seed: counts.share(counts.scores if layers is None else layers)
        for seed, counts in found.counts.get(arm, {}).items()
    }


def share_difference(
    found: Found, arm: str, other: str, layers: Iterable[str] | None
) -> PairedDifference:
    """By how much the share of pairs that conflict is larger than another arm's, by seed."""
    ours, theirs = shares(found, arm, layers), shares(found, other, layers)
    seeds = [seed for seed in ours if seed in theirs]
    return paired_difference([ours[s] for s in seeds], [theirs[s] for s in seeds])


def _score_table(found: Found, tasks: Sequence[str]) -> str:
    rows = []
    for arm, by_seed in found.scores.items():
        base = _base(found, arm)
        columns = [
            auc(mean(score(s, task) for s in by_seed.values())) if by_seed else "-"
            for task in (*tasks, AVERAGE)
        ]
        versus = "-" if base == arm else interval(difference(found.scores, arm, base, AVERAGE))
        rows.append([arm, *columns, versus])
    return table(["method", *tasks, AVERAGE, "average - without (95 %)"], rows)


def _base(found: Found, arm: str) -> str:
    """The method of an arm, without Recon or a control."""
    return max((m for m in found.methods if arm.startswith(m)), key=len)


def _conflict_table(found: Found) -> str:
    rows = []
    for arm in found.counts:
        base = _base(found, arm)
        against = [
            _in_percent(share_difference(found, arm, other, layers)) if other != arm else "-"
            for other, layers in ((UNIFORM.name, None), (base, found.remaining))
        ]
        of_all, of_remaining = (
            _percent(_mean(shares(found, arm, layers))) for layers in (None, found.remaining)
        )
        rows.append([arm, of_all, against[0], of_remaining, against[1]])
    columns = (
        *("pairs in conflict: shared layers", f"- {UNIFORM.name} (95 %)"),
        *("layers that stay shared", "- without (95 %)"),
    )
    return table(["method", *columns], rows)


def _ranking_table(found: Found) -> str:
    rows = [
        [name, f"{seed}", *(f"{counts.scores[layer]:,}" for layer in found.layers)]
        for name, by_seed in (
            *((method, found.counts[method]) for method in found.methods),
            *([("the other log", found.other_log)] if found.other_log else []),
        )
        for seed, counts in by_seed.items()
    ]
    return table(["search under", "seed", *found.layers], rows)


def draw(found: Found, path: Path) -> None:
    """Per arm with Recon or a control: what it does to AUC and to conflicts."""
    arms = [arm for arm in found.scores if _base(found, arm) != arm][::-1]
    figure, axes = panels(2, width=6, height=1.6 + 0.36 * len(arms), share_y=True)
    drawn: tuple[tuple[str, Callable[[str], PairedDifference]], ...] = (
        (
            "1000 × (average AUC - without)",
            lambda arm: difference(found.scores, arm, _base(found, arm), AVERAGE),
        ),
        (
            "1000 × (share of pairs in conflict - without), remaining layers",
            lambda arm: share_difference(found, arm, _base(found, arm), found.remaining),
        ),
    )
    for panel, (label, difference_of) in zip(axes, drawn, strict=True):
        panel.axvline(0.0, color="black", linewidth=1)
        for height, arm in enumerate(arms):
            draw_interval(panel, difference_of(arm), height, STEP_COLOUR)
        panel.set_xlabel(label)
    name_rows(axes, arms)
    save(figure, path)


def _in_percent(found: PairedDifference) -> str:
    if math.isnan(found.lower):
        return f"{100 * found.mean:+.1f}" if not math.isnan(found.mean) else "-"
    return f"{100 * found.mean:+.1f} ({100 * found.lower:+.1f} to {100 * found.upper:+.1f})"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{number(100 * share, 1)} %"


def _mean(by_seed: Mapping[int, float]) -> float:
    return mean(by_seed.values()) if by_seed else math.nan
