"""Two tasks on a plane: which methods reach the Pareto set, and from where.

    python -m pipelines.experiments.pareto_2d --out runs/pareto_2d

Gradient descent on L1 + L2, MGDA-UB, CAGrad, IMTL-G and GradOPS with several alphas walk from three
starts with Adam. Nothing lies between theta and the two losses, so the representation at which
MGDA-UB compares gradients is theta itself, and MGDA-UB is MGDA here.

Written: `trajectories.png` and `final_points.csv`; the last lines printed say what was found.

With alpha -5 all starts reach the Pareto set, and gradient descent sticks from two. Runs with a
larger alpha may linger where t2 = 0: at the mouth of a valley one loss falls upwards, the other
downwards. For how long depends on rounding, so those end points differ between machines.

Source: Zhu et al., "Gradient Deconfliction via Orthogonal Projections onto Subspaces For
Multi-task Learning", WSDM 2025, Figure 2 and appendix B.
"""

# M methods, S starts, T = 2 tasks; a point is (t1, t2)

import argparse
import csv
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from pipelines.benchmarks.measure import positive_int
from pipelines.experiments.pareto_2d_figure import draw_trajectories
from pipelines.experiments.pareto_2d_landscape import (
    distance_to,
    losses,
    pareto_set,
    task_gradients,
)
from recsys_mtl.gradients import (
    GramMethod,
    combine_gradients,
    gradops,
    gram_matrix,
    min_norm,
    task_coefficients,
)

ON_SET, STUCK, ON_WAY = "on the set", "stuck", "on its way"
STARTS = ((-0.85, 0.75), (-0.85, -0.3), (0.9, 0.9))
ALPHAS = (-5, -2, 0, 2)
CAGRAD_C = 0.5
LARGEST_DISTANCE = 1e-3
"""From the Pareto set, of a point that counts as on it: one step of Adam at 1e-3."""
LARGEST_MIN_NORM = 2e-3
"""The losses curve by 2 across the set, so this is the norm at the distance above."""
STUCK_SHARE = 0.01
"""A share of the way that Adam can walk in one number: a run that comes no nearer is stuck."""

Combine = Callable[[Tensor], Tensor]
"""Task gradients [T, 2] in, the update [2] out."""


def methods() -> dict[str, Combine]:
    """The methods by name, in the order of the picture."""
    found: dict[str, Combine] = {"gradient descent": lambda gradients: gradients.sum(dim=0)}
    found["MGDA-UB"] = partial(combined, kind="mgda")
    found[f"CAGrad c {CAGRAD_C}"] = partial(combined, kind="cagrad", c=CAGRAD_C)
    found["IMTL-G"] = partial(combined, kind="imtl_g")
    for alpha in ALPHAS:
        found[f"GradOPS alpha {alpha}"] = partial(gradops_update, alpha=alpha)
    return found


def combined(gradients: Tensor, kind: GramMethod, **hyperparameters: Any) -> Tensor:
    """A method's combination of task gradients [T, 2]; [2]."""
    coefficients = task_coefficients(kind, gram_matrix(gradients), **hyperparameters)
    return combine_gradients(gradients, coefficients)


def min_norm_update(gradients: Tensor) -> Tensor:
    """The shortest convex combination of task gradients [T, 2]; [2]."""
    return combine_gradients(gradients, min_norm(gram_matrix(gradients)))


def gradops_update(gradients: Tensor, alpha: float) -> Tensor:
    """GradOPS' combination of task gradients [T, 2]; [2]."""
    return gradops(gradients, alpha=alpha).update


def descend(
    combines: Sequence[Combine], starts: Tensor, *, steps: int, learning_rate: float
) -> Iterator[Tensor]:
    """Walk every method from every start, all runs abreast; Adam acts on each number apart.

    Args:
        combines: M of them.
        starts: [S, 2] float64.

    Yields:
        The points [M, S, 2]: at the start, and after each step.
    """
    points = nn.Parameter(starts.repeat(len(combines), 1, 1))
    optimizer = torch.optim.Adam([points], lr=learning_rate)
    before = torch.full((*points.shape[:2], 2, 2), math.nan, dtype=starts.dtype)
    updates = torch.zeros_like(points)
    for _ in range(steps):
        yield points.detach().clone()
        gradients = task_gradients(points)
        # A run that rests on the Pareto set has the gradients, so the update, of its last step.
        for m, s in (gradients != before).flatten(2).any(dim=2).nonzero().tolist():
            updates[m, s] = combines[m](gradients[m, s])
        before = gradients
        points.grad = updates.clone()
        optimizer.step()
    yield points.detach().clone()


@dataclass(frozen=True)
class FinalPoint:
    """Where one run ended."""

    method: str
    start_t1: float
    start_t2: float
    t1: float
    t2: float
    loss_1: float
    loss_2: float
    distance: float
    """From the Pareto set, in the plane."""
    min_norm: float
    """The min-norm of the task gradients: 0 where no direction lowers both losses."""
    outcome: str
    """ON_SET, else STUCK where the last quarter of the steps brought it hardly nearer, else
    ON_WAY."""


