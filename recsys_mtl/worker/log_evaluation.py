"""A log, judged by a trained model."""

from typing import Any

from recsys_mtl.worker.evaluation import evaluate
from recsys_mtl.worker.host import ScoringHost
from recsys_mtl.worker.job import EvaluationJob
from recsys_mtl.worker.trained_model import load_model


def evaluate_log(host: ScoringHost, job: EvaluationJob) -> dict[str, Any]:
    """Every number that the job asks for, the same on every worker."""
    model = load_model(job.model, host.context)
    return {"tasks": evaluate(model, job.log)}
