import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from recsys_mtl.gradients import combine_gradients, cpu_loops, gram_matrix
from recsys_mtl.gradients.gram import correlations


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    print("seed", torch.seed())
    return torch.randn(shape, dtype=dtype)


def worst_error(gradients: Tensor) -> float:
    exact = gradients.double() @ gradients.double().T
    norms = exact.diagonal().sqrt()
    return float(((gram_matrix(gradients) - exact).abs() / torch.outer(norms, norms)).max())


def test_gram_of_a_hand_checked_pair() -> None:
    gradients = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    expected = torch.tensor([[1.0, -1.0], [-1.0, 2.0]], dtype=torch.float64)
    assert torch.equal(gram_matrix(gradients), expected)


@pytest.mark.parametrize("num_columns", [0, 1, 511, 512, 513, 262_143, 262_144, 262_145, 600_001])
def test_gram_and_combination_cover_every_column(num_columns: int) -> None:
    gradients = draw(3, num_columns)
    coefficients = draw(3, dtype=torch.float64)
    exact = gradients.double()
    torch.testing.assert_close(gram_matrix(gradients), exact @ exact.T)
    torch.testing.assert_close(
        combine_gradients(gradients, coefficients), (coefficients @ exact).float()
    )


@pytest.mark.parametrize("num_tasks", [1, 2, 3, 4, 5, 6, 7, 16])
def test_both_passes_have_every_task_whatever_their_number(num_tasks: int) -> None:
    gradients = draw(num_tasks, 200_001).double()
    torch.testing.assert_close(gram_matrix(gradients), gradients @ gradients.T)
    coefficients = torch.randn(num_tasks, dtype=torch.float64)
    combined = combine_gradients(gradients.float(), coefficients)
    torch.testing.assert_close(combined, (coefficients @ gradients.float().double()).float())


def test_gram_is_accurate_for_long_random_gradients() -> None:
    assert worst_error(draw(3, 1_400_003)) < 5e-10


@pytest.mark.parametrize(
    "spoil",
    [
        lambda gradients: gradients**3,
        lambda gradients: gradients.bfloat16().float(),
        lambda gradients: gradients * torch.tensor([[1e-30], [1.0], [1e30]]),
        lambda gradients: torch.where(torch.rand_like(gradients) < 1e-3, 1e6, 1.0) * gradients,
    ],
    ids=["heavy tails", "rounded to bfloat16", "over- and underflow", "a few large entries"],
)
def test_gram_is_accurate_where_rounding_errors_would_add_up(
    spoil: Callable[[Tensor], Tensor],
) -> None:
    assert worst_error(spoil(draw(3, 1_400_003))) < 5e-10


def test_gram_is_accurate_where_all_entries_are_alike() -> None:
    print("seed", torch.seed())
    # Every partial sum rounds the same way, so errors add up instead of cancelling.
    assert worst_error(torch.rand(3, 1).expand(3, 1_400_003)) < 5e-10


def test_gram_is_accurate_where_only_signs_differ() -> None:
    signs = draw(4, 1_400_003).sign()
    assert worst_error(signs * torch.rand(4, 1)) < 5e-10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gradients_lose_nothing_further(dtype: torch.dtype) -> None:
    gradients = draw(3, 150_000).to(dtype)
    assert worst_error(gradients) < 5e-10
    update = combine_gradients(gradients, torch.ones(3, dtype=torch.float64))
    assert update.dtype == torch.float32
    assert torch.equal(update, gradients.double().sum(dim=0).float())


@pytest.mark.parametrize(
    "view",
    [
        lambda padded: padded[:, :101],
        lambda padded: padded[1:, 3:50],
        lambda padded: padded.T,
        lambda padded: padded[:, ::2],
        lambda padded: padded[:1].expand(3, -1),
    ],
    ids=["padded rows", "an offset", "transposed", "every second column", "one row thrice"],
)
def test_both_passes_read_a_strided_view(view: Callable[[Tensor], Tensor]) -> None:
    gradients = view(draw(4, 128))
    copy, coefficients = (
        gradients.clone(memory_format=torch.contiguous_format),
        draw(len(gradients)),
    )
    assert torch.equal(gram_matrix(gradients), gram_matrix(copy))
    combined = [combine_gradients(g, coefficients.double()) for g in (gradients, copy)]
    assert torch.equal(*combined)


