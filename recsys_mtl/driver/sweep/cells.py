"""The cells of a sweep: one run per arm and seed, all of them checked before the first starts."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from recsys_mtl.config import ConfigError, RunConfig, UserError
from recsys_mtl.config.best import measure
from recsys_mtl.config.file import load_config, overridden
from recsys_mtl.config.label import judge_alike
from recsys_mtl.driver.storage import with_absolute_paths
from recsys_mtl.driver.sweep.arm_refusal import arm_refusal
from recsys_mtl.driver.sweep.arms import Arm
from recsys_mtl.driver.sweep.choice import AVERAGE

_OWN = {
    "run.name": "the sweep names its runs by arm and seed",
    "run.storage_path": "the sweep keeps its runs in its own folder; give that by --out",
    "run.seed": "every arm is trained with the same seeds; give their number by --seeds",
}
"""Settings that the sweep itself makes, and why nothing else can."""
_LONGEST_NAME = 100  # letters of an arm in the name of a folder


@dataclass(frozen=True)
class Cell:
    """One run of a sweep."""

    arm: str
    seed: int
    task: str | None
    """The label that it has alone, in a single-task arm."""
    config: RunConfig
    """With absolute paths; `run.name` is the cell's own."""

    @property
    def name(self) -> str:
        """Its run's, which no other cell has."""
        return self.config.run.name

    @property
    def url(self) -> str:
        """Its run's folder."""
        return f"{self.config.run.storage_path}/{self.name}"


def plan_cells(
    run_yaml: str,
    arms: Sequence[Arm],
    *,
    seeds: Sequence[int],
    overrides: Sequence[str],
    runs_url: str,
) -> list[Cell]:
    """Make the configuration of every run of a sweep.

    Args:
        overrides: `A.B=VALUE` each, of all arms; an arm's own come after them.
        runs_url: the folder that holds the runs.

    Returns:
        All arms of the first seed, then of the next.

    Raises:
        UserError: arms, seeds, or a configuration that cannot be; names the arm.
    """
    _refuse_unusable(arms, seeds)
    _refuse_own_settings("--for-all", overrides)
    _refuse_own_settings("--set", [override for arm in arms for override in arm.overrides])
    configs = [_config_of(arm, arms, run_yaml, overrides) for arm in arms]
    cells = [
        cell
        for seed in seeds
        for arm, config in zip(arms, configs, strict=True)
        for cell in _cells_of(arm, config, seed, runs_url)
    ]
    _refuse_same_names(cells)
    return cells


def _refuse_own_settings(option: str, overrides: Sequence[str]) -> None:
    """Nothing, where no override is of what every cell has of its own."""
    for override in overrides:
        path = override.partition("=")[0]
        for own, reason in _OWN.items():
            if path == own or own.startswith(f"{path}."):
                raise ConfigError(f"{option} {override}: {reason}")


def tasks_of(cells: Sequence[Cell]) -> tuple[str, ...]:
    """The T tasks of a sweep, in the order of data.labels.

    Raises:
        UserError: one has the name of the tasks' mean.
    """
    whole = next((cell for cell in cells if cell.task is None), None)
    if whole is not None:
        found = whole.config.task_names
    else:
        found = tuple(dict.fromkeys(cell.task for cell in cells if cell.task is not None))
    if AVERAGE in found:
        raise UserError(
            f"data.labels has a task {AVERAGE!r}, which in a sweep is the mean of all tasks; name "
            "the task otherwise"
        )
    return found


def _refuse_unusable(arms: Sequence[Arm], seeds: Sequence[int]) -> None:
    if not arms:
        raise UserError("a sweep needs an arm; give a setting with several values")
    names = [arm.name for arm in arms]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two arms have the name {name!r}; give each its own")
    if not seeds:
        raise UserError("a sweep needs a seed; give --seeds 1 or more")
    if len(set(seeds)) < len(seeds):
        raise UserError(f"a seed stands twice in {list(seeds)}; keep one of each")


