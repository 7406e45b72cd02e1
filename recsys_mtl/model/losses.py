"""Masked binary cross-entropy as a share of the global, possibly weighted, mean.

B batch rows of this worker, T tasks.
"""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def task_losses(
    logits: Tensor,
    labels: Tensor,
    label_mask: Tensor,
    weight_sums: Tensor,
    label_weights: Tensor | None = None,
) -> Tensor:
    """[T] This worker's share of each task's mean loss over the global batch.

    The shares of all workers add up to the (weighted) mean over all labelled rows, so summed
    gradients are the gradients of that mean, however unevenly the labels lie. A task without a
    labelled row anywhere has loss and gradient 0.

    Args:
        logits: [B, T]
        labels: [B, T] 0 or 1, anything finite where masked.
        label_mask: [B, T] bool, True where the label is known.
        weight_sums: [T] the sum of the labelled rows' weights over the global batch: their number
            without `label_weights`.
        label_weights: [B, T] how much each row counts, 0 where masked; None counts each once.
    """
    # Masked before the loss and not after: 0 times an infinite gradient would be NaN.
    known = torch.where(label_mask, logits, 0.0)
    losses = binary_cross_entropy_with_logits(known, labels.to(logits.dtype), reduction="none")
    losses = torch.where(label_mask, losses, 0.0)
    if label_weights is not None:
        losses = losses * label_weights
    return losses.sum(dim=0) / torch.where(weight_sums > 0, weight_sums, 1)
