"""Task gradients to test with: every rank, norms over 8 decades, near-parallel and degenerate.

Hypothesis draws the structure and a seed, and prints both where a test fails.
"""

# T tasks, P shared parameters

import math

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from recsys_mtl.gradients import gradops_reference, zero_sine_squared_for

SMALLEST_SINE = {torch.float32: 1e-3, torch.float64: 1e-6}


@st.composite
def gradient_sets(draw: st.DrawFn, dtype: torch.dtype, max_tasks: int = 8) -> Tensor:
    """Gradients [T, P] of up to `max_tasks` tasks, clear of the map's discontinuities."""
    num_tasks = draw(st.integers(1, max_tasks))
    rank = draw(st.integers(1, num_tasks))
    num_parameters = draw(st.integers(rank, 40))
    kinds = st.sampled_from(["fresh", "fresh", "parallel", "opposite", "duplicate", "zero"])
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32 - 1)))
    subspace = torch.randn(rank, num_parameters, generator=generator, dtype=torch.float64)

    def fresh() -> Tensor:
        vector = torch.randn(rank, generator=generator, dtype=torch.float64) @ subspace
        return vector.div(vector.norm())

    rows = [fresh()]
    for kind in draw(st.lists(kinds, min_size=num_tasks - 1, max_size=num_tasks - 1)):
        earlier = rows[draw(st.integers(0, len(rows) - 1))]
        sine = 10 ** draw(st.floats(math.log10(SMALLEST_SINE[dtype]), math.log10(0.5)))
        match kind:
            case "fresh":
                rows.append(fresh())
            case "parallel":
                rows.append(earlier + sine * fresh())
            case "opposite":
                rows.append(-earlier + sine * fresh())
            case "duplicate":
                rows.append(earlier)
            case "zero":
                rows.append(torch.zeros_like(earlier))
    exponents = 8 * torch.rand(num_tasks, 1, generator=generator, dtype=torch.float64) - 4
    gradients = (torch.stack(rows) * 10**exponents).to(dtype)
    assume(_is_clear_of_edges(gradients))
    return gradients


def unit_rows(gradients: Tensor) -> Tensor:
    """Gradients [T, P] scaled to norm 1 in float64; zero rows stay zero."""
    gradients = gradients.double()
    norms = gradients.norm(dim=1, keepdim=True)
    return gradients / torch.where(norms > 0, norms, 1.0)


def sines(gradients: Tensor) -> Tensor:
    """Sine of each gradient to the span of all the others, [T]; 0 where it counts as inside."""
    own = _eliminations(gradients)[:, -1]
    return torch.where(own > zero_sine_squared_for(gradients.dtype) ** 0.5, own, 0.0)


def smallest_sine(gradients: Tensor) -> float:
    """The smallest sine by which a gradient counts as independent of some others, at most 1.

    Where all gradients are independent this is the smallest of their sines to all others; among
    dependent ones too it says how much a projection enlarges rounding.
    """
    limit = zero_sine_squared_for(gradients.dtype) ** 0.5
    met = _eliminations(gradients)
    return float(torch.where(met > limit, met, 1.0).amin())


def largest_sine_dropped(gradients: Tensor) -> float:
    """The largest sine that counts as zero: how far rounding left dependent gradients apart.

    The result depends on which of them spans the subspace by that much.
    """
    limit = zero_sine_squared_for(gradients.dtype) ** 0.5
    met = _eliminations(gradients)
    return float(torch.where(met > limit, 0.0, met).amax())


def _eliminations(gradients: Tensor) -> Tensor:
    """The sines met in a Gram-Schmidt of the others of each task, [T, T]: one row for a task.

    First that of each other gradient to those taken in before it, farthest first, until one
    counts as zero; last that of the task itself to all the others.
    """
    unit = unit_rows(gradients)
    tasks = torch.arange(len(unit))
    limit = zero_sine_squared_for(gradients.dtype) ** 0.5
    remainders = unit.repeat(len(unit), 1, 1)  # [task, other, P]
    met = []
    for _ in tasks[1:]:
        lengths = remainders.norm(dim=2).masked_fill(tasks[:, None] == tasks, 0.0)
        length, farthest = lengths.max(dim=1)
        met.append(length)
        directions = remainders[tasks, farthest]
        directions = directions / torch.where(length > limit, length, torch.inf)[:, None]
        for _ in range(2):  # the second pass removes the first's rounding
            parts = remainders @ directions[:, :, None]
            remainders = remainders - parts * directions[:, None, :]
    return torch.stack([*met, remainders[tasks, tasks].norm(dim=1)], dim=1)


def _is_clear_of_edges(gradients: Tensor) -> bool:
    """No product about to change sign, and no sine near the limit for linear dependence."""
    unit = unit_rows(gradients)
    cosines = unit @ unit.T
    present = unit.any(dim=1)
    if ((cosines.abs() < 1e-5) & present[:, None] & present).any():
        return False
    limit, above = zero_sine_squared_for(gradients.dtype), SMALLEST_SINE[gradients.dtype] ** 2
    squared = _eliminations(gradients).square()
    if ((squared > limit / 100) & (squared < above)).any():
        return False
    kept = present & ~((cosines < 0).any(dim=1) & (sines(gradients) == 0))
    if kept.any():
        return True
    lenient, *_ = gradops_reference(gradients, alpha=0.0, zero_sine_squared=limit / 100)
    strict, *_ = gradops_reference(gradients, alpha=0.0, zero_sine_squared=above)
    return torch.equal(lenient, strict)
