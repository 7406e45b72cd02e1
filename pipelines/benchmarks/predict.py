"""What prediction costs beside the forward that it makes.

    python -m pipelines.benchmarks.predict --run runs/demo --data data/demo/eval --rounds 5

One process and one thread. `forward` scores batches that lie in memory; `predict` reads the files,
encodes, scores and writes. Both score every row of the log, in turns.
"""

import argparse
import resource
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.distributed.alone import alone
from recsys_mtl.distributed.context import WorkerContext
from recsys_mtl.driver.predict import names_of_outputs
from recsys_mtl.driver.storage import Folder
from recsys_mtl.driver.trained_run import open_run, scoring_config
from recsys_mtl.worker.evaluation import evaluation_plan, stream_of
from recsys_mtl.worker.job import PredictionJob, TrainedModel
from recsys_mtl.worker.prediction import predict_log
from recsys_mtl.worker.trained_model import load_model

from .measure import print_rows, summarise, time_interleaved


@dataclass(frozen=True)
class _Host:
    context: WorkerContext

    def advance(self, rows: int) -> None:
        """Nobody watches."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Time both, and print rows per second and the memory that was needed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", required=True, help="the folder of a run that has trained")
    parser.add_argument("--data", required=True, help="a log")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    run = open_run(options.run)
    trained = TrainedModel(scoring_config(run, ["cluster.num_workers=0"]), run.source)
    log = read_manifest(options.data, trained.config.data, labelled=False)
    with (
        alone("cpu", num_threads=1, timeout_seconds=60) as context,
        tempfile.TemporaryDirectory() as folder,
    ):
        model = load_model(trained, context)
        plan = evaluation_plan(model, log)
        with stream_of(model, log, plan, 0, plan.steps_per_epoch) as stream:
            batches = list(stream)

        def predict() -> None:
            out = Path(folder) / "out"
            shutil.rmtree(out, ignore_errors=True)
            names = names_of_outputs(log)
            job = PredictionJob(trained, log, Folder(str(out)), names, keep=())
            predict_log(_Host(context), job, model)

        calls = {"forward": lambda: [model.score(batch) for batch in batches], "predict": predict}
        seconds = time_interleaved(calls, rounds=options.rounds)
    rows = summarise(
        seconds,
        baseline="forward",
        num_tasks=len(trained.config.task_names),
        num_parameters=model.shared.size,
    )
    print_rows(f"{log.rows:,} rows", rows)
    for row in rows:
        print(f"{row.name}: {log.rows / row.median_seconds:,.0f} rows per second")
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"largest memory of this process: {largest:.2f} GiB")


if __name__ == "__main__":
    main()
