import io
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from recsys_mtl.gradients import gram_matrix
from recsys_mtl.gradients.methods.contract import Evidence, MethodState
from recsys_mtl.gradients.methods.gradnorm import initial_state, weigh_tasks

STEPS, COLUMNS = 30, 6


class PlainGradNorm:
    """Algorithm 1 by autograd on the paper's loss, each weight with torch's own Adam."""

    def __init__(self, num_tasks: int, alpha: float, learning_rate: float) -> None:
        self.weights = [
            torch.ones((), dtype=torch.float64, requires_grad=True) for _ in range(num_tasks)
        ]
        self.initial_losses: dict[int, Tensor] = {}
        self.alpha = alpha
        # An epsilon of 0 would be 0 / 0 where a derivative is 0.
        self.adam = torch.optim.Adam(self.weights, lr=learning_rate, eps=1e-30)

    def step(self, losses: Tensor, gradients: Tensor, labelled: Tensor) -> None:
        """One update of the weights from losses [T] and gradients [T, P] of the shared layer."""
        tasks = labelled.nonzero()[:, 0].tolist()
        if not tasks:
            return
        for task in tasks:
            self.initial_losses.setdefault(task, losses[task])
        norms = torch.stack([(self.weights[i] * gradients[i]).norm() for i in tasks])
        ratios = torch.stack([losses[i] / self.initial_losses[i] for i in tasks])
        targets = norms.mean().detach() * (ratios / ratios.mean()) ** self.alpha
        self.adam.zero_grad()
        (norms - targets).abs().sum().backward()
        sum_before = sum(float(self.weights[i].detach()) for i in tasks)
        self.adam.step()  # passes over a weight without a gradient
        with torch.no_grad():
            sum_after = sum(float(self.weights[i]) for i in tasks)
            for task in tasks:
                self.weights[task] *= sum_before / sum_after


