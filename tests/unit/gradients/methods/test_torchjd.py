"""TorchJD 0.18 gives the same coefficients on well-conditioned gradients."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torchjd.aggregation import (
    CAGradWeighting,
    GradVacWeighting,
    IMTLGWeighting,
    PCGradWeighting,
    UPGradWeighting,
)

from recsys_mtl.gradients import gram_matrix
from recsys_mtl.gradients.methods.cagrad import cagrad_coefficients
from recsys_mtl.gradients.methods.gradvac import gradvac_coefficients
from recsys_mtl.gradients.methods.imtl_g import imtl_g_coefficients
from recsys_mtl.gradients.methods.pcgrad import draw_order, pcgrad_coefficients
from recsys_mtl.gradients.methods.upgrad import upgrad_coefficients
from tests.unit.gradients.methods.grams import fresh_generator, well_conditioned

TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(params=[2, 3, 5, 8])
def grams(request: pytest.FixtureRequest) -> list[Tensor]:
    """[T, T] of 10 sets of gradients."""
    generator = fresh_generator()
    return [gram_matrix(well_conditioned(request.param, generator)) for _ in range(10)]


def drawing(places: list[Tensor]) -> object:
    """Has torch draw these permutations, one after the other, where TorchJD draws its own."""
    rest: Iterator[Tensor] = iter(places)
    return patch("torch.randperm", lambda _: next(rest))


def test_pcgrad_with_a_given_order(grams: list[Tensor]) -> None:
    for step, gram in enumerate(grams):
        order = draw_order(len(gram), 0, step)
        # TorchJD draws an order of all tasks and passes over the task itself.
        whole = [torch.cat([torch.tensor([task]), row]) for task, row in enumerate(order)]
        with drawing(whole):
            expected = PCGradWeighting()(gram)
        found = pcgrad_coefficients(gram, order).coefficients
        torch.testing.assert_close(found, expected, **TOLERANCE)


def test_gradvac_over_several_steps_with_given_orders(grams: list[Tensor]) -> None:
    weighting, targets = GradVacWeighting(beta=0.3), torch.zeros_like(grams[0])
    for step, gram in enumerate(grams):
        order = draw_order(len(gram), 0, step)
        # TorchJD draws places among the other tasks, not tasks.
        places = [torch.where(row > task, row - 1, row) for task, row in enumerate(order)]
        with drawing(places):
            expected = weighting(gram)
        found = gradvac_coefficients(gram, order, targets, beta=0.3)
        targets = found.targets
        torch.testing.assert_close(found.coefficients, expected, **TOLERANCE)


@pytest.mark.parametrize("c", [0.1, 0.5, 0.9])
def test_cagrad_by_what_the_worst_off_task_gains(grams: list[Tensor], c: float) -> None:
    for gram in grams:
        expected, found = CAGradWeighting(c=c)(gram), cagrad_coefficients(gram, c=c).coefficients
        gain, least = (float((gram @ coefficients).amin()) for coefficients in (found, expected))
        assert gain >= least - 1e-9 * float(gram.diagonal().amax())
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)  # it stops a little short


def test_imtl_g_but_for_the_sign_where_every_task_would_lose(grams: list[Tensor]) -> None:
    for gram in grams:
        expected, found = IMTLGWeighting()(gram), imtl_g_coefficients(gram)
        sign = -1.0 if found.is_reversed else 1.0
        assert bool(found.is_reversed) == bool((gram @ expected < 0).all())
        torch.testing.assert_close(found.coefficients, sign * expected, **TOLERANCE)


def test_upgrad_on_the_gram_that_torchjd_regularises(grams: list[Tensor]) -> None:
    for gram in grams:
        expected = UPGradWeighting()(gram)
        regularised = gram / gram.trace() + 1e-4 * torch.eye(len(gram), dtype=torch.float64)
        found = upgrad_coefficients(regularised).coefficients
        torch.testing.assert_close(found, expected, **TOLERANCE)
