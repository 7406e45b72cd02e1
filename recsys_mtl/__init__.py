"""Multi-task training of recommendation models with GradOPS over sharded embedding tables.

The way of one batch, and where each part of it lives:

    Parquet log -> plan -> ClickBatch -> pooled embeddings -> bottom -> heads -> losses [T]
        data/                            distributed/         model/
    -> task gradients [T, P], summed -> Gram [T, T] -> coefficients [T] -> updates -> record
        worker/                         gradients/            worker/, distributed/  metrics/

cli.py        recsys-mtl
commands/     its commands, a file each
train.py      the loop, the step, the evaluation: start reading here
driver/       a configuration to a finished run: workers on Ray, or the driver's own process
worker/       what one worker holds and does besides the step itself
exporter/     the run's Prometheus endpoint
serving/      a trained run as files, and what scores with them: no Ray, no TorchRec
metrics/      AUC, step records, the trace and its picture
distributed/  tables cut over workers, and sums over them
model/        the networks, from pooled embeddings to losses
gradients/    how the tasks' gradients become one update: pure mathematics
data/         Parquet click logs to batches
config/       every setting of a run, and the file they are read from

`gradops` is the method alone, for any training loop.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys_mtl.gradients import gradops

__all__ = ["gradops"]


def __getattr__(name: str) -> Any:
    # Torch takes seconds to import, and the exporter needs none of it.
    if name in __all__:
        from recsys_mtl import gradients

        return getattr(gradients, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
