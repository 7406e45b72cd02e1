"""What a person reads of a sweep: a table on a terminal, and sweep.md."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recsys_mtl.driver.sweep.choice import AVERAGE

Record = Mapping[str, Any]
"""What sweep.json holds, or a part of it; None where a number is not known."""
_NAMED = 3  # cells in a sentence that is of many


def markdown(record: Record) -> str:
    """The whole of sweep.md."""
    return "\n".join(_lines(record)) + "\n"


def _lines(record: Record) -> Iterator[str]:
    yield f"# Sweep of {record['run_yaml']}"
    yield ""
    yield from introduction(record)
    for log in ("eval", "test"):
        if any(arm[log] for arm in record["arms"]):
            yield from ("", f"## On {_log_named(record, log)}", "")
            yield from _grid(*arms_table(record, log))
            yield from (line for note in notes(record, log) for line in ("", note))
            header, rows = differences_table(record, log)
            if rows:
                yield from ("", _differences_are(record), "")
                yield from _grid(header, rows)
    for choice in record["choices"]:
        yield from ("", f"## {choice['rule']}", "")
        yield from (f"- {sentence}" for sentence in choice_sentences(choice))
    failures = list(failure_sentences(record["cells"]))
    if failures:
        yield from ("", "## Failed", "")
        yield from (f"- {sentence}" for sentence in failures)
    yield from ("", "![Scores](sweep.png)")


def introduction(record: Record) -> list[str]:
    """What the tables' numbers are."""
    finished = sum(cell["status"] == "finished" for cell in record["cells"])
    seeds = ", ".join(map(str, record["seeds"]))
    sentences = [
        f"{finished} of {len(record['cells'])} runs are finished, of {len(record['arms'])} arms "
        f"with the seed(s) {seeds}. Settings of all arms: {_settings(record['overrides'])}.",
        "",
        "AUC is the mean over seeds, ± the standard deviation. Δm is by how many percent an arm's "
        f"AUC is behind that of the baseline, {record['baseline']!r}, in the mean over tasks: an "
        "arm below 0 is better. Rank is the place among all arms in the mean over tasks. * marks "
        "the Pareto set: no other arm is at least as good in every task and better in one. Seconds "
        "and rows per core-hour are of training alone, beside whatever ran at the same time.",
    ]
    if len(record["seeds"]) < 2:
        sentences += ["", "With one seed there are no intervals; --seeds 5 or more gives them."]
    return sentences


def notes(record: Record, log: str) -> Iterator[str]:
    """What a reader of the table of this log must know besides."""
    arms = [arm for arm in record["arms"] if arm[log]]
    every = {seed for arm in arms for seed in arm[log]["seeds"]}
    short = [arm["name"] for arm in arms if set(arm[log]["seeds"]) != every]
    if short:
        yield (
            f"{in_short(short)} of these {len(arms)} arms lack(s) seeds that others have, so the "
            "means are not of like seeds, and such an arm has no rank and is not in the Pareto "
            "set; Δm and differences are over the seeds that an arm shares with the baseline."
        )
    digests = {judged["digest"] for judged in record["judged"]}
    if log == "test" and len(arms) > 1 and record["logs"]["test"]["digest"] in digests:
        yield (
            "Every arm is judged here, so the best of them is not confirmed by this log; --choose "
            "with a log of its own does that."
        )


def _settings(overrides: Sequence[str]) -> str:
    return ", ".join(f"`{o}`" for o in overrides) or "as in the file"


def _log_named(record: Record, log: str) -> str:
    name = "data.eval" if log == "eval" else "the test log"
    return f"{name}, {record['logs'][log]['rows']:,} rows"


def arms_table(record: Record, log: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows: one row per arm that has scores on this log."""
    header = ["arm", "seeds", *record["tasks"], AVERAGE, "Δm %", "rank", "Pareto"]
    header += ["seconds", "rows per core-hour"]
    rows = []
    for arm in record["arms"]:
        found = arm[log]
        if found is None:
            continue
        quantities = (*record["tasks"], AVERAGE)
        rows.append(
            [
                arm["name"],
                str(len(found["seeds"])),
                *(_auc(found["mean"][q], found["std"][q]) for q in quantities),
                _delta_m(found),
                _number(found["mean_rank"], ".2f"),
                "*" if found["pareto"] else "",
                _number(arm["seconds"], ",.1f"),
                _number(arm["rows_per_core_hour"], ",.0f"),
            ]
        )
    return header, rows


def differences_table(record: Record, log: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows: one row per arm but the baseline; none where one seed tells no interval."""
    quantities = (*record["tasks"], AVERAGE)
    of_arm = {
        arm["name"]: [arm[log]["difference"][q] for q in quantities]
        for arm in record["arms"]
        if arm[log] and "difference" in arm[log] and len(record["seeds"]) > 1
    }
    rows = [[arm, _pairs(found), *map(_difference, found)] for arm, found in of_arm.items()]
    return ["arm", "seeds", *quantities], rows


def _pairs(found: Sequence[Record]) -> str:
    """How many seeds the differences are of: `5`, or `3 to 5` where some task has no AUC."""
    counts = sorted({difference["pairs"] for difference in found})
    return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))