def _config_of(arm: Arm, arms: Sequence[Arm], run_yaml: str, overrides: Sequence[str]) -> RunConfig:
    """What the arm's runs have in common."""
    try:
        return load_config(run_yaml, (*overrides, *arm.overrides))
    except ConfigError as error:
        raise arm_refusal(arm, arms, error, run_yaml, overrides) from None


def _cells_of(arm: Arm, config: RunConfig, seed: int, runs_url: str) -> Iterator[Cell]:
    """One cell, or one per task."""
    tasks: tuple[str | None, ...] = config.task_names if arm.single_task else (None,)
    for task in tasks:
        own = (
            f"run.name={json.dumps(_run_name(arm.name, seed, task))}",
            f"run.storage_path={json.dumps(runs_url)}",
            f"run.seed={seed}",
            *(() if task is None else _of_one_task(config, task)),
        )
        try:
            made = overridden(config, own)
        except ConfigError as error:
            raise ConfigError(f"arm {arm.name!r}: {error}") from None
        yield Cell(arm.name, seed, task, with_absolute_paths(made))


def _of_one_task(config: RunConfig, task: str) -> tuple[str, ...]:
    """What makes a run of all labels one of this label alone."""
    label = config.data.labels[task].model_dump(mode="json", exclude_defaults=True)
    best_by = config.training.best_by
    return (
        f"data.labels={json.dumps({task: label})}",
        "method={kind: uniform}",
        "recon=null",
        *(() if best_by is None else (f"training.best_by={measure(best_by).quantity}:{task}",)),
    )


def _run_name(arm: str, seed: int, task: str | None) -> str:
    """`alpha=-1` and seed 3 give `alpha_-1-seed3`."""
    letters = re.sub(r"[^A-Za-z0-9._-]+", "_", arm).strip("._-") or "arm"
    if len(letters) > _LONGEST_NAME:
        digest = hashlib.sha256(arm.encode()).hexdigest()[:8]
        letters = f"{letters[:_LONGEST_NAME]}-{digest}"
    return "-".join((letters, *([task] if task else []), f"seed{seed}"))


def _refuse_same_names(cells: Sequence[Cell]) -> None:
    arm_of: dict[str, str] = {}
    for cell in cells:
        other = arm_of.setdefault(cell.name, cell.arm)
        if other != cell.arm:
            raise UserError(
                f"the arms {other!r} and {cell.arm!r} would share the folder {cell.name}; name "
                "them otherwise, in letters, digits, '.', '_' and '-'"
            )


def refuse_what_cannot_be_compared(cells: Sequence[Cell], arms: Sequence[Arm]) -> None:
    """Nothing, where arms differ in how they train, and in nothing that their scores are of.

    Raises:
        UserError: two arms are one, or have other tasks or another data.eval.
    """
    alone = {arm.name for arm in arms if arm.single_task}
    first = next((cell for cell in cells if cell.arm not in alone), cells[0])
    arm_of: dict[str, str] = {}
    for cell in cells:
        if cell.seed != first.seed:
            continue
        ours, theirs = cell.config.data, first.config.data
        if cell.arm not in alone and not judge_alike(ours.labels, theirs.labels):
            raise UserError(
                f"the arms {first.arm!r} and {cell.arm!r} differ in data.labels, and scores of "
                "other tasks do not compare; sweep over something else"
            )
        if ours.eval != theirs.eval:
            raise UserError(
                f"the arms {first.arm!r} and {cell.arm!r} differ in data.eval, and scores on other "
                "rows do not compare; sweep over something else"
            )
        run = cell.config.run.model_copy(update={"name": first.name})
        settings = cell.config.model_copy(update={"run": run}).model_dump_json()
        other = arm_of.setdefault(settings, cell.arm)
        if other != cell.arm:
            raise UserError(
                f"the arms {other!r} and {cell.arm!r} are the same configuration; leave one out"
            )
