"""Masked binary cross-entropy as a share of the global mean.

B batch rows of this worker, T tasks.
"""

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def task_losses(logits: Tensor, labels: Tensor, label_mask: Tensor, label_counts: Tensor) -> Tensor:
    """[T] This worker's share of each task's mean loss over the global batch.

    The shares of all workers add up to the mean over all labelled rows, so summed gradients are
    the gradients of that mean, however unevenly the labels lie. A task without a labelled row
    anywhere has loss and gradient 0.

    Args:
        logits: [B, T]
        labels: [B, T] 0 or 1, anything finite where masked.
        label_mask: [B, T] bool, True where the label is known.
        label_counts: [T] labelled rows of the global batch.
    """
    losses = binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
    return (losses * label_mask).sum(dim=0) / label_counts.clamp(min=1)
