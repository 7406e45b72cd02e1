"""A run's first steps once more, as plainly as torch can say them.

One process, dense tables, float64, one gradient a task by autograd, Algorithm 1 on the vectors:
nothing of sharding, flat buffers, the Gram matrix or fused optimizers.
"""

from typing import Any

import torch
from recsys_mtl.model.shared_bottom import build_dense_model, dropout_masks
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, embedding_bag

from recsys_mtl.config import RunConfig, Sgd
from recsys_mtl.config.file import load_config
from recsys_mtl.data.batch import ClickBatch
from recsys_mtl.data.features import table_sizes
from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.data.plan import plan_of
from recsys_mtl.data.stream import BatchStream
from recsys_mtl.gradients.reference import gradops_reference
from recsys_mtl.model.embeddings import initial_rows, pooled_width


def train_plainly(run_yaml: str, steps: int, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """Losses, weights and coefficients of each step [steps, T], then the bottom and every table.

    For exact runs with gradient descent on the dense part and the tables, without clipping.
    """
    config = load_config(run_yaml, overrides)
    dense = config.optimizer.dense
    assert isinstance(dense, Sgd)
    assert config.optimizer.tables.kind == "sgd"
    manifest = read_manifest(config.data.train, config.data)
    size, seed = config.training.global_batch_size, config.run.seed
    plan = plan_of(manifest, config.data, global_batch_size=size, seed=seed)
    width = pooled_width(config.data) + len(config.data.dense_features())
    bottom, heads = build_dense_model(config.model, width, len(config.task_names), seed)
    shared, private = list(bottom.double().parameters()), list(heads.double().parameters())
    tables = initial_tables(config)
    losses_of_steps, weights_of_steps, coefficients_of_steps = [], [], []
    stream = BatchStream(
        manifest, plan, config.data, rank=0, world_size=1, first_step=0, last_step=steps
    )
    with stream as batches:
        for batch in batches:
            masks = dropout_masks(
                config.model,
                seed=seed,
                step=batch.step,
                lanes=range(plan.lanes),
                rows_per_lane=plan.rows_per_lane,
                like=shared[0],
            )
            inputs = torch.cat([pooled(config, batch, tables), batch.dense.double()], dim=1)
            losses = mean_losses(heads(bottom(inputs, masks)), batch)
            parameters = [*shared, *tables.values()]
            gradients = [
                torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses
            ]
            own = torch.autograd.grad(losses.sum(), private)
            # With scope all, the tables are shared parameters like any other.
            inside = len(parameters) if config.gradients.scope == "all" else len(shared)
            vectors = torch.stack(
                [torch.cat([g.flatten() for g in task[:inside]]) for task in gradients]
            )
            update, weights, _ = gradops_reference(
                vectors, alpha=config.method.alpha, zero_sine_squared=1e-8
            )
            coefficients = torch.linalg.lstsq(vectors.T, update[:, None]).solution[:, 0]
            warm_up = min(1.0, (batch.step + 1) / (config.training.warm_up_steps + 1))
            with torch.no_grad():
                moves = update.split([p.numel() for p in parameters[:inside]])
                for parameter, step in zip(shared, moves, strict=False):
                    parameter -= warm_up * dense.learning_rate * step.view_as(parameter)
                for parameter, gradient in zip(private, own, strict=True):
                    parameter -= warm_up * dense.learning_rate * gradient
                for place, table in enumerate(tables.values(), start=len(shared)):
                    if config.gradients.scope == "all":
                        mix = moves[place].view_as(table)
                    else:
                        mix = sum(w * g[place] for w, g in zip(weights, gradients, strict=True))
                    table -= warm_up * config.optimizer.tables.learning_rate * mix
            losses_of_steps.append(losses.detach())
            weights_of_steps.append(weights)
            coefficients_of_steps.append(coefficients)
    return {
        "losses": torch.stack(losses_of_steps),
        "weights": torch.stack(weights_of_steps),
        "coefficients": torch.stack(coefficients_of_steps),
        "shared": torch.cat([p.detach().flatten() for p in shared]),
        "private": torch.cat([p.detach().flatten() for p in private]),
        "tables": {f"{name}_table": table.detach() for name, table in tables.items()},
    }


def initial_tables(config: RunConfig) -> dict[str, Tensor]:
    """Owner to its whole table."""
    features = dict(config.data.id_features())
    return {
        owner: initial_rows(
            seed=config.run.seed,
            table=place,
            total_rows=rows,
            dim=features[owner].embedding_dim or 0,
            start=0,
            stop=rows,
        )
        .double()
        .requires_grad_()
        for place, (owner, rows) in enumerate(table_sizes(config.data).items())
    }


def pooled(config: RunConfig, batch: ClickBatch, tables: dict[str, Tensor]) -> Tensor:
    """[B, E] Pooled embeddings of every feature, in the configuration's order."""
    assert batch.ids is not None
    columns = []
    for name, feature in config.data.id_features():
        values, lengths = batch.ids.bags_of(name)
        starts = torch.cumsum(lengths, 0) - lengths
        table = tables[feature.table or name]
        columns.append(embedding_bag(values, table, starts, mode=feature.pooling))
    return torch.cat(columns, dim=1)


def mean_losses(logits: Tensor, batch: ClickBatch) -> Tensor:
    """[T] Mean over the labelled rows."""
    entropies = binary_cross_entropy_with_logits(logits, batch.labels.double(), reduction="none")
    mask = batch.label_mask.double()
    return (entropies * mask).sum(dim=0) / mask.sum(dim=0)
