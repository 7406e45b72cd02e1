"""A method is asked for weights with what it needs alone, and remembers steps that were taken."""

import math
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from recsys_mtl.gradients.methods.contract import (
    Diagnostic,
    Evidence,
    Method,
    MethodState,
    TaskWeighting,
)
from recsys_mtl.worker import weighing
from recsys_mtl.worker.weighing import TaskWeigher

# T tasks, L layers of the shared parameters
TASKS, LAYERS, SEED = 3, 2, 11
TAKEN, SKIPPED = torch.tensor(False), torch.tensor(True)
ALL_LABELLED = torch.ones(TASKS, dtype=torch.bool)

pytestmark = pytest.mark.usefixtures("alone")


@dataclass
class Asked:
    """A method that counts how often its weights were used, and keeps what it was asked."""

    needs: frozenset[str]
    weights: Tensor = field(default_factory=lambda: numbers(1.0, 2.0, 3.0))
    evidence: list[Evidence] = field(default_factory=list)

    def weigh_tasks(
        self, evidence: Evidence, state: MethodState
    ) -> tuple[TaskWeighting, MethodState]:
        self.evidence.append(evidence)
        weighting = TaskWeighting(-self.weights, self.weights, {"asked": state["times"] + 1})
        return weighting, {"times": state["times"] + 1, "sums": state["sums"] + self.weights}

    def weigher(self) -> TaskWeigher:
        def initial_state(num_tasks: int) -> MethodState:
            return {
                "times": torch.zeros((), dtype=torch.int64),
                "sums": torch.zeros(num_tasks, dtype=torch.float64),
            }

        told = (Diagnostic("asked", "How often the method was asked.", per_task=False),)
        method = Method("asked", self.needs, self.weigh_tasks, initial_state, told)
        return TaskWeigher(method, TASKS, SEED, torch.device("cpu"))


def asked_for(*needs: str) -> Asked:
    return Asked(frozenset(needs))


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def fresh_gram() -> Tensor:
    print("seed", torch.seed())
    rows = torch.randn(TASKS, 5, dtype=torch.float64)
    return rows @ rows.T


def fresh_evidence() -> dict[str, Tensor]:
    """Losses as a step has them, float32, and the Gram by layers."""
    gram = fresh_gram()
    return {
        "losses": torch.rand(TASKS),
        "gram": gram,
        "layer_grams": torch.stack([0.25 * gram, 0.75 * gram]),
    }


def spoilt(tensor: Tensor, value: float) -> Tensor:
    changed = tensor.clone()
    changed.view(-1)[-1] = value
    return changed


@pytest.mark.parametrize(
    "needs",
    [(), ("losses",), ("gram",), ("layer_grams",), ("losses", "layer_grams"), ("losses", "gram")],
)
def test_evidence_holds_exactly_what_the_method_needs(needs: tuple[str, ...]) -> None:
    method, known = asked_for(*needs), fresh_evidence()
    labelled = torch.tensor([True, False, True])
    method.weigher().weigh(7, labelled, **known)
    (evidence,) = method.evidence
    assert (evidence.step, evidence.seed) == (7, SEED)
    assert torch.equal(evidence.labelled, labelled)
    for name, tensor in known.items():
        given = getattr(evidence, name)
        if name not in needs:
            assert given is None
        else:
            assert given.dtype == torch.float64
            assert torch.equal(given, tensor.double())


def test_a_step_that_lacks_what_the_method_needs_is_a_fault() -> None:
    with pytest.raises(AssertionError, match="the step computes what the method needs"):
        asked_for("gram", "losses").weigher().weigh(0, ALL_LABELLED, gram=fresh_gram())


