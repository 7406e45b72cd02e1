"""A whole training step with TorchJD's `mtl_backward` in the place of ours."""

# B rows, T tasks, E columns of all embeddings

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from recsys_mtl.config import AdamWConfig, DenseConfig, SgdConfig
from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.model.bodies.contract import BodyInputs
from recsys_mtl.model.losses import task_losses
from recsys_mtl.worker.state import Worker


def torchjd_step(name: str, worker: Worker) -> Callable[[ClickBatch], None]:
    """The step of one aggregator: lookup, forward, `mtl_backward`, Adam, one table update.

    The Jacobian of the bottom is aggregated; that of the inputs [T, B, E] is combined by the same
    weights, which is cheaper than having it in the Gram, too.

    Args:
        name: `torchjd_pcgrad`, `torchjd_gradvac`, `torchjd_cagrad`, `torchjd_imtl_g` or
            `torchjd_upgrad`.
        worker: whose model, tables and dense optimizer are used.
    """
    # Only here are they needed.
    from torchjd.aggregation import IMTLG, Aggregator, CAGrad, GradVac, PCGrad, UPGrad
    from torchjd.autojac import jac_to_grad, mtl_backward

    aggregators: dict[str, Callable[[], Aggregator]] = {
        "torchjd_pcgrad": PCGrad,
        "torchjd_gradvac": GradVac,
        "torchjd_cagrad": partial(CAGrad, c=0.5),
        "torchjd_imtl_g": IMTLG,
        "torchjd_upgrad": UPGrad,
    }
    aggregator = aggregators[name]()
    body, num_tasks = worker.model.body, len(worker.config.task_names)
    bottom = list(body.shared_parameters().values())
    own = [list(body.task_parameters(task).values()) for task in range(num_tasks)]
    parameters = [*bottom, *(parameter for task in own for parameter in task)]
    optimizer = _torch_optimizer(worker.config.optimizer.dense, parameters)

    def step(batch: ClickBatch) -> None:
        lookup = worker.model.look_up(batch)
        assert lookup is not None
        assert worker.model.tables is not None
        inputs = lookup.pooled.detach().requires_grad_()
        (representation,) = body.representation(BodyInputs(inputs, batch.dense), {})
        logits = [body.logits((representation,), task, {}) for task in range(num_tasks)]
        counts = batch.label_mask.sum(dim=0)
        stacked = torch.stack(logits, dim=1)
        losses = task_losses(stacked, batch.labels, batch.label_mask, counts)
        mtl_backward(
            list(losses),
            representation,
            tasks_params=own,
            shared_params=[*bottom, inputs],
            retain_graph=True,  # the losses come from one vector
        )
        weights = jac_to_grad(bottom, aggregator)
        jacobian: Tensor = inputs.jac  # type: ignore[attr-defined]
        embeddings = torch.tensordot(weights, jacobian, dims=1)
        optimizer.step()
        optimizer.zero_grad()
        gradient = worker.model.tables.to_shards(lookup, embeddings)
        worker.model.tables.update(lookup, gradient, clip=None, skip=torch.tensor(False))

    return step


def _torch_optimizer(
    settings: DenseConfig, parameters: list[nn.Parameter]
) -> torch.optim.Optimizer:
    """Fused, on the parameters one by one, as TorchJD's users have it."""
    if isinstance(settings, SgdConfig):
        return torch.optim.SGD(parameters, lr=settings.learning_rate, fused=True)
    if isinstance(settings, AdamWConfig):
        decay = settings.weight_decay
        return torch.optim.AdamW(
            parameters, lr=settings.learning_rate, weight_decay=decay, fused=True
        )
    return torch.optim.Adam(parameters, lr=settings.learning_rate, fused=True)
