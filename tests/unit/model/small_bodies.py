"""Bodies small enough to hold every gradient of theirs to plain autograd, built-in and odd ones."""

import torch
from torch import Tensor, nn

from recsys_mtl.model.bodies.build import BodyFactory, build_body
from recsys_mtl.model.bodies.contract import BodyInputs, BodyShape, DropoutMasks, MultiTaskBody
from recsys_mtl.model.bodies.mixture_of_experts import MixtureOfExperts
from recsys_mtl.model.bodies.progressive_layered_extraction import ProgressiveLayeredExtraction
from recsys_mtl.model.bodies.shared_bottom import SharedBottom

# B batch rows, E columns of pooled embeddings, F dense inputs, T tasks
TASK_NAMES = ("purchase", "cart", "wish")


def shape_of(pooled_columns: int = 8, dense_columns: int = 3, num_tasks: int = 3) -> BodyShape:
    return BodyShape(pooled_columns, dense_columns, TASK_NAMES[:num_tasks])


def shared_bottom(
    *widths: int, own: tuple[int, ...] = (), heads: tuple[int, ...] = (5,)
) -> BodyFactory:
    """A shared bottom whose layers at the depths `own` are task-specific."""
    layers = [f"bottom.layers.{depth}" for depth in own]
    return lambda shape: SharedBottom(shape, widths, heads, layers)


def mmoe(experts: int, *widths: int, heads: tuple[int, ...] = (5,)) -> BodyFactory:
    return lambda shape: MixtureOfExperts(shape, experts, widths, heads)


def ple(
    levels: int, shared: int, own: int, *widths: int, heads: tuple[int, ...] = (5,)
) -> BodyFactory:
    """Levels of `shared` experts, and `own` ones per task."""
    return lambda shape: ProgressiveLayeredExtraction(shape, levels, shared, own, widths, heads)


class TiedBody(MultiTaskBody):
    """What the built-in bodies have not: a matrix used on both sides of the representation, above
    it by the first two tasks alone; a part that the last task alone reads; a part that is a dense
    input; a shared parameter above that is used in no layer below."""

    def __init__(self, shape: BodyShape) -> None:
        super().__init__()
        self.first, self.tied = nn.Linear(shape.input_width, 6), nn.Linear(6, 6)
        self.scale = nn.Parameter(torch.tensor([0.7]))
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in shape.task_names)
        self.names = shape.task_names

    def representation(self, inputs: BodyInputs, masks: DropoutMasks) -> tuple[Tensor, ...]:
        hidden = torch.tanh(self.first(torch.cat(inputs, dim=1)))
        return hidden, torch.tanh(self.tied(hidden)), inputs.dense

    def logits(self, representation: tuple[Tensor, ...], task: int, masks: DropoutMasks) -> Tensor:
        hidden, mixed, dense = representation
        read = mixed if task == len(self.names) - 1 else self.tied(hidden)
        logits: Tensor = self.heads[task](read).squeeze(1)
        return logits + self.scale * dense.sum(dim=1)

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        return {
            "first.weight": self.first.weight,
            "first.bias": self.first.bias,
            "tied.weight": self.tied.weight,
            "tied.bias": self.tied.bias,
            "scale": self.scale,
        }

    def task_parameters(self, task: int) -> dict[str, nn.Parameter]:
        head = self.heads[task]
        return {f"heads.{self.names[task]}.{name}": p for name, p in head.named_parameters()}

    def shared_layers(self) -> dict[str, tuple[str, ...]]:
        return {
            "first": ("first.weight", "first.bias"),
            "tied": ("tied.weight", "tied.bias"),
            "scale": ("scale",),
        }


BODIES: dict[str, BodyFactory] = {
    "1 layer": shared_bottom(7),
    "2 layers": shared_bottom(9, 6, heads=()),
    "4 layers": shared_bottom(9, 8, 7, 6),
    "first of 3 own": shared_bottom(9, 8, 7, own=(0,)),
    "middle of 3 own": shared_bottom(9, 8, 7, own=(1,)),
    "last of 3 own": shared_bottom(9, 8, 7, own=(2,)),
    "first and last of 3 own": shared_bottom(9, 8, 7, own=(0, 2)),
    "all of 2 own": shared_bottom(9, 6, own=(0, 1)),
    "1 expert": mmoe(1, 7),
    "4 experts": mmoe(4, 7, heads=()),
    "1 expert, 2 deep": mmoe(1, 7, 6),
    "4 experts, 2 deep": mmoe(4, 7, 6),
    "1 level": ple(1, 2, 1, 7, 6),
    "2 levels": ple(2, 1, 2, 7),
    "2 levels, 2 deep": ple(2, 2, 1, 7, 6, heads=()),
    "3 levels": ple(3, 1, 1, 7),
    "4 levels": ple(4, 1, 1, 6, heads=()),
    "tied": TiedBody,
}


def fresh_body(make: BodyFactory, shape: BodyShape) -> MultiTaskBody:
    """Initial parameters from a seed that is printed, which is torch's seed, too."""
    seed = torch.seed() % 2**31
    print("seed", seed)
    torch.manual_seed(seed)
    return build_body(make, shape, seed)


def logits_of(body: MultiTaskBody, inputs: BodyInputs, masks: DropoutMasks) -> Tensor:
    """[B, T]"""
    representation = body.representation(inputs, masks)
    logits = [body.logits(representation, task, masks) for task in range(len(TASK_NAMES))]
    return torch.stack(logits, dim=1)


def fresh_masks(body: MultiTaskBody, num_rows: int) -> dict[str, Tensor]:
    """A half of the units of each site dropped."""
    return {
        site: 2.0 * (torch.rand(num_rows, width) < 0.5)
        for site, width in body.dropout_sites().items()
    }