def test_the_number_of_threads_changes_no_bit() -> None:
    gradients, coefficients = draw(3, 1_400_003), draw(3, dtype=torch.float64)
    before, seen = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            seen.append((gram_matrix(gradients), combine_gradients(gradients, coefficients)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(*pair) for pair in zip(*seen, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_operations_give_what_the_compiled_loops_give(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients, coefficients = draw(5, 300_001, dtype=dtype), draw(5, dtype=torch.float64)
    loops = gram_matrix(gradients), combine_gradients(gradients, coefficients)
    monkeypatch.setattr(cpu_loops, "DTYPES", ())
    operations = gram_matrix(gradients), combine_gradients(gradients, coefficients)
    for loop, operation in zip(loops, operations, strict=True):
        torch.testing.assert_close(loop, operation, rtol=1e-6, atol=1e-7)
    norms = loops[0].diagonal().sqrt()
    error = (loops[0] - operations[0]) / torch.outer(norms, norms)
    assert float(error.abs().max()) < 1e-12


def test_gram_is_symmetric_to_the_bit() -> None:
    gram = gram_matrix(draw(8, 100_003))
    assert torch.equal(gram, gram.T)


def test_autocast_lowers_neither_pass() -> None:
    gradients = draw(3, 1_000)
    coefficients = draw(3, dtype=torch.float64)
    gram, update = gram_matrix(gradients), combine_gradients(gradients, coefficients)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(gram_matrix(gradients), gram)
        assert torch.equal(combine_gradients(gradients, coefficients), update)


def test_combination_of_nearly_cancelling_gradients_is_rounded_once() -> None:
    gradient = draw(1000)
    gradients = torch.stack([gradient, -gradient + 1e-4 * draw(1000)])
    update = combine_gradients(gradients, torch.tensor([0.9, 0.9], dtype=torch.float64))
    exact = 0.9 * gradients.double().sum(dim=0)
    assert float((update - exact).norm() / exact.norm()) < 6e-8


@pytest.mark.parametrize(
    ("norms", "coefficients"), [((1e36, 1e-36), (1e-42, 1e36)), ((1e-38, 1e-38), (1e-7, 1e-7))]
)
def test_a_combination_survives_what_float32_would_lose(
    norms: tuple[float, float], coefficients: tuple[float, float]
) -> None:
    # Coefficients or products that float32 holds with few bits, or not at all.
    gradients = (draw(2, 1000).abs() + 1).double() * torch.tensor(norms)[:, None].double()
    factors, gradients = torch.tensor(coefficients, dtype=torch.float64), gradients.float()
    exact = (factors @ gradients.double()).float()
    torch.testing.assert_close(combine_gradients(gradients, factors), exact, rtol=1e-7, atol=1e-45)


def test_combination_is_written_where_asked() -> None:
    gradients, coefficients = draw(3, 1000), draw(3, dtype=torch.float64)
    out = torch.full((1000,), torch.nan)
    assert combine_gradients(gradients, coefficients, out=out) is out
    assert torch.equal(out, combine_gradients(gradients, coefficients))


@pytest.mark.parametrize(
    "out", [torch.empty(7), torch.empty(1, 8), torch.empty(8, dtype=torch.float64)]
)
def test_out_that_does_not_fit_is_refused(out: Tensor) -> None:
    with pytest.raises(ValueError, match=r"needs torch.float32 of shape \(8,\)"):
        combine_gradients(torch.ones(2, 8), torch.ones(2, dtype=torch.float64), out=out)


@pytest.mark.parametrize("coefficients", [torch.ones(3), torch.ones(1), torch.ones(2, 1)])
def test_a_number_of_coefficients_that_is_not_that_of_the_tasks_is_refused(
    coefficients: Tensor,
) -> None:
    with pytest.raises(ValueError, match="one for each of the 2 tasks"):
        combine_gradients(torch.ones(2, 8), coefficients.double())
    with pytest.raises(TypeError, match=r"pass torch\.float64"):
        combine_gradients(torch.ones(2, 8), torch.ones(2))


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_an_entry_that_is_not_finite_is_seen_in_gram_and_combination(bad: float) -> None:
    gradients, coefficients = draw(3, 1000), torch.ones(3, dtype=torch.float64)
    gradients[1, 7] = bad
    assert not gram_matrix(gradients).isfinite().all()
    assert not combine_gradients(gradients, coefficients).isfinite().all()


class LargestFloat64(TorchDispatchMode):
    """The number of elements of the largest float64 tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.dtype == torch.float64:
            self.elements = max(self.elements, result.numel())
        return result


def test_neither_pass_makes_a_float64_copy_of_the_gradients() -> None:
    # In torch operations, that is: the compiled loops make none, being out of this mode's sight.
    gradients = draw(3, 1_000_000).bfloat16()
    coefficients = draw(3, dtype=torch.float64)
    with LargestFloat64() as largest:
        gram_matrix(gradients)
        combine_gradients(gradients, coefficients)
    assert 0 < largest.elements < gradients.numel() / 4


def test_neither_pass_reads_a_value_of_a_device() -> None:
    # On the meta device there are no values: whatever the host would wait for raises.
    gradients = torch.empty(5, 1_000_003, device="meta")
    coefficients = torch.empty(5, dtype=torch.float64, device="meta")
    gram = gram_matrix(gradients)
    update = combine_gradients(gradients, coefficients)
    assert (gram.shape, gram.dtype, gram.device.type) == ((5, 5), torch.float64, "meta")
    assert (update.shape, update.dtype) == ((1_000_003,), torch.float32)


def test_correlations_of_a_hand_checked_gram_with_a_zero_gradient() -> None:
    gram = torch.tensor([[4.0, -2.0, 0.0], [-2.0, 4.0, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    norms, correlation = correlations(gram)
    assert norms.tolist() == [2.0, 2.0, 0.0]
    assert correlation.tolist() == [[1.0, -0.5, 0.0], [-0.5, 1.0, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("shape", [(5,), (0, 5), (2, 3, 5)])
def test_wrong_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one row per task"):
        gram_matrix(torch.ones(shape))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_dtype_that_is_not_floating_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match="floating dtype"):
        gram_matrix(torch.ones(2, 3, dtype=dtype))
