"""AUC, log-loss and calibration against scikit-learn, and how their sums merge."""

import secrets

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score  # type: ignore[import-untyped]
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from recsys_mtl.metrics.auc import (
    AucHistogram,
    BinarySums,
    auc_from_histogram,
    summarise_binary,
)

CPU = torch.device("cpu")
TOLERANCE = 1e-4


def fresh_generator() -> np.random.Generator:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return np.random.default_rng(seed)


def draw_scores(
    rng: np.random.Generator, rows: int, positives: int, centre: float, spread: float
) -> tuple[Tensor, Tensor]:
    """Logits in centre..centre + spread, higher for the positives, and labels: [rows, 1] each."""
    labels = np.arange(rows) < positives
    shape = rng.uniform(1.0, 6.0)
    place = np.where(labels, rng.beta(shape, 2.0, rows), rng.beta(2.0, shape, rows))
    logits = torch.tensor(centre + spread * place, dtype=torch.float32)
    order = torch.from_numpy(rng.permutation(rows))
    return logits[order, None], torch.from_numpy(labels)[order, None].to(torch.int8)


def everything(labels: Tensor) -> Tensor:
    return torch.ones_like(labels, dtype=torch.bool)


def our_auc(logits: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
    histogram = AucHistogram(logits.shape[1], logits.device)
    histogram.update(logits, labels, everything(labels) if mask is None else mask)
    return auc_from_histogram(histogram.state())


def their_auc(logits: Tensor, labels: Tensor) -> float:
    return float(roc_auc_score(labels.flatten().numpy(), logits.flatten().double().numpy()))


@pytest.mark.parametrize("spread", [0.01, 0.2, 1.0, 12.0])
@pytest.mark.parametrize(("rows", "positives"), [(5_000, 1_500), (50_000, 50)])
def test_auc_agrees_with_scikit_learn_for_any_spread_and_for_rare_positives(
    rows: int, positives: int, spread: float
) -> None:
    rng = fresh_generator()
    for centre in rng.uniform(-8.0, 3.0, size=3):
        logits, labels = draw_scores(rng, rows, positives, centre, spread)
        assert our_auc(logits, labels).item() == pytest.approx(
            their_auc(logits, labels), abs=TOLERANCE
        )


def test_a_few_rows_far_away_do_not_spoil_the_auc_of_scores_close_together() -> None:
    rng = fresh_generator()
    logits, labels = draw_scores(rng, 50_000, 50, -4.0, 0.01)
    logits[:20] += torch.from_numpy(rng.uniform(-6.0, 6.0, (20, 1))).float()
    assert our_auc(logits, labels).item() == pytest.approx(their_auc(logits, labels), abs=TOLERANCE)


def test_scores_a_fifth_of_a_bin_apart_are_told_apart() -> None:
    rng = fresh_generator()
    labels = torch.from_numpy(rng.random((1_000, 1)) < 0.1)
    logits = rng.uniform(-8.0, 8.0) + 1e-4 * labels.double()
    assert our_auc(logits, labels).item() == 1.0
    assert our_auc(-logits, labels).item() == 0.0


@given(
    atoms=st.lists(
        st.tuples(st.integers(-1600, 1600), st.integers(0, 9), st.integers(0, 9)), min_size=1
    )
)
def test_auc_of_tied_scores_is_that_of_scikit_learn(atoms: list[tuple[int, int, int]]) -> None:
    scores = [z / 100 for z, negative, positive in atoms for _ in range(negative + positive)]
    labels = [y for _, negative, positive in atoms for y in [0] * negative + [1] * positive]
    found = our_auc(torch.tensor(scores).reshape(-1, 1), torch.tensor(labels).reshape(-1, 1))
    if 0 < sum(labels) < len(labels):
        assert found.item() == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    else:
        assert found.isnan().all()


@pytest.mark.parametrize("logit", [-40.0, -3.7, 0.0, 0.1, 16.0, 40.0])
def test_constant_scores_give_exactly_one_half(logit: float) -> None:
    rng = fresh_generator()
    labels = torch.from_numpy(rng.permutation(np.arange(9_973) < 10)).reshape(-1, 1)
    assert our_auc(torch.full(labels.shape, logit), labels).item() == 0.5


def test_separated_scores_give_exactly_one_and_reversed_ones_zero() -> None:
    labels = torch.tensor([[0], [0], [1], [1], [1]])
    logits = torch.tensor([[-0.25], [-0.249], [-0.248], [3.0], [99.0]])
    assert our_auc(logits, labels).item() == 1.0
    assert our_auc(-logits, labels).item() == 0.0


def test_a_task_with_one_class_is_nan_and_its_neighbour_is_not() -> None:
    logits = torch.tensor([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    labels = torch.tensor([[0, 0, 1], [1, 0, 1]])
    assert our_auc(logits, labels).isnan().tolist() == [False, True, True]


def test_masked_and_not_finite_rows_do_not_count_towards_auc() -> None:
    rng = fresh_generator()
    logits, labels = draw_scores(rng, 2_000, 500, -2.0, 4.0)
    expected = our_auc(logits, labels)
    nonsense = torch.tensor([[5.0], [-5.0], [float("nan")], [float("inf")], [float("-inf")]])
    mask = torch.tensor([[False], [False], [True], [True], [True]])
    found = our_auc(
        torch.cat((logits, nonsense)),
        torch.cat((labels.float(), torch.tensor([[0.0], [float("nan")], [1.0], [0.0], [1.0]]))),
        torch.cat((everything(labels), mask)),
    )
    assert torch.equal(found, expected)


def test_states_of_two_halves_sum_to_the_state_of_the_whole() -> None:
    rng = fresh_generator()
    logits = torch.from_numpy(rng.normal(-3.0, 2.0, (4_000, 3)))
    labels = torch.from_numpy(rng.random((4_000, 3)) < 0.1)
    mask = torch.from_numpy(rng.random((4_000, 3)) < 0.8)
    whole, first, second = (AucHistogram(3, CPU) for _ in range(3))
    whole.update(logits, labels, mask)
    first.update(logits[:1_234], labels[:1_234], mask[:1_234])
    second.update(logits[1_234:], labels[1_234:], mask[1_234:])
    assert torch.equal(first.state() + second.state(), whole.state())


def test_a_loaded_histogram_goes_on_where_the_saved_one_stopped() -> None:
    rng = fresh_generator()
    logits, labels = draw_scores(rng, 1_000, 300, -1.0, 3.0)
    saved = AucHistogram(1, CPU)
    saved.update(logits[:600], labels[:600], everything(labels[:600]))
    resumed = AucHistogram(1, CPU)
    resumed.load_state(saved.state())
    resumed.update(logits[600:], labels[600:], everything(labels[600:]))
    assert torch.equal(auc_from_histogram(resumed.state()), our_auc(logits, labels))
    resumed.reset()
    assert not resumed.state().any()


def test_reducing_a_state_in_place_leaves_the_histogram_as_it_was() -> None:
    histogram = AucHistogram(1, CPU)
    histogram.update(torch.zeros(3, 1), torch.tensor([[0], [1], [1]]), torch.ones(3, 1).bool())
    histogram.state().mul_(4)
    assert histogram.state()[..., 0].sum() == 6  # 3 rows, in the bins and in the cells


@pytest.mark.parametrize("sums", [AucHistogram, BinarySums])
def test_a_state_made_for_other_tasks_is_refused(sums: type[AucHistogram | BinarySums]) -> None:
    with pytest.raises(ValueError, match=r"shape \[1, .*where \[3, .*same tasks"):
        sums(3, CPU).load_state(sums(1, CPU).state())


def test_log_loss_and_calibration_agree_with_scikit_learn_over_merged_halves() -> None:
    rng = fresh_generator()
    logits = torch.from_numpy(rng.normal(-2.0, 2.0, (5_000, 2)))
    labels = torch.from_numpy((rng.random((5_000, 2)) < 0.15).astype(np.int8))
    mask = torch.from_numpy(rng.random((5_000, 2)) < 0.7)
    halves = [BinarySums(2, CPU), BinarySums(2, CPU)]
    for sums, rows in zip(halves, (slice(0, 2_000), slice(2_000, None)), strict=True):
        sums.update(logits[rows], labels[rows], mask[rows])
    summary = summarise_binary(halves[0].state() + halves[1].state())
    for task in range(2):
        known = mask[:, task]
        y, p = labels[known, task].numpy(), logits[known, task].sigmoid().numpy()
        assert summary.rows[task] == len(y)
        assert summary.positives[task] == y.sum()
        assert summary.log_loss[task].item() == pytest.approx(log_loss(y, p), rel=1e-9)
        assert summary.mean_prediction[task].item() == pytest.approx(p.mean(), rel=1e-12)
        assert summary.base_rate[task].item() == pytest.approx(y.mean(), rel=1e-12)
        assert summary.calibration[task].item() == pytest.approx(p.mean() / y.mean(), rel=1e-9)


def test_weighted_metrics_agree_with_scikit_learn_over_merged_halves() -> None:
    rng = fresh_generator()
    rows, spread = 20_000, rng.choice([0.01, 2.0])
    logits, labels = draw_scores(rng, rows, rows // 10, -2.0, spread)
    weights = torch.from_numpy(rng.exponential(0.1, (rows, 1)) * (rng.random((rows, 1)) < 0.9))
    mask = weights > 0
    states = []
    for half in (slice(0, rows // 3), slice(rows // 3, None)):
        histogram, sums = AucHistogram(1, CPU, weighted=True), BinarySums(1, CPU)
        for metric in (histogram, sums):
            metric.update(logits[half], labels[half], mask[half], weights[half])
        states.append((histogram.state(), sums.state()))
    auc_state, sums_state = (first + second for first, second in zip(*states, strict=True))
    y, p, w = (t[mask].numpy() for t in (labels, logits.double().sigmoid(), weights))
    found, summary = auc_from_histogram(auc_state), summarise_binary(sums_state)
    expected = roc_auc_score(y, p, sample_weight=w)
    assert found.item() == pytest.approx(expected, abs=TOLERANCE)
    assert summary.log_loss.item() == pytest.approx(log_loss(y, p, sample_weight=w), rel=1e-9)
    calibration = np.average(p, weights=w) / np.average(y, weights=w)
    assert summary.calibration.item() == pytest.approx(calibration, rel=1e-9)
    assert summary.weight.item() == pytest.approx(w.sum(), rel=1e-9)
    assert (summary.rows.item(), summary.positives.item()) == (len(y), y.sum())


def test_whole_weights_give_the_metrics_of_repeated_rows() -> None:
    rng = fresh_generator()
    logits, labels = draw_scores(rng, 3_000, 200, -4.0, 0.5)
    weights = torch.from_numpy(rng.integers(0, 4, (3_000, 1)))
    repeated = torch.repeat_interleave(torch.arange(3_000), weights[:, 0])
    weighted, plain = AucHistogram(1, CPU, weighted=True), AucHistogram(1, CPU)
    weighted.update(logits, labels, weights > 0, weights.float())
    plain.update(logits[repeated], labels[repeated], everything(labels[repeated]))
    assert torch.equal(weighted.state(), plain.state().double())
    assert plain.state().dtype == torch.int64
    sums = [BinarySums(1, CPU) for _ in range(2)]
    sums[0].update(logits, labels, weights > 0, weights.float())
    sums[1].update(logits[repeated], labels[repeated], everything(labels[repeated]))
    once, often = (summarise_binary(s.state()) for s in sums)
    for name in ("log_loss", "calibration", "base_rate", "weight"):
        assert getattr(once, name).item() == pytest.approx(getattr(often, name).item(), rel=1e-12)
    assert once.rows.item() == (weights > 0).sum()


def test_a_logit_that_is_not_finite_is_counted_apart_and_spoils_no_sum() -> None:
    sums = BinarySums(1, CPU)
    logits = torch.tensor([[0.0], [float("nan")], [float("inf")], [float("nan")]])
    mask = torch.tensor([[True], [True], [True], [False]])
    sums.update(logits, torch.tensor([[1.0], [1.0], [0.0], [float("nan")]]), mask)
    summary = summarise_binary(sums.state())
    assert summary.not_finite.tolist() == [2.0]
    assert (summary.rows.tolist(), summary.positives.tolist()) == ([1.0], [1.0])
    assert summary.log_loss.item() == pytest.approx(np.log(2.0))


def test_means_without_rows_and_calibration_without_positives_are_nan() -> None:
    sums = BinarySums(2, CPU)
    sums.update(torch.zeros(1, 2), torch.zeros(1, 2), torch.tensor([[True, False]]))
    summary = summarise_binary(sums.state())
    assert summary.log_loss.isnan().tolist() == [False, True]
    assert summary.calibration.isnan().all()


def test_updates_on_a_gpu_never_wait_for_it() -> None:
    # Under FakeTensorMode a value that the host would have to read does not exist.
    with FakeTensorMode():
        device = torch.device("cuda")
        logits = torch.zeros(8, 3, device=device, requires_grad=True)
        labels, mask = torch.zeros(8, 3, device=device), torch.ones(8, 3, device=device).bool()
        histogram, sums = AucHistogram(3, device), BinarySums(3, device)
        weighted, weights = AucHistogram(3, device, weighted=True), torch.ones(8, 3, device=device)
        for _ in range(2):
            histogram.update(logits, labels, mask)
            sums.update(logits, labels, mask)
            weighted.update(logits, labels, mask, weights)
            sums.update(logits, labels, mask, weights)
        assert auc_from_histogram(weighted.state()).shape == (3,)
        assert auc_from_histogram(histogram.state()).shape == (3,)
        assert summarise_binary(sums.state()).log_loss.device.type == "cuda"
