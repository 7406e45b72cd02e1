"""From a run's YAML and its arms to a finished sweep."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from recsys_mtl.config import UserError
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.driver.events import log_event
from recsys_mtl.driver.lease import Lease
from recsys_mtl.driver.preemption import PreemptionError, Sigterm
from recsys_mtl.driver.sweep.admission import Demand, Room, room_for
from recsys_mtl.driver.sweep.arms import Arm
from recsys_mtl.driver.sweep.cells import (
    Cell,
    plan_cells,
    refuse_what_cannot_be_compared,
    tasks_of,
)
from recsys_mtl.driver.sweep.choice import parse_rule
from recsys_mtl.driver.sweep.figure import draw_sweep, varying_number
from recsys_mtl.driver.sweep.folder import SweepFolder
from recsys_mtl.driver.sweep.logs import Logs, read_logs, refuse_changed_cells
from recsys_mtl.driver.sweep.outcomes import Failure, Outcome
from recsys_mtl.driver.sweep.progress import showing_sweep
from recsys_mtl.driver.sweep.record import (
    Request,
    refuse_a_second_choice,
    sweep_record,
    with_choice,
)
from recsys_mtl.driver.sweep.report import in_short
from recsys_mtl.driver.sweep.schedule import Job, Situation, run_jobs
from recsys_mtl.driver.sweep.traces import settings_by_arm, traces_by_arm

# With the faulthandler, a crash leaves its place in the log.
_CELL_PROCESS = (sys.executable, "-X", "faulthandler", "-m", "recsys_mtl.driver.sweep.cell_process")
_TO_END_SECONDS = 10.0  # beyond the time that a run takes for its last checkpoint


def sweep(
    run_yaml: str,
    arms: Sequence[Arm],
    *,
    seeds: Sequence[int],
    folder: str,
    overrides: Sequence[str] = (),
    baseline: str | None = None,
    test: str | None = None,
    choose: str | None = None,
    parallel: int | None = None,
) -> dict[str, Any]:
    """Train every arm with every seed, compare them, and return what sweep.json holds.

    Each cell, an arm with a seed, is a run in a process of its own. Called again, the sweep trains
    only what is not finished. A cell that fails stops no other one.

    Args:
        seeds: of every arm, so that differences are paired.
        folder: a folder of this machine that every node of the cluster reaches, too.
        overrides: `A.B=VALUE` each, of all arms.
        baseline: the arm that others are compared with; by default the single-task arm where there
            is one, else the first arm.
        test: another log, which judges every arm, or with `choose` the chosen one and the baseline.
        choose: a rule such as `max wish subject to purchase >= baseline - 0.0005`.
        parallel: most cells at a time; by default one without Ray, and on Ray as many as fit.

    Raises:
        UserError: an argument, a configuration, a log or an earlier call forbids it, or no arm
            holds what `choose` asks for.
        LeaseError: another sweep is at work in the folder.
        PreemptionError: SIGTERM ended it early.
    """
    if parallel is not None and parallel < 1:
        raise UserError(f"--parallel {parallel}: give 1 or more cells at a time")
    place = SweepFolder(folder)
    cells = plan_cells(run_yaml, arms, seeds=seeds, overrides=overrides, runs_url=place.runs_url)
    refuse_what_cannot_be_compared(cells, arms)
    tasks = tasks_of(cells)
    asked = Request(
        run_yaml=run_yaml,
        arms=arms,
        seeds=seeds,
        overrides=overrides,
        tasks=tasks,
        baseline=_baseline(arms, baseline),
        test=test,
        rule=None if choose is None else parse_rule(choose, tasks),
    )
    logs = read_logs(cells, test)
    judged = logs[cells[0].name].test
    grace = max(cell.config.cluster.grace_seconds for cell in cells)
    with (
        Sigterm(grace) as sigterm,
        Lease(place.url, what="sweep", done="run", setting="--out").held(
            lambda: sigterm.leave_if_asked("sweep")
        ),
    ):
        # Now that no other sweep changes what is in the folder.
        refuse_changed_cells(cells, logs, place.begun_with)
        if asked.rule is not None and judged is not None:
            refuse_a_second_choice(place.read_record(), asked, judged, place.trainings(cells))
        return _Sweep(asked, cells, place, logs, parallel).to_the_end(sigterm)


class _Sweep:
    """One call's work on a sweep whose folder it holds."""

    def __init__(
        self,
        asked: Request,
        cells: Sequence[Cell],
        place: SweepFolder,
        logs: Mapping[str, Logs],
        parallel: int | None,
    ) -> None:
        self._asked, self._cells, self._place, self._parallel = asked, cells, place, parallel
        whole = next((cell for cell in cells if cell.task is None), cells[0])
        self._logs = logs[whole.name]
        # Its choices, and the test logs used, go into the next record, too.
        self._kept = place.read_record()
        self._failures: dict[str, Failure] = {}

    def to_the_end(self, sigterm: Sigterm) -> dict[str, Any]:
        """Train, compare and choose; write and return the record."""
        choosing = self._asked.rule is not None
        self._write()  # a log that is about to judge every arm stands in it before it does
        self._do(self._cells, sigterm, judge=not choosing)
        record = self._write()
        self._draw(record)
        return self._choose(record, sigterm) if choosing else record

    def _outcomes(self) -> list[Outcome]:
        test, failures = self._logs.test, self._failures
        return [self._place.outcome(c, test, failures.get(c.name)) for c in self._cells]

    def _write(self) -> dict[str, Any]:
        log_of = {cell.name: str(self._place.log_of(cell)) for cell in self._cells}
        record = sweep_record(
            self._asked,
            self._outcomes(),
            self._logs,
            self._kept,
            url=self._place.url,
            log_of=log_of,
        )
        self._place.write_record(record)
        return record

    def _draw(self, record: Mapping[str, Any]) -> None:
        if any(arm["eval"] is not None for arm in record["arms"]):
            axis = varying_number(settings_by_arm(self._cells))
            self._place.write_picture(draw_sweep(record, axis, traces_by_arm(self._outcomes())))

    def _choose(self, record: Mapping[str, Any], sigterm: Sigterm) -> dict[str, Any]:
        """Choose on data.eval, write that down, and only then look at the test log."""
        waiting = [outcome for outcome in self._outcomes() if outcome.result is None]
        if waiting:
            log_event(
                "not_chosen",
                f"nothing is chosen while {len(waiting)} of {len(self._cells)} runs are not "
                "finished; the same command trains them, or leave their arms out",
            )
            return dict(record)
        test = self._logs.test
        try:
            chosen = with_choice(record, self._asked, self._outcomes(), test)
        except UserError as error:
            raise UserError(f"{error}; all scores are in {self._place.url}/sweep.md") from None
        self._keep(chosen)
        if test is not None and chosen["choices"][-1]["test_pending"]:
            arms = (chosen["choices"][-1]["arm"], self._asked.baseline)
            self._do([cell for cell in self._cells if cell.arm in arms], sigterm, judge=True)
            chosen = with_choice(self._write(), self._asked, self._outcomes(), test)
            self._keep(chosen)
            self._draw(chosen)
        return chosen

    def _keep(self, record: dict[str, Any]) -> None:
        self._kept = record
        self._place.write_record(record)

    def _do(self, cells: Sequence[Cell], sigterm: Sigterm, *, judge: bool) -> None:
        """Run the processes of those cells that are not done."""
        test = self._logs.test if judge else None
        outcomes = [self._place.outcome(cell, test, None) for cell in cells]
        left = [o.cell for o in outcomes if o.result is None or (test and o.test is None)]
        done = len(cells) - len(left)
        if test is not None:
            self._tell_of_unusable_answers(outcomes, test)
        what = "trained" if test is None else "trained, and judged by the test log"
        log_event(
            "sweep",
            f"{done} of {len(cells)} cells are {what}; folder: {self._place.url}",
            cells=len(cells),
            finished=done,
            url=self._place.url,
        )
        if not left:
            return
        with room_for(left, self._parallel, sigterm) as (room, demand_of, environment):
            jobs = [self._job(cell, demand_of(cell), test) for cell in left]
            for job in jobs:
                room.refuse_what_never_fits(job.name, job.demand)
            self._run(jobs, room, environment, sigterm)

    def _tell_of_unusable_answers(self, outcomes: Sequence[Outcome], test: Manifest) -> None:
        cells = [
            outcome.cell.name
            for outcome in outcomes
            if outcome.test is None and self._place.answer_of(outcome.cell, test).exists()
        ]
        if cells:
            log_event(
                "judged_again",
                f"what {test.url} said of {in_short(cells)} is damaged or of another training, and "
                "is not used; the log judges what is there now",
                cells=cells,
            )

    def _job(self, cell: Cell, demand: Demand, test: Manifest | None) -> Job:
        command: list[str] = [*_CELL_PROCESS, str(self._place.write_yaml(cell))]
        if test is not None:
            command += ["--test", test.url, "--test-digest", test.digest]
            command += ["--answer", str(self._place.answer_of(cell, test))]
        return Job(cell.name, tuple(command), self._place.log_of(cell), demand)

    def _run(
        self, jobs: Sequence[Job], room: Room, environment: Mapping[str, str], sigterm: Sigterm
    ) -> None:
        with showing_sweep() as progress:

            def ended(job: Job, failure: Failure | None) -> None:
                if failure is not None:
                    self._failures[job.name] = failure
                progress.ended(job, failure)
                self._write()

            def look(situation: Situation) -> None:
                progress.look(situation)
                if sigterm.asked:
                    raise PreemptionError(
                        "the sweep was ended by SIGTERM; the same command goes on with it"
                    )

            grace = max(cell.config.cluster.grace_seconds for cell in self._cells)
            run_jobs(
                jobs,
                room,
                environment,
                grace_seconds=grace + _TO_END_SECONDS,
                ended=ended,
                look=look,
            )


def _baseline(arms: Sequence[Arm], wanted: str | None) -> str:
    names = [arm.name for arm in arms]
    if wanted is None:
        return next((arm.name for arm in arms if arm.single_task), names[0])
    if wanted not in names:
        raise UserError(f"--baseline {wanted!r} is no arm; the arms: {', '.join(names)}")
    return wanted