def _delta_m(found: Record) -> str:
    """With the number of seeds where these are not all seeds of the arm."""
    text = _number(found.get("delta_m"), "+.2f")
    seeds = found.get("delta_m_seeds", len(found["seeds"]))
    return text if seeds == len(found["seeds"]) else f"{text} ({seeds} seed(s))"


def _differences_are(record: Record) -> str:
    return (
        f"Difference in AUC to {record['baseline']!r}, paired by seed, with its 95 % interval over "
        "seeds, on this log: another day's rows add to it. ** where p is below 0.05 after Holm's "
        "correction for all arms, task by task."
    )


def _difference(found: Record) -> str:
    text = f"{_number(found['mean'], '+.4f')}"
    if found["lower"] is not None:
        text += f" ({found['lower']:+.4f} to {found['upper']:+.4f})"
    sure = found["p_holm"] is not None and found["p_holm"] < 0.05
    return f"**{text}**" if sure else text


def choice_sentences(choice: Record) -> Iterator[str]:
    """What was chosen, and how it holds its conditions on both logs."""
    seeds = ", ".join(map(str, choice["seeds"]))
    yield (
        f"chosen on data.eval, by the means over the seed(s) {seeds}: {choice['arm']!r} (baseline: "
        f"{choice['baseline']!r})"
    )
    for log in ("eval", "test"):
        found = choice[log]
        if found is None:
            continue
        scores = ", ".join(f"{q} {_number(auc, '.4f')}" for q, auc in found["mean"].items())
        yield f"on {_CHOICE_LOGS[log]}: {scores}"
        for condition in found["conditions"]:
            verdict = "holds" if condition["holds"] else "does NOT hold"
            yield (
                f"on {_CHOICE_LOGS[log]} it {verdict} {condition['text']!r}: "
                f"{_number(condition['auc'], '.5f')}, the bound is "
                f"{_number(condition['bound'], '.5f')}{_interval(condition)}"
            )
    if choice["test_digest"] is None:
        yield (
            "it was chosen by these numbers, so they flatter it; --test LOG judges it by rows that "
            "nothing was chosen by"
        )
    if choice["test_pending"]:
        yield "the test log has not been scored yet; the same command does that"


_CHOICE_LOGS = {"eval": "data.eval", "test": "the test log"}


def _interval(condition: Record) -> str:
    """The margin's interval, over paired seeds, where the bound is the baseline's."""
    if condition["lower"] is None:
        return ""
    return (
        f" (above it by {condition['margin']:+.5f}, 95 % interval {condition['lower']:+.5f} to "
        f"{condition['upper']:+.5f})"
    )


def failure_sentences(cells: Sequence[Record]) -> Iterator[str]:
    """Which cells failed, how, and where to look: one sentence for all that failed alike."""
    alike: dict[tuple[int, str], list[Record]] = {}
    for cell in cells:
        if cell["status"] == "failed":
            reason = reason_of(cell["name"], cell["last_line"])
            alike.setdefault((cell["exit_status"], reason), []).append(cell)
    for (status, _), group in alike.items():
        names, first = in_short([cell["name"] for cell in group]), group[0]
        whose = "its log" if len(group) == 1 else f"the log of {first['name']}"
        yield f"{names} failed with status {status}: {first['last_line']}; {whose}: {first['log']}"


def reason_of(cell: str, last_line: str) -> str:
    """The last line of a cell that failed, as another one that failed alike has it, too."""
    return re.sub(rf"(?<!\w){re.escape(cell)}(?!\w)", "<cell>", last_line)


def in_short(names: Sequence[str]) -> str:
    """`a, b, c and 57 more`."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def terminal_tables(record: Record, log: str) -> Iterator[str]:
    """The arms, and their differences to the baseline, in lines of text."""
    yield f"AUC on {_log_named(record, log)}; baseline: {record['baseline']!r}"
    yield from _aligned(*arms_table(record, log))
    yield from notes(record, log)
    header, rows = differences_table(record, log)
    if rows:
        yield _differences_are(record)
        yield from _aligned(header, rows)


def _aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        first, *others = (
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join((first, *others)).rstrip()


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'|'.join('---' if place == 0 else '---:' for place in range(len(header)))}|"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"


def _auc(mean: float | None, std: float | None) -> str:
    text = _number(mean, ".4f")
    return text if std is None or mean is None else f"{text} ± {std:.4f}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or math.isnan(value) else format(value, form)
