"""The two-task landscape: its losses, its Pareto set, and who reaches it."""

import csv
import math
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pipelines.experiments.pareto_2d import (
    ALPHAS,
    STARTS,
    Combine,
    FinalPoint,
    descend,
    findings,
    judge,
    main,
    methods,
    min_norm_update,
)
from pipelines.experiments.pareto_2d_landscape import losses, pareto_set, task_gradients

# The paper's 1e-3 and 20,000 steps take minutes; these show the same, but for where runs end.
LEARNING_RATE = 4e-3
STEPS = 2_500

coordinate = st.floats(-1.5, 1.5)
above, below = st.floats(0.0, 1.5), st.floats(-2.0, 0.0)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The command itself sets 1, which must not outlive it here."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def point(t1: float, t2: float) -> Tensor:
    return torch.tensor([t1, t2], dtype=torch.float64)


def losses_as_printed(t1: float, t2: float) -> tuple[float, float]:
    """The appendix's formulas one by one, c1 with the f terms."""
    f1 = math.log(max(abs(5 * (-t1 - 0.7) - math.tanh(-3 * t2)), 0.0005)) + 1
    f2 = math.log(max(abs(5 * (-t1 + 0.7) - math.tanh(-3 * t2)), 0.0005)) + 1
    g1 = 1.5 * math.tanh(2 * (-t1 + 0.7) ** 2) * (t1**2 + 1) + (-t2 - 0.8) ** 2 - 2.5
    g2 = 1.5 * math.tanh(2 * (-t1 - 0.7) ** 2) * (t1**2 + 1) + (-t2 - 0.8) ** 2 - 2.5
    c1, c2 = max(math.tanh(5 * t2), 0), max(math.tanh(-5 * t2), 0)
    return c1 * f1 + c2 * g1, c1 * f2 + c2 * g2


@cache
def curve() -> Tensor:
    return pareto_set()


def walk(names: list[str], starts: Tensor, steps: int, learning_rate: float) -> list[FinalPoint]:
    combines = [methods()[name] for name in names]
    path = descend(combines, starts, steps=steps, learning_rate=learning_rate)
    return judge(names, torch.stack(list(path)), learning_rate)


@settings(deadline=None)
@given(t1=coordinate, t2=coordinate)
def test_losses_are_those_of_the_appendix(t1: float, t2: float) -> None:
    assert losses(point(t1, t2)).tolist() == pytest.approx(losses_as_printed(t1, t2), abs=1e-9)


@settings(deadline=None)
@given(t1=coordinate, t2=coordinate)
def test_gradients_are_the_slopes_of_the_losses(t1: float, t2: float) -> None:
    slopes = [abs(5 * (-t1 - bottom) - math.tanh(-3 * t2)) for bottom in (-0.7, 0.7)]
    assume(abs(t2) > 1e-3)
    assume(min(slopes) > 1e-2)  # the logarithm curves too much for a difference
    gradients, step = task_gradients(point(t1, t2)), 1e-6
    for i, shift in enumerate((point(step, 0.0), point(0.0, step))):
        rise = losses(point(t1, t2) + shift) - losses(point(t1, t2) - shift)
        torch.testing.assert_close(gradients[:, i], rise / (2 * step), rtol=1e-5, atol=1e-5)


def test_no_direction_lowers_both_losses_on_the_pareto_set() -> None:
    norms = [min_norm_update(gradients).norm() for gradients in task_gradients(pareto_set(101))]
    assert max(norms) < 1e-12


def test_along_the_pareto_set_one_loss_falls_as_the_other_rises() -> None:
    changes = losses(curve()).diff(dim=0)
    assert (changes[:, 0] < 0).all()
    assert (changes[:, 1] > 0).all()


@settings(deadline=None)
@given(t1=coordinate, t2=below)
def test_every_point_of_the_bowls_is_no_better_than_some_point_of_the_set(
    t1: float, t2: float
) -> None:
    found = losses(point(t1, t2))
    # Its neighbours on the set lie 1e-4 apart, where the losses change by less than 1e-3.
    assert (losses(curve()) <= found + 1e-3).all(dim=1).any()


@settings(deadline=None)
@given(t1=coordinate, t2=above)
def test_above_the_bowls_no_point_dominates_the_set(t1: float, t2: float) -> None:
    assert (losses(curve()) < 0).all()
    assert losses(point(t1, t2)).amax() >= 0


@pytest.mark.parametrize("learning_rate", [1e-2, 1e-5])
def test_a_run_beside_others_takes_the_steps_it_takes_alone(learning_rate: float) -> None:
    print("seed", torch.seed())
    drawn = (3 * torch.rand(2, dtype=torch.float64) - 1.5).tolist()
    # On a valley's floor some slopes are 0, and stay so in small steps while others change.
    floor = (0.7 + math.tanh(2.7) / 5, 0.9)
    starts = torch.tensor([drawn, floor], dtype=torch.float64)
    combines = list(methods().values())
    paths = torch.stack(list(descend(combines, starts, steps=20, learning_rate=learning_rate)))
    assert torch.equal(paths[0], starts.expand(len(combines), 2, 2))
    for m, combine in enumerate(combines):
        for s in range(2):
            alone = adam_alone(combine, starts[s], 20, learning_rate)
            torch.testing.assert_close(paths[-1, m, s], alone, rtol=0, atol=1e-9)


