"""Metrics of the recent training steps: what they cover, and how they are resumed."""

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from recsys_mtl.metrics.auc import (
    AucHistogram,
    BinarySums,
    auc_from_histogram,
    summarise_binary,
)
from recsys_mtl.metrics.window import WindowMetrics, WindowState

CPU = torch.device("cpu")
Batch = tuple[Tensor, Tensor, Tensor]


def random_batches(count: int) -> list[Batch]:
    """Logits, labels and masks of 8 rows and 2 tasks each."""
    generator = torch.Generator()
    print(f"seed {generator.seed()}")
    shape = (count, 8, 2)
    logits = torch.randn(shape, generator=generator)
    labels = torch.rand(shape, generator=generator) < 0.3
    masks = torch.rand(shape, generator=generator) < 0.8
    return list(zip(logits, labels, masks, strict=True))


def window_after(batches: list[Batch], *, window_steps: int) -> WindowMetrics:
    window = WindowMetrics(2, window_steps, CPU)
    for batch in batches:
        window.update(*batch)
    return window


def sums_of(batches: list[Batch]) -> dict[str, Tensor]:
    """The sums over these batches alone, in the form of the window's state."""
    histogram, binary = AucHistogram(2, CPU), BinarySums(2, CPU)
    for batch in batches:
        histogram.update(*batch)
        binary.update(*batch)
    return {"auc": histogram.state(), "binary": binary.state()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys() == {"auc", "binary"}
    assert torch.equal(found["auc"], expected["auc"])
    torch.testing.assert_close(found["binary"], expected["binary"], rtol=1e-12, atol=1e-12)


def test_window_covers_between_one_and_two_windows_of_the_latest_steps() -> None:
    batches = random_batches(10)
    for finished, covered in enumerate([1, 2, 3, 4, 5, 3, 4, 5, 3, 4], start=1):
        window = window_after(batches[:finished], window_steps=3)
        assert_same(window.state(), sums_of(batches[finished - covered : finished]))


def test_window_forgets_what_the_model_did_long_ago() -> None:
    window = WindowMetrics(1, window_steps=2, device=CPU)
    labels, mask = torch.tensor([[0], [1]]), torch.ones(2, 1).bool()
    losses = []
    for direction, auc in ((-1.0, 0.0), (1.0, 1.0)):
        for _ in range(4):
            window.update(torch.tensor([[-direction], [direction]]), labels, mask)
        state = window.state()
        assert auc_from_histogram(state["auc"]).item() == auc
        losses.append(summarise_binary(state["binary"]).log_loss.item())
    # log(1 + exp(1)) and log(1 + exp(-1))
    assert losses == pytest.approx([1.3132617, 0.3132617])


def test_a_resumed_window_repeats_an_undisturbed_one() -> None:
    batches = random_batches(9)
    undisturbed = window_after(batches[:5], window_steps=3)
    resumed = WindowMetrics(2, 3, CPU)
    resumed.load_state_dict(undisturbed.state_dict())
    for batch in batches[5:]:
        undisturbed.update(*batch)
        resumed.update(*batch)
        for name, sums in undisturbed.state().items():
            assert torch.equal(resumed.state()[name], sums), name


def test_a_window_resumed_with_fewer_steps_still_rotates() -> None:
    batches = random_batches(54)
    short = WindowMetrics(2, 2, CPU)
    short.load_state_dict(window_after(batches[:50], window_steps=100).state_dict())
    for batch in batches[50:]:
        short.update(*batch)
    # The first of the four fills the window that was loaded; the others are what is left.
    assert_same(short.state(), sums_of(batches[51:]))


def test_windows_of_two_workers_are_resumed_by_one() -> None:
    batches = random_batches(18)
    workers = [window_after(batches[rank:14:2], window_steps=4) for rank in range(2)]
    saved = [worker.state_dict() for worker in workers]
    summed: WindowState = {
        "auc": saved[0]["auc"] + saved[1]["auc"],
        "binary": saved[0]["binary"] + saved[1]["binary"],
        "steps": saved[0]["steps"],
    }
    resumed = WindowMetrics(2, 4, CPU), WindowMetrics(2, 4, CPU)
    resumed[0].load_state_dict(summed)
    resumed[1].load_state_dict(
        {
            "auc": torch.zeros_like(summed["auc"]),
            "binary": torch.zeros_like(summed["binary"]),
            "steps": summed["steps"],
        }
    )
    # The window that was saved with three steps rotates after the first of these two.
    for step in range(2):
        for rank in range(2):
            batch = batches[14 + 2 * step + rank]
            workers[rank].update(*batch)
            resumed[rank].update(*batch)
        undisturbed, after = (
            {name: sums + pair[1].state()[name] for name, sums in pair[0].state().items()}
            for pair in (workers, resumed)
        )
        assert_same(after, undisturbed)


def test_a_saved_window_does_not_change_with_later_steps() -> None:
    batches = random_batches(4)
    window = window_after(batches[:1], window_steps=3)
    saved = window.state_dict()
    before = {"auc": saved["auc"].clone(), "binary": saved["binary"].clone()}
    for batch in batches:
        window.update(*batch)
    assert torch.equal(saved["auc"], before["auc"])
    assert torch.equal(saved["binary"], before["binary"])


@pytest.mark.parametrize("part", ["auc", "binary"])
def test_a_window_made_for_other_tasks_is_refused(part: str) -> None:
    window, other = WindowMetrics(3, 2, CPU), WindowMetrics(1, 2, CPU)
    state = window.state_dict()
    if part == "auc":
        state["auc"] = other.state_dict()["auc"]
    else:
        state["binary"] = other.state_dict()["binary"]
    with pytest.raises(ValueError, match=r"shape \[1, .*where \[3, .*same tasks"):
        window.load_state_dict(state)


def test_a_window_of_weighted_rows_goes_on_as_saved() -> None:
    windows = [WindowMetrics(2, 3, CPU, weighted=True) for _ in range(2)]
    for logits, labels, mask in random_batches(5):
        weights = mask * torch.rand(mask.shape)
        windows[0].update(logits, labels, mask, weights)
    windows[1].load_state_dict(windows[0].state_dict())
    assert_same(windows[1].state(), windows[0].state())
    assert windows[1].state()["auc"].dtype == torch.float64
    summary = summarise_binary(windows[1].state()["binary"])
    assert (summary.weight < summary.rows).all()


def test_updates_on_a_gpu_never_wait_for_it() -> None:
    # Under FakeTensorMode a value that the host would have to read does not exist.
    with FakeTensorMode():
        device = torch.device("cuda")
        logits = torch.zeros(8, 3, device=device, requires_grad=True)
        labels, mask = torch.zeros(8, 3, device=device), torch.ones(8, 3, device=device).bool()
        window = WindowMetrics(3, 2, device)
        for _ in range(5):
            window.update(logits, labels, mask)
        assert window.state_dict()["steps"] == 1
        state = window.state()
        assert auc_from_histogram(state["auc"]).shape == (3,)
        assert summarise_binary(state["binary"]).log_loss.device.type == "cuda"
