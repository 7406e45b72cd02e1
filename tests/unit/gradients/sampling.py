"""Task gradients to test with: every rank, norms over 8 decades, near-parallel and degenerate.

Hypothesis draws the structure and a seed, and prints both where a test fails.
"""

# T tasks, P shared parameters

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
        return vector / vector.norm()

    rows = [fresh()]
    for kind in draw(st.lists(kinds, min_size=num_tasks - 1, max_size=num_tasks - 1)):
        earlier = rows[draw(st.integers(0, len(rows) - 1))]
        sine = 10 ** draw(st.floats(torch.tensor(SMALLEST_SINE[dtype]).log10().item(), 0))
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
    unit = unit_rows(gradients)
    limit = zero_sine_squared_for(gradients.dtype) ** 0.5
    remainders = []
    for i in range(len(unit)):
        others = torch.cat([unit[:i], unit[i + 1 :]])
        _, values, basis = torch.linalg.svd(others, full_matrices=False)
        basis = basis[values > limit / 2]
        remainder = unit[i] - (basis @ unit[i]) @ basis
        remainder = remainder - (basis @ remainder) @ basis
        remainders.append(remainder.norm())
    values = torch.stack(remainders)
    return torch.where(values > limit, values, 0.0)


def smallest_sine(gradients: Tensor) -> float:
    """The smallest sine that is not zero, 1 where there is none."""
    values = sines(gradients)
    return float(torch.where(values > 0, values, 1.0).amin())


def _is_clear_of_edges(gradients: Tensor) -> bool:
    """No product about to change sign, and no sine near the limit for linear dependence."""
    unit = unit_rows(gradients)
    cosines = unit @ unit.T
    present = unit.any(dim=1)
    near_zero = (cosines.abs() < 1e-5) & present[:, None] & present
    if near_zero.any():
        return False
    limit = zero_sine_squared_for(gradients.dtype)
    above = SMALLEST_SINE[gradients.dtype] ** 2
    lenient = gradops_reference(gradients, alpha=0.0, zero_sine_squared=limit / 100)
    strict = gradops_reference(gradients, alpha=0.0, zero_sine_squared=above)
    return all(map(torch.equal, lenient, strict))