def judge(names: Sequence[str], paths: Tensor, learning_rate: float) -> list[FinalPoint]:
    """Where each run ended, by method and start.

    Args:
        names: of the M methods.
        paths: [N, M, S, 2], points from the start to the last.
        learning_rate: with which they were walked.
    """
    targets = pareto_set()
    return [
        _final_point(name, path, learning_rate, targets)
        for name, of_method in zip(names, paths.unbind(dim=1), strict=True)
        for path in of_method.unbind(dim=1)
    ]


def _final_point(method: str, path: Tensor, learning_rate: float, targets: Tensor) -> FinalPoint:
    """Judges one path [N, 2] against the points of the Pareto set."""
    last, quarter = path[-1], (len(path) - 1) // 4
    distance = distance_to(targets, last)
    gain = distance_to(targets, path[-1 - quarter]) - distance
    norm = float(min_norm_update(task_gradients(last)).norm())
    if distance <= LARGEST_DISTANCE and norm <= LARGEST_MIN_NORM:
        outcome = ON_SET
    else:
        outcome = STUCK if gain <= STUCK_SHARE * learning_rate * quarter else ON_WAY
    (start_t1, start_t2), (t1, t2) = path[0].tolist(), last.tolist()
    loss_1, loss_2 = losses(last).tolist()
    return FinalPoint(method, start_t1, start_t2, t1, t2, loss_1, loss_2, distance, norm, outcome)


def reached(final: Sequence[FinalPoint], method: str) -> str:
    """How many runs of a method ended on the set, as in "2 of 3 reach the set"."""
    outcomes = [point.outcome for point in final if point.method == method]
    return f"{outcomes.count(ON_SET)} of {len(outcomes)} reach the set"


def findings(final: Sequence[FinalPoint]) -> list[str]:
    """What was found, one sentence a method."""
    return [
        f"{method}: {reached(final, method)}; "
        + ", ".join(
            f"from ({point.start_t1}, {point.start_t2}) {point.outcome} "
            f"at ({point.t1:.3f}, {point.t2:.3f})"
            for point in final
            if point.method == method
        )
        for method in dict.fromkeys(point.method for point in final)
    ]


def final_table(final: Sequence[FinalPoint]) -> Table:
    """The final points as a table that fits 80 columns."""
    table = Table(title="Final points", box=SIMPLE_HEAD, padding=0)
    for heading in ("method", "start", "t1", "t2", "L1", "L2", "distance", "outcome"):
        numeric = heading not in ("method", "start", "outcome")
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=True)
    for p in final:
        numbers = (f"{value:.3f}" for value in (p.t1, p.t2, p.loss_1, p.loss_2))
        start = f"({p.start_t1}, {p.start_t2})"
        table.add_row(p.method, start, *numbers, f"{p.distance:.0e}", p.outcome)
    return table


def write_csv(final: Sequence[FinalPoint], path: Path) -> None:
    """The final points at full precision, a row each."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(FinalPoint.__dataclass_fields__))
        writer.writeheader()
        writer.writerows(vars(point) for point in final)


def _walk_all(steps: int, learning_rate: float) -> Tensor:
    """The paths [N, M, S, 2] of all methods, with a line of progress each tenth."""
    started = time.monotonic()
    starts = torch.tensor(STARTS, dtype=torch.float64)
    walk = descend(list(methods().values()), starts, steps=steps, learning_rate=learning_rate)
    paths = []
    for step, points in enumerate(walk):
        paths.append(points)
        if step and step % max(1, steps // 10) == 0:
            print(f"step {step} of {steps}, {time.monotonic() - started:.0f} s", flush=True)
    return torch.stack(paths)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; exits with status 2 and one sentence when the arguments cannot be met."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.experiments.pareto_2d",
        description="Walk two-task methods over the landscape of the paper's Figure 2.",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/pareto_2d"), help="(%(default)s)")
    parser.add_argument("--steps", type=positive_int, default=20_000, help="(%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="Adam's (%(default)s)")
    options = parser.parse_args(arguments)
    if not (math.isfinite(options.learning_rate) and options.learning_rate > 0):
        parser.error(f"--learning-rate is {options.learning_rate}; it must be above 0")
    torch.set_num_threads(1)  # tensors of a few numbers: threads only wait for each other
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "final_points.csv").write_text("")  # minutes before it is needed
    except OSError as error:
        parser.error(f"--out {options.out} cannot be written: {error}")
    names = list(methods())
    paths = _walk_all(options.steps, options.learning_rate)
    final = judge(names, paths, options.learning_rate)
    titles = [f"{name}: {reached(final, name)}" for name in names]
    draw_trajectories(paths, titles, options.out / "trajectories.png")
    write_csv(final, options.out / "final_points.csv")
    Console().print(final_table(final))
    print("\n".join(findings(final)))


if __name__ == "__main__":
    main()
