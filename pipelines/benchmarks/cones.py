"""What methods that project onto hulls, cones and balls are to do, by solvers of scipy's.

All take gradients [T, P] in float64, or their coordinates in their own span [T, T]; none of them
zero. They return the coefficients [T]. Nothing here is shared with the implementations under test.
"""

# T tasks, P parameters

import numpy as np
import torch
from scipy.optimize import brentq, nnls
from torch import Tensor

LARGE = 1e3
"""How much more a sum that is to be 1 counts than the norm that is to be small."""


def mgda(vectors: Tensor) -> Tensor:
    """The shortest convex combination: the projection of zero onto the hull.

    For whatever weight the sum has, the least squares solution is a multiple of the answer.
    """
    scale = float(vectors.norm(dim=1).min())
    system = np.vstack([vectors.T.numpy() / scale, LARGE * np.ones(len(vectors))])
    goal = np.zeros(len(system))
    goal[-1] = LARGE
    found, _ = nnls(system, goal)
    return torch.from_numpy(found / found.sum())


def upgrad(vectors: Tensor) -> Tensor:
    """The mean of every gradient's shortest sum with non-negative multiples of all of them."""
    added = [nnls(vectors.T.numpy(), -vector.numpy())[0] for vector in vectors]
    return (1 + torch.from_numpy(np.sum(added, axis=0))) / len(vectors)


def cagrad(vectors: Tensor, c: float) -> Tensor:
    """The update of the ball around the mean whose smallest product with a gradient is largest.

    The update nearest to the mean with all products of at least `gain` is a projection; the gain is
    raised until it leaves the ball. No convex combination of the gradients may be zero.
    """
    mean = vectors.mean(dim=0)
    radius = c * float(mean.norm())
    # Not torch's lstsq: its default driver gave another solution in 1 of 100 calls (torch 2.13).
    found = np.linalg.lstsq(vectors.numpy(), np.ones(len(vectors)), rcond=None)[0]
    levelled = torch.from_numpy(found)

    def added(gain: float) -> np.ndarray:
        found, _ = nnls(vectors.T.numpy(), (gain * levelled - mean).numpy())
        return np.asarray(found)

    def excess(gain: float) -> float:
        return float(np.linalg.norm(vectors.T.numpy() @ added(gain))) - radius

    largest = float(vectors.norm(dim=1).max() * mean.norm())
    gain = brentq(excess, -2 * largest, 2 * largest, xtol=1e-16 * largest, rtol=1e-15)
    return 1 / len(vectors) + torch.from_numpy(added(gain))


def imtl_g(vectors: Tensor) -> Tensor:
    """The closed form of Liu et al. 2021; its opposite where it goes against every task."""
    units = vectors / vectors.norm(dim=1, keepdim=True)
    differences, unit_differences = vectors[:1] - vectors[1:], units[:1] - units[1:]
    system = (differences @ unit_differences.T).T
    others = torch.linalg.solve(system, unit_differences @ vectors[0])
    coefficients = torch.cat([1 - others.sum(dim=0, keepdim=True), others])
    return -coefficients if (vectors @ (coefficients @ vectors) < 0).all() else coefficients