def adam_alone(combine: Combine, start: Tensor, steps: int, learning_rate: float) -> Tensor:
    parameter = nn.Parameter(start.clone())
    optimizer = torch.optim.Adam([parameter], lr=learning_rate)
    for _ in range(steps):
        parameter.grad = combine(task_gradients(parameter))
        optimizer.step()
    return parameter.detach()


def test_gradient_descent_sticks_from_two_starts_and_gradops_reaches_the_set_from_all() -> None:
    starts = torch.tensor(STARTS, dtype=torch.float64)
    names = ["gradient descent", "GradOPS alpha -5"]
    final = walk(names, starts, STEPS, LEARNING_RATE)
    outcomes = ["stuck", "on the set", "stuck", "on the set", "on the set", "on the set"]
    assert [run.outcome for run in final] == outcomes
    assert all(run.t2 == pytest.approx(-0.806, abs=0.003) for run in final[3:])


def test_the_smaller_alpha_the_lower_the_loss_of_the_dominated_task() -> None:
    first, second = task_gradients(point(-0.7, -0.6)).norm(dim=1)  # on the way
    assert first > 4 * second
    names = [f"GradOPS alpha {alpha}" for alpha in ALPHAS]
    final = walk(names, point(*STARTS[1])[None], 300, 0.01)
    assert [run.outcome for run in final] == ["on the set"] * 4
    assert all(after - before > 0.01 for before, after in pairwise(run.loss_2 for run in final))


def path_to(*points: tuple[float, float]) -> Tensor:
    """One method's path from one start, [N, 1, 1, 2]."""
    return torch.tensor(points, dtype=torch.float64)[:, None, None]


@pytest.mark.parametrize(
    ("t2", "outcome"),
    [([0.5, 0.4, 0.3, 0.2, 0.1], "on its way"), ([0.5, 0.4, 0.3, 0.2, 0.2001], "stuck")],
)
def test_a_run_off_the_set_is_stuck_where_its_last_quarter_brings_it_no_nearer(
    t2: list[float], outcome: str
) -> None:
    (final,) = judge(["any"], path_to(*((0.0, value) for value in t2)), 0.1)
    assert final.outcome == outcome
    assert (final.start_t2, final.t2) == (0.5, t2[-1])
    assert final.distance == pytest.approx(t2[-1] + 0.8044, abs=1e-4)


@pytest.mark.parametrize(("off", "outcome"), [(5e-4, "on the set"), (5e-3, "stuck")])
def test_a_run_counts_as_on_the_set_within_a_thousandth(off: float, outcome: str) -> None:
    t1, t2 = curve()[5_000].tolist()
    (final,) = judge(["any"], path_to((t1, t2 + off), (t1, t2 + off)), 0.1)
    assert final.outcome == outcome
    assert final.distance == pytest.approx(off, rel=1e-2)
    assert final.min_norm == pytest.approx(2 * off, rel=0.1)


def test_a_point_far_from_the_set_is_not_on_it_though_its_gradients_cancel() -> None:
    (final,) = judge(["any"], path_to((0.7, 1e-9), (0.7, 1e-9)), 0.1)
    assert final.min_norm < 1e-6
    assert final.outcome == "stuck"


def test_a_short_run_writes_picture_table_and_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "folder"
    main(["--out", str(out), "--steps", "20"])
    assert (out / "trajectories.png").read_bytes().startswith(b"\x89PNG")
    with (out / "final_points.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == [name for name in methods() for _ in STARTS]
    for row in rows:
        t1, t2 = float(row["t1"]), float(row["t2"])
        expected = pytest.approx(losses_as_printed(t1, t2), abs=1e-9)
        assert (float(row["loss_1"]), float(row["loss_2"])) == expected
        moved = math.dist((t1, t2), (float(row["start_t1"]), float(row["start_t2"])))
        assert 0 < moved < 20 * 1e-3 * 2**0.5 * 1.1
    printed = capsys.readouterr().out
    assert "step 20 of 20" in printed
    assert "GradOPS alpha -5: 0 of 3 reach the set; from (-0.85, 0.75)" in printed


def test_findings_say_where_each_run_ended() -> None:
    numbers = (0.9, 0.5, 0.1234567, -0.8, -1.0, -2.0, 0.0, 0.0)
    final = [FinalPoint("A", *numbers, "on the set"), FinalPoint("A", *numbers, "stuck")]
    assert findings(final) == [
        "A: 1 of 2 reach the set; from (0.9, 0.5) on the set at (0.123, -0.800), "
        "from (0.9, 0.5) stuck at (0.123, -0.800)"
    ]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--steps", "0"], "--steps: needs a whole number of at least 1, got '0'"),
        (["--steps", "2.5"], "--steps: needs a whole number of at least 1, got '2.5'"),
        (["--learning-rate", "0"], "--learning-rate is 0.0; it must be above 0"),
        (["--learning-rate", "nan"], "--learning-rate is nan; it must be above 0"),
    ],
)
def test_settings_that_cannot_be_walked_are_refused(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*arguments, "--out", str(tmp_path)])
    assert complaint in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_refused_before_the_walk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(SystemExit, match="2"):
        main(["--out", str(blocked), "--steps", "1"])
    captured = capsys.readouterr()
    assert f"--out {blocked} cannot be written" in captured.err
    assert "step" not in captured.out
