"""Algorithm 1 of GradOPS on the gradient vectors themselves: the ground truth, slow and plain.

Vectors are projected one by one against a basis from Gram-Schmidt, in float64. Nothing here is
shared with the implementation that works on the Gram matrix.

Source: Zhu et al., "Gradient Deconfliction via Orthogonal Projections onto Subspaces For
Multi-task Learning", WSDM 2025, Algorithm 1 and Eq. 1-5.
"""

# T tasks, P shared parameters

from itertools import combinations

import torch
from torch import Tensor


def gradops_reference(
    task_gradients: Tensor, *, alpha: float, zero_sine_squared: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The update, the weights and the projected gradients of GradOPS.

    Gradients [[1, 0], [-1, 1]] with alpha 0 give the update [0.5, 1.5], the weights [1, 1] and
    the projected gradients [[0.5, 0.5], [0, 1]].

    Args:
        task_gradients: [T, P], any floating dtype, finite. A zero row is a task left out.
        alpha: the exponent of Eq. 5.
        zero_sine_squared: gradients this close to a span (squared sine) count as inside it.

    Returns:
        update [P], weights [T] and projected [T, P], float64.
    """
    gradients = task_gradients.double()
    projected = torch.stack(
        [_project(gradients, i, zero_sine_squared) for i in range(len(gradients))]
    )
    if not projected.any():
        weights = _min_norm_weights(gradients, zero_sine_squared)
        return weights @ gradients, weights, projected
    weights = _weights(_contributions(gradients, projected), projected.any(dim=1), alpha)
    return weights @ projected, weights, projected


def _project(gradients: Tensor, task: int, zero_sine_squared: float) -> Tensor:
    """g'_i (Eq. 1, 2): what remains of a conflicting gradient beside the span of the others."""
    gradient = gradients[task]
    others = torch.cat([gradients[:task], gradients[task + 1 :]])
    if not (others @ gradient < 0).any():
        return gradient
    basis = _orthonormal_basis(others, zero_sine_squared)
    remainder = _remove(basis, gradient)
    sine_squared = (remainder.norm() / gradient.norm()) ** 2
    return remainder if sine_squared > zero_sine_squared else torch.zeros_like(gradient)


def _orthonormal_basis(vectors: Tensor, zero_sine_squared: float) -> Tensor:
    """Gram-Schmidt, always on with the direction that has most left, [rank, P]."""
    basis = vectors[:0]
    remainders = vectors[vectors.any(dim=1)]
    remainders = remainders / remainders.norm(dim=1, keepdim=True)
    while len(remainders):
        longest = remainders[remainders.norm(dim=1).argmax()]
        if longest.norm() ** 2 <= zero_sine_squared:
            break
        direction = _remove(basis, longest / longest.norm())
        basis = torch.cat([basis, (direction / direction.norm())[None]])
        remainders = _remove(basis, remainders)
    return basis


def _remove(basis: Tensor, vectors: Tensor) -> Tensor:
    """Vectors [..., P] without their parts along the basis [rank, P].

    The second pass removes the rounding of the first.
    """
    for _ in range(2):
        vectors = vectors - (vectors @ basis.T) @ basis
    return vectors


def _contributions(gradients: Tensor, projected: Tensor) -> Tensor:
    """R_i = (sum_k g'_k) . g_i / |g_i|, [T] (Eq. 3); 0 for a zero gradient.

    A gradient that was projected is orthogonal to every gradient but its own, so those products
    are zero by construction and are not computed: only their rounding would be.
    """
    contributions = torch.zeros(len(gradients), dtype=torch.float64)
    for i, gradient in enumerate(gradients):
        if not gradient.any():
            continue
        for k in range(len(gradients)):
            if torch.equal(projected[k], gradients[k]):
                contributions[i] += gradients[k] @ gradient / gradient.norm()
            elif k == i:
                contributions[i] += projected[i].norm() ** 2 / gradient.norm()
    return contributions


def _weights(contributions: Tensor, kept: Tensor, alpha: float) -> Tensor:
    """w_i (Eq. 4, 5), with the means over the tasks kept: those with g'_i != 0."""
    relative = contributions[kept] / contributions[kept].mean()
    powers = relative**alpha
    weights = torch.zeros_like(contributions)
    weights[kept] = powers / powers.mean()
    return weights


def _min_norm_weights(gradients: Tensor, zero_sine_squared: float) -> Tensor:
    """Convex weights of the shortest combination, [T], by trying every set of tasks.

    For each set, least squares makes sum_i v_i g_i small and sum_i v_i large at once; where all v
    are positive, v / sum(v) is the min-norm point of the set's affine hull. The shortest of
    these points is the min-norm point of the convex hull. All 0 where that point is zero: its
    squared norm within zero_sine_squared of the longest lambda_i g_i's.
    """
    tasks = [i for i in range(len(gradients)) if gradients[i].any()]
    norms = gradients.norm(dim=1)
    best_norm, best = torch.inf, torch.zeros(len(gradients), dtype=torch.float64)
    for size in range(1, len(tasks) + 1):
        for subset in combinations(tasks, size):
            members = list(subset)
            scale = norms[members].min() / norms[members]
            unit = gradients[members] / norms[members, None]
            system = torch.cat([unit, scale[:, None]], dim=1).T
            goal = torch.zeros(len(system), 1, dtype=torch.float64)
            goal[-1] = 1.0
            values = scale * torch.linalg.lstsq(system, goal, driver="gelsd").solution[:, 0]
            if (values < 0).any():
                continue
            weights = torch.zeros_like(best)
            weights[members] = values / values.sum()
            norm = float((weights @ gradients).norm())
            if norm < best_norm:
                best_norm, best = norm, weights
    is_zero = best_norm**2 <= zero_sine_squared * float((best * norms).amax()) ** 2
    return torch.zeros_like(best) if is_zero else best
