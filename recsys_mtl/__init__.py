"""Multi-task training of recommendation models with GradOPS over sharded embedding tables.

The way of one batch, and where each part of it lives:

    Parquet log -> plan -> ClickBatch -> pooled embeddings -> bottom -> heads -> losses [T]
        data/                            distributed/         model/
    -> task gradients [T, P], summed -> Gram [T, T] -> coefficients [T] -> updates -> record
        shared_update.py                gradients/            optimizers.py, distributed/  metrics/

On the driver, which starts the run and follows it:

cli.py          recsys-mtl check | train
launch.py       a configuration to a finished run
fit.py          the workers, by Ray Train, to the end of training
cluster.py      the Ray cluster: join one, or start one
endpoint.py     the run's exporter: start it, let Prometheus find it, end it
preemption.py   SIGTERM: a checkpoint, then the end
progress.py     what a person sees of it; events.py: sentences, or JSON a line
run_folder.py   what it leaves behind; storage.py: its small files, wherever they lie
lease.py        one driver a run

On every worker, which gets a job.py from the driver:

train.py        the loop, the step, the evaluation
shared_update.py  what bottom and tables move by: a gradient a task, or one for all
worker.py       what one worker holds: model, tables, optimizers
report.py       from step records to trace, exporter and totals; feed.py: what goes to the exporter
checkpoint.py   save, commit, restore
optimizers.py   dense optimizer and learning-rate schedule

config/         every setting of a run, and the file they are read from
metrics/        AUC, trace, and the exporter, an actor of its own

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
