"""What a worker does with a trained model: judge it by a log, or score a log with it."""

from typing import Any, assert_never

from recsys_mtl.worker.host import ScoringHost
from recsys_mtl.worker.job import EvaluationJob, PredictionJob, ScoringJob
from recsys_mtl.worker.log_evaluation import evaluate_log
from recsys_mtl.worker.prediction import predict_log
from recsys_mtl.worker.trained_model import load_model


def score(host: ScoringHost, job: ScoringJob) -> dict[str, Any]:
    """Do the job with all workers together; the same plain numbers on each of them.

    Raises:
        UserError: the checkpoint does not hold the model, or the log cannot be scored.
    """
    match job:
        case EvaluationJob():
            return evaluate_log(host, job)
        case PredictionJob():
            return predict_log(host, job, load_model(job.model, host.context))
        case _:
            assert_never(job)
