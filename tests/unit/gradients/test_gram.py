import pytest
import torch
from torch import Tensor

from recsys_mtl.gradients import combine_gradients, gram_matrix
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


@pytest.mark.parametrize("num_columns", [0, 1, 21_844, 21_845, 21_846, 70_001])
def test_gram_and_combination_cover_every_column(num_columns: int) -> None:
    gradients = draw(3, num_columns)
    coefficients = draw(3, dtype=torch.float64)
    exact = gradients.double()
    torch.testing.assert_close(gram_matrix(gradients), exact @ exact.T)
    torch.testing.assert_close(
        combine_gradients(gradients, coefficients), (coefficients @ exact).float()
    )


def test_gram_is_accurate_for_long_random_gradients() -> None:
    assert worst_error(draw(3, 1_400_003)) < 5e-10


def test_gram_is_accurate_where_all_entries_are_alike() -> None:
    print("seed", torch.seed())
    # Every partial sum rounds the same way, so errors add up instead of cancelling.
    assert worst_error(torch.rand(3, 1).expand(3, 1_400_003)) < 5e-10


def test_gram_is_accurate_where_float32_squares_underflow_or_overflow() -> None:
    gradients = draw(3, 200_000) * torch.tensor([[1e-30], [1.0], [1e30]])
    assert worst_error(gradients) < 5e-10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gradients_lose_nothing_further(dtype: torch.dtype) -> None:
    gradients = draw(3, 150_000).to(dtype)
    assert worst_error(gradients) < 5e-10
    update = combine_gradients(gradients, torch.ones(3, dtype=torch.float64))
    assert update.dtype == torch.float32
    assert torch.equal(update, gradients.double().sum(dim=0).float())


def test_gram_reads_a_strided_view() -> None:
    padded = draw(3, 128)
    assert torch.equal(gram_matrix(padded[:, :101]), gram_matrix(padded[:, :101].contiguous()))


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
