"""What an earlier run of the same name means for one that is started."""

from collections.abc import Mapping
from typing import Any

from recsys_mtl.config import RunConfig, UserError, refuse_changes
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.driver.events import log_event
from recsys_mtl.driver.result import show_result
from recsys_mtl.driver.run_folder import RunFolder, TrainedBy
from recsys_mtl.worker.best import scored_by
from recsys_mtl.worker.checkpoint_metadata import read_metadata, refuse_to_go_on


def earlier_run(
    folder: RunFolder, config: RunConfig, train: Manifest, last_step: int
) -> RunConfig | None:
    """The configuration of the run of this name that is gone on with; None where none is there.

    Args:
        train: of data.train, now.
        last_step: at which the run is now to end.

    Raises:
        UserError: there is a run of this name that this configuration may not go on with.
    """
    trained_by = folder.trained_by()
    earlier = None if trained_by is None else folder.earlier()
    if earlier is None:
        return None
    _refuse_another_host(config, trained_by)
    old_config, old_digest = earlier
    refuse_changes(old_config, config, old_digest, train.digest)
    checkpoint = folder.newest_checkpoint()
    if checkpoint is not None:
        refuse_to_go_on(read_metadata(checkpoint), config, train.digest, last_step)
    return old_config


def finished_run(
    folder: RunFolder, config: RunConfig, train: Manifest, evaluation: Manifest, last_step: int
) -> dict[str, Any] | None:
    """The result of a run of this name, told, where it has already come to its end.

    Args:
        train: of data.train, now.
        evaluation: of data.eval, now.
        last_step: at which the run is now to end.

    Raises:
        UserError: there is a run of this name that this configuration may not go on with.
    """
    old_config = earlier_run(folder, config, train, last_step)
    result = None if old_config is None else folder.result()
    if old_config is None or result is None:
        return None
    if result["steps"] == last_step:
        log_event("finished", f"run {config.run.name!r} is finished; --fresh trains it anew")
    elif _patience_is_over(result, config, evaluation, last_step):
        log_event(
            "finished",
            f"run {config.run.name!r} stopped early, at step {result['steps']:,} of "
            f"{last_step:,}; a larger training.patience_evaluations goes on with it, --fresh "
            "trains it anew",
        )
    else:
        return None
    # A result of an earlier version says nothing of its logs.
    measured_on = result.get("data", {}).get("eval", {"url": old_config.data.eval, "digest": ""})
    if measured_on["digest"] != evaluation.digest:
        _tell_of_another_log(measured_on["url"], evaluation.url, folder.url)
    show_result(result, folder.url)
    return result


def _patience_is_over(
    result: Mapping[str, Any], config: RunConfig, evaluation: Manifest, last_step: int
) -> bool:
    """Whether a run that stopped early would stop there with this configuration, too."""
    training, best = config.training, result.get("best")
    if best is None or not result["stopped_early"] or training.patience_evaluations is None:
        return False
    return bool(
        result["steps"] < last_step
        and best["scored_by"] == scored_by(training.best_by, evaluation.digest)
        and best["evaluations_since"] >= training.patience_evaluations
    )


def _tell_of_another_log(measured_on: str, asked_for: str, run_url: str) -> None:
    """Say that the result was measured on other rows than those of data.eval now."""
    log_event(
        "not_evaluated",
        f"the result is of data.eval as it was then ({measured_on}); nothing was evaluated on "
        f"{asked_for} now: `recsys-mtl evaluate {run_url} --data {asked_for}` does that",
        measured_on=measured_on,
        not_evaluated_on=asked_for,
    )


def _refuse_another_host(config: RunConfig, trained_by: TrainedBy | None) -> None:
    """Ray Train and a driver that trains itself keep their checkpoints each in its own way.

    Raises:
        UserError: the run was begun by the other one.
    """
    here = config.cluster.in_this_process
    if trained_by == ("this process" if here else "ray"):
        return
    begun, change = (
        ("on Ray", "set cluster.num_workers to 1 or more")
        if here
        else ("in its driver's process, without Ray", "set cluster.num_workers to 0")
    )
    raise UserError(
        f"run {config.run.name!r} was begun {begun}, and cluster.num_workers is "
        f"{config.cluster.num_workers}; {change}, choose another run.name, or start anew with "
        "--fresh"
    )