def test_weights_coefficients_and_diagnostics_are_the_method_s() -> None:
    found = asked_for("gram").weigher().weigh(0, ALL_LABELLED, **fresh_evidence())
    assert found.weighting.weights.tolist() == [1.0, 2.0, 3.0]
    assert found.weighting.coefficients.tolist() == [-1.0, -2.0, -3.0]
    assert found.weighting.diagnostics["asked"] == 1
    assert found.finite


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["losses", "gram", "layer_grams"])
def test_evidence_that_is_not_finite_gives_zero_weights_and_says_so(
    place: str, value: float
) -> None:
    method, known = asked_for("losses", "gram", "layer_grams"), fresh_evidence()
    known[place] = spoilt(known[place], value)
    found = method.weigher().weigh(0, ALL_LABELLED, **known)
    assert not found.finite
    assert not found.weighting.weights.any()
    assert not found.weighting.coefficients.any()
    # What the method is given is finite always: not even a method that it would hang sees it.
    (evidence,) = method.evidence
    for name in known:
        assert not getattr(evidence, name).any()
    assert found.gram is known["gram"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("needs", [(), ("losses",), ("gram",)])
def test_weights_that_are_not_finite_become_zero_and_say_so(
    needs: tuple[str, ...], value: float
) -> None:
    method = asked_for(*needs)
    method.weights = numbers(1.0, value, 3.0)
    found = method.weigher().weigh(0, ALL_LABELLED, **fresh_evidence())
    assert not found.finite
    assert not found.weighting.weights.any()
    assert not found.weighting.coefficients.any()


def test_what_the_method_does_not_read_may_be_anything() -> None:
    known = fresh_evidence()
    known["losses"] = spoilt(known["losses"], math.nan)
    assert asked_for("gram").weigher().weigh(0, ALL_LABELLED, **known).finite


@pytest.mark.parametrize("found_by_first", [True, False])
def test_every_worker_has_the_first_one_s_numbers_and_decision(
    monkeypatch: pytest.MonkeyPatch, found_by_first: bool
) -> None:
    theirs = numbers(4.0, 5.0, 6.0, 7.0, 8.0, 9.0, float(found_by_first))
    monkeypatch.setattr(weighing, "broadcast_from_first", lambda tensor: tensor.copy_(theirs))
    found = asked_for("gram").weigher().weigh(0, ALL_LABELLED, **fresh_evidence())
    assert found.finite == found_by_first
    assert torch.equal(found.weighting.weights, found_by_first * theirs[:3])
    assert torch.equal(found.weighting.coefficients, found_by_first * theirs[3:6])


def test_a_method_without_evidence_is_asked_by_every_worker_for_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none_wanted(tensor: Tensor) -> Tensor:
        raise AssertionError("nothing that workers could see differently was read")

    monkeypatch.setattr(weighing, "broadcast_from_first", none_wanted)
    assert asked_for().weigher().weigh(0, ALL_LABELLED).finite


def test_a_step_that_is_taken_is_remembered_and_one_that_is_skipped_is_not() -> None:
    weigher = asked_for("gram").weigher()
    before = {name: tensor.clone() for name, tensor in weigher.state_dict().items()}
    found = weigher.weigh(0, ALL_LABELLED, gram=fresh_gram())
    weigher.commit(found, SKIPPED)
    after = weigher.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    weigher.commit(found, TAKEN)
    assert weigher.state["times"] == 1
    assert weigher.state["sums"].tolist() == [1.0, 2.0, 3.0]
    assert weigher.cached.tolist() == [[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]]


def test_asking_alone_changes_nothing() -> None:
    weigher = asked_for("gram").weigher()
    for _ in range(2):
        weigher.weigh(0, ALL_LABELLED, gram=fresh_gram())
    assert weigher.state["times"] == 0
    assert weigher.cached.eq(1).all()


def test_a_task_without_gradient_keeps_its_weights_of_the_refresh_before() -> None:
    method = asked_for("gram")
    weigher = method.weigher()
    weigher.commit(weigher.weigh(0, ALL_LABELLED, gram=fresh_gram()), TAKEN)
    gram = fresh_gram()
    gram[1] = gram[:, 1] = 0.0
    method.weights = numbers(5.0, 0.0, 7.0)
    weigher.commit(weigher.weigh(1, ALL_LABELLED, gram=gram), TAKEN)
    assert weigher.cached.tolist() == [[5.0, 2.0, 7.0], [-5.0, -2.0, -7.0]]


@pytest.mark.parametrize("method_finds", [0.0, math.nan])
def test_a_step_without_weights_refreshes_nothing(method_finds: float) -> None:
    method = asked_for("gram")
    weigher = method.weigher()
    weigher.commit(weigher.weigh(0, ALL_LABELLED, gram=fresh_gram()), TAKEN)
    method.weights = torch.full((TASKS,), method_finds, dtype=torch.float64)
    weigher.commit(weigher.weigh(1, ALL_LABELLED, gram=fresh_gram()), TAKEN)
    assert weigher.cached.tolist() == [[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]]


def test_weights_made_without_products_are_not_kept_for_later_steps() -> None:
    weigher = asked_for("losses").weigher()
    weigher.commit(weigher.weigh(0, ALL_LABELLED, torch.rand(TASKS)), TAKEN)
    assert weigher.state["times"] == 1
    assert weigher.cached.eq(1).all()


def test_between_refreshes_the_cached_weights_are_handed_out_and_the_method_is_left_alone() -> None:
    method = asked_for("gram")
    weigher = method.weigher()
    assert weigher.weigh_as_before().weighting.coefficients.tolist() == [1.0, 1.0, 1.0]
    weigher.commit(weigher.weigh(0, ALL_LABELLED, gram=fresh_gram()), TAKEN)
    found = weigher.weigh_as_before()
    weigher.commit(found, TAKEN)
    assert found.weighting.weights.tolist() == [1.0, 2.0, 3.0]
    assert found.weighting.coefficients.tolist() == [-1.0, -2.0, -3.0]
    assert not found.weighting.diagnostics
    assert found.finite
    assert found.gram is None
    assert len(method.evidence) == 1
    assert weigher.state["times"] == 1


def test_weights_handed_out_stay_when_the_cache_is_refreshed() -> None:
    method = asked_for("gram")
    weigher = method.weigher()
    found = weigher.weigh_as_before()
    weigher.commit(weigher.weigh(0, ALL_LABELLED, gram=fresh_gram()), TAKEN)
    assert found.weighting.weights.tolist() == [1.0, 1.0, 1.0]


def test_state_goes_on_from_what_was_saved_by_name() -> None:
    first, second = asked_for("gram").weigher(), asked_for("gram").weigher()
    first.commit(first.weigh(0, ALL_LABELLED, gram=fresh_gram()), TAKEN)
    saved = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    assert saved.keys() == {"method.times", "method.sums", "cached_weights_and_coefficients"}
    for name, tensor in second.state_dict().items():
        tensor.copy_(saved[name])  # as loading a checkpoint does, in place
    for weigher in (first, second):
        assert weigher.weigh_as_before().weighting.weights.tolist() == [1.0, 2.0, 3.0]
        found = weigher.weigh(1, ALL_LABELLED, gram=fresh_gram())
        assert found.weighting.diagnostics["asked"] == 2
        weigher.commit(found, TAKEN)
    resumed = second.state_dict()
    for name, tensor in first.state_dict().items():
        assert torch.equal(resumed[name], tensor), name
