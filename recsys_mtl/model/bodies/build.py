"""From the configuration to a body."""

from collections.abc import Callable
from typing import assert_never

import torch

from recsys_mtl.config import (
    MixtureOfExpertsBody,
    Model,
    ProgressiveLayeredExtractionBody,
    SharedBottomBody,
)
from recsys_mtl.model.bodies.contract import BodyShape, MultiTaskBody
from recsys_mtl.model.bodies.mixture_of_experts import MixtureOfExperts
from recsys_mtl.model.bodies.progressive_layered_extraction import ProgressiveLayeredExtraction
from recsys_mtl.model.bodies.shared_bottom import SharedBottom

BodyFactory = Callable[[BodyShape], MultiTaskBody]
"""Makes a body for so many inputs and these tasks; a subclass of MultiTaskBody is one."""


def body_factory(model: Model) -> BodyFactory:
    """What makes the configured body."""
    match model.body:
        case SharedBottomBody():
            return lambda shape: SharedBottom(
                shape,
                model.bottom_hidden_sizes,
                model.head_hidden_sizes,
                model.task_specific_layers,
            )
        case MixtureOfExpertsBody() as mmoe:
            return lambda shape: MixtureOfExperts(
                shape, mmoe.experts, mmoe.expert_hidden_sizes, model.head_hidden_sizes
            )
        case ProgressiveLayeredExtractionBody() as ple:
            return lambda shape: ProgressiveLayeredExtraction(
                shape,
                ple.levels,
                ple.shared_experts,
                ple.task_experts,
                ple.expert_hidden_sizes,
                model.head_hidden_sizes,
            )
        case _:
            assert_never(model.body)


def build_body(make: BodyFactory, shape: BodyShape, seed: int) -> MultiTaskBody:
    """A body on the CPU whose initial parameters follow from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(shape)
