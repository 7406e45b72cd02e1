"""AUC, log-loss and calibration per task over the recent training steps."""

from __future__ import annotations

from typing import NamedTuple, TypedDict

import torch
from torch import Tensor

from recsys_mtl.metrics.auc import AucHistogram, BinarySums

# B batch rows, T tasks


class WindowState(TypedDict):
    """What `WindowMetrics.state_dict` returns and `WindowMetrics.load_state_dict` takes."""

    auc: Tensor
    """[2, ...] The two windows' states of `AucHistogram`, that of the current one first."""
    binary: Tensor
    """[2, T, 7] The states of `BinarySums`, in the same order."""
    steps: int
    """How often `update` was called in the current window."""


class WindowMetrics:
    """Holds sums over the latest training steps: between one and two windows of them.

    Two windows rotate: steps are added to the current one, and when it is full it becomes the
    previous one, whose sums are forgotten.

    Args:
        num_tasks: T.
        window_steps: calls of `update` in a window, at least 1.
        device: where the sums live, and the tensors given to `update` as well.
        weighted: rows count by weights, which every `update` is then given.
    """

    def __init__(
        self, num_tasks: int, window_steps: int, device: torch.device, *, weighted: bool = False
    ) -> None:
        assert window_steps >= 1
        self._window_steps = window_steps
        self._steps = 0
        self._current, self._previous = (
            _Window(
                AucHistogram(num_tasks, device, weighted=weighted), BinarySums(num_tasks, device)
            )
            for _ in range(2)
        )

    def update(
        self, logits: Tensor, labels: Tensor, mask: Tensor, weights: Tensor | None = None
    ) -> None:
        """Adds the batch of one step; the arguments are those of `AucHistogram.update`."""
        self._current.auc.update(logits, labels, mask, weights)
        self._current.binary.update(logits, labels, mask, weights)
        self._steps += 1
        # Not "==": a resumed run may have a shorter window than the one that saved its steps.
        if self._steps >= self._window_steps:
            self._current, self._previous = self._previous, self._current
            self._current.auc.reset()
            self._current.binary.reset()
            self._steps = 0

    def state(self) -> dict[str, Tensor]:
        """Returns the sums over both windows, for reduction over workers.

        Returns:
            `auc` for `auc_from_histogram`, and `binary`, [T, 7], for `summarise_binary`.
        """
        return {
            "auc": self._current.auc.state() + self._previous.auc.state(),
            "binary": self._current.binary.state() + self._previous.binary.state(),
        }

    def state_dict(self) -> WindowState:
        """Returns the state to resume from.

        The tensors of several workers may be summed: loaded by one worker, with zeros loaded by
        the others, they give the same metrics after a reduction.
        """
        windows = (self._current, self._previous)
        return {
            "auc": torch.stack([window.auc.state() for window in windows]),
            "binary": torch.stack([window.binary.state() for window in windows]),
            "steps": self._steps,
        }

    def load_state_dict(self, state: WindowState) -> None:
        """Goes on from a state that `state_dict` returned.

        Raises:
            ValueError: it has another shape, as when it was made for other tasks.
        """
        windows = (self._current, self._previous)
        for window, auc, binary in zip(windows, state["auc"], state["binary"], strict=True):
            window.auc.load_state(auc)
            window.binary.load_state(binary)
        self._steps = state["steps"]


class _Window(NamedTuple):
    auc: AucHistogram
    binary: BinarySums