def random_steps(num_tasks: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Losses [T] that fall, gradients [T, P] of any size, and which tasks have labels [T].

    The first task has none in the first steps, and sometimes none has any.
    """
    sizes = 10 ** torch.empty(num_tasks, 1, dtype=torch.float64).uniform_(-4, 4)
    for step in range(STEPS):
        labelled = torch.rand(num_tasks) < 0.6
        labelled[0] &= step > 4
        losses = torch.rand(num_tasks, dtype=torch.float64) + 1 / (1 + step)
        gradients = torch.randn(num_tasks, COLUMNS, dtype=torch.float64) * sizes
        yield losses * labelled, gradients * labelled[:, None], labelled


def evidence(losses: Tensor, gradients: Tensor, labelled: Tensor) -> Evidence:
    """With another layer below the last one, which is not to be read."""
    last = gram_matrix(gradients)
    return Evidence(0, 0, labelled, losses=losses, layer_grams=torch.stack([7 * last, last]))


def labelled_evidence(losses: list[float], norms: list[float]) -> Evidence:
    gradients = torch.tensor(norms, dtype=torch.float64).diag()
    labelled = torch.ones(len(norms), dtype=torch.bool)
    return evidence(torch.tensor(losses, dtype=torch.float64), gradients, labelled)


def began_at(*losses: float) -> MethodState:
    state = initial_state(len(losses))
    return dict(state) | {"initial_losses": torch.tensor(losses, dtype=torch.float64)}


def test_a_hand_checked_step() -> None:
    weighting, state = weigh_tasks(labelled_evidence([2, 2], [1, 3]), began_at(2, 4), alpha=1.0)
    assert weighting.coefficients.tolist() == weighting.weights.tolist() == [1.0, 1.0]
    assert weighting.diagnostics["training_rate"].tolist() == pytest.approx([4 / 3, 2 / 3])
    assert weighting.diagnostics["target_norm"].tolist() == pytest.approx([8 / 3, 4 / 3])
    assert state["weights"].tolist() == pytest.approx([1.025, 0.975], rel=1e-12)
    assert state["initial_losses"].tolist() == [2.0, 4.0]


@pytest.mark.parametrize("num_tasks", [1, 2, 3, 5])
@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_it_is_adam_on_the_paper_s_loss(num_tasks: int, alpha: float) -> None:
    print("seed", torch.seed())
    plain, state, farthest = PlainGradNorm(num_tasks, alpha, 0.01), initial_state(num_tasks), 0.0
    for losses, gradients, labelled in random_steps(num_tasks):
        before = torch.stack(plain.weights).detach()
        weighting, state = weigh_tasks(
            evidence(losses, gradients, labelled), state, alpha=alpha, learning_rate=0.01
        )
        torch.testing.assert_close(weighting.coefficients, before, rtol=1e-9, atol=0)
        plain.step(losses, gradients, labelled)
        after = torch.stack(plain.weights).detach()
        torch.testing.assert_close(state["weights"], after, rtol=1e-9, atol=0)
        farthest = max(farthest, float((after - 1).abs().max()))
    assert num_tasks == 1 or farthest > 1e-3


def test_a_task_without_labels_stays_as_it_is_and_moves_no_other() -> None:
    print("seed", torch.seed())
    state, without = initial_state(3), initial_state(2)
    absent = torch.tensor([False, True, False])
    here = ~absent
    for _ in range(STEPS):
        losses, gradients = torch.rand(3).double(), torch.randn(3, COLUMNS).double()
        step = evidence(losses * here, gradients * here[:, None], here)
        weighting, state = weigh_tasks(step, state)
        pair = evidence(losses[here], gradients[here], here[here])
        _, without = weigh_tasks(pair, without)
        assert weighting.diagnostics["training_rate"].isnan().tolist() == absent.tolist()
        assert weighting.diagnostics["target_norm"].isnan().tolist() == absent.tolist()
    for name, values in state.items():
        assert values[absent].tolist() == initial_state(3)[name][absent].tolist()
        torch.testing.assert_close(values[here], without[name])


def test_weights_are_positive_and_sum_to_the_number_of_tasks() -> None:
    print("seed", torch.seed())
    state, lowest = initial_state(4), 1.0
    for _ in range(5):
        for losses, gradients, labelled in random_steps(4):
            step = evidence(losses, gradients, labelled)
            _, state = weigh_tasks(step, state, learning_rate=0.9)
            lowest = min(lowest, float(state["weights"].min()))
            assert state["weights"].sum().item() == pytest.approx(4)
    assert 0 < lowest < 0.1  # the floor was met


def test_the_state_keeps_its_names_shapes_and_dtypes() -> None:
    print("seed", torch.seed())
    first = state = initial_state(3)
    for losses, gradients, labelled in random_steps(3):
        _, state = weigh_tasks(evidence(losses, gradients, labelled), state)
        assert state.keys() == first.keys()
        assert {(v.shape, v.dtype) for v in state.values()} == {((3,), torch.float64)}


def test_a_run_from_a_saved_state_goes_on_bit_for_bit() -> None:
    print("seed", torch.seed())
    steps = [evidence(*step) for step in random_steps(3)]
    state, saved = initial_state(3), io.BytesIO()
    for place, step in enumerate(steps):
        if place == 10:
            torch.save(dict(state), saved)
        _, state = weigh_tasks(step, state)
    resumed = torch.load(io.BytesIO(saved.getvalue()))
    for step in steps[10:]:
        _, resumed = weigh_tasks(step, resumed)
    for name, values in state.items():
        assert torch.equal(values, resumed[name]), name


def test_losses_of_another_unit_give_the_same_weights() -> None:
    print("seed", torch.seed())
    state, scaled = initial_state(3), initial_state(3)
    for losses, gradients, labelled in random_steps(3):
        _, state = weigh_tasks(evidence(losses, gradients, labelled), state)
        tiny = evidence(losses * 2.0**-60, gradients * 2.0**-60, labelled)
        _, scaled = weigh_tasks(tiny, scaled)
    assert torch.equal(state["weights"], scaled["weights"])
    assert not torch.equal(state["weights"], torch.ones(3, dtype=torch.float64))


def test_a_task_that_learns_less_gains_weight() -> None:
    state = began_at(1, 1)
    for _ in range(20):
        _, state = weigh_tasks(labelled_evidence([1.0, 0.5], [1, 1]), state)
    assert state["weights"][0] > 1.1 > 0.9 > state["weights"][1]


def test_one_task_alone_has_nothing_to_be_weighed_against() -> None:
    state = began_at(1, 1)
    losses, gradients = torch.tensor([0.3, 0.0]), torch.tensor([[5.0], [0.0]])
    labelled = torch.tensor([True, False])
    _, after = weigh_tasks(evidence(losses.double(), gradients.double(), labelled), state)
    assert after["weights"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("losses", "norms"),
    [([0, 0], [0, 0]), ([0, 1], [0, 1]), ([1, 2], [0, 0]), ([1, 1], [0, 1]), ([1e-300, 1], [1, 1])],
)
@pytest.mark.parametrize("began", [(0, 0), (1, 1), (1e-300, 1)])
@pytest.mark.parametrize("alpha", [0.0, 1.5, 1e4])
def test_zeros_and_extremes_make_no_nan(
    losses: list[float], norms: list[float], began: tuple[float, float], alpha: float
) -> None:
    state = began_at(*began)
    for _ in range(3):
        weighting, state = weigh_tasks(labelled_evidence(losses, norms), state, alpha=alpha)
        measured = state["initial_losses"] > 0
        for name, values in state.items():
            assert values.isfinite().all(), name
        for name, values in weighting.diagnostics.items():
            assert values.isnan().tolist() == (~measured).tolist(), name
        assert state["weights"].sum().item() == pytest.approx(2)


def test_a_loss_of_zero_is_no_initial_loss() -> None:
    step = labelled_evidence([0.0, 2.0, 1.0], [0, 1, 4])
    weighting, state = weigh_tasks(step, initial_state(3))
    assert weighting.diagnostics["training_rate"].nan_to_num(-1).tolist() == [-1.0, 1.0, 1.0]
    assert weighting.diagnostics["target_norm"].nan_to_num(-1).tolist() == [-1.0, 2.5, 2.5]
    assert state["initial_losses"].tolist() == [0.0, 2.0, 1.0]
    assert state["weights"].tolist() == pytest.approx([1.0, 1.025, 0.975], rel=1e-12)
    _, state = weigh_tasks(labelled_evidence([3.0, 2.0, 1.0], [1, 1, 1]), state)
    assert state["initial_losses"].tolist() == [3.0, 2.0, 1.0]
