"""A log's rows with a probability per task: one output file per input file, in its row order.

The forward is collective, so every worker makes the same number of steps, and one that has no rows
left scores padding. A worker's files follow each other without a gap: one step may end a file and
begin the next.

B rows of a step on this worker, T tasks.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from recsys_mtl.config import FeatureColumns
from recsys_mtl.data.batch import FeatureBatch, assemble_features
from recsys_mtl.data.features import EncodedFeatures
from recsys_mtl.data.file_stream import FileRows, file_stream
from recsys_mtl.data.manifest import Manifest
from recsys_mtl.distributed.collectives import gathered, made_by_first
from recsys_mtl.worker.host import ScoringHost
from recsys_mtl.worker.job import PredictionJob
from recsys_mtl.worker.model import DistributedModel
from recsys_mtl.worker.predicted_files import PredictedFiles


def predict_log(host: ScoringHost, job: PredictionJob, model: DistributedModel) -> dict[str, Any]:
    """Write every output file that is not there yet; returns the rows that were scored."""
    config, world_size = model.config, host.context.world_size
    rows_of = rows_by_file(job.log)
    there = set(made_by_first(host.context.rank, job.output.files))
    missing = {file: rows for file, rows in rows_of.items() if job.names[file] not in there}
    shares = share_out(missing, world_size)
    batch_rows = -(-config.training.global_batch_size // world_size)
    steps = max(-(-sum(missing[file] for file in share) // batch_rows) for share in shares)
    if host.context.rank == 0:
        host.advance(job.log.rows - sum(missing.values()))
    with (
        file_stream(job.log, config.data, shares[host.context.rank], job.keep) as stream,
        PredictedFiles(job.output, job.names, config.task_names) as outputs,
    ):
        steps_of_own = prediction_steps(stream, batch_rows, config.data)
        # One step at least where anything is missing: files without rows are written, too.
        for _ in range(max(steps, min(1, len(missing)))):
            arrived, batch = next(steps_of_own)
            outputs.expect(arrived)
            logits = model.score(batch.to(host.context.device))
            outputs.add(logits[: batch.rows].sigmoid().cpu().numpy())
            host.advance(batch.rows)
    gathered(None)  # nobody says it is done before all are
    return {"rows": sum(missing.values())}


def rows_by_file(log: Manifest) -> dict[str, int]:
    """Rows of each file of a log, those without any first."""
    rows = dict.fromkeys(log.empty_files, 0)
    for group in log.row_groups:
        rows[group.file] = rows.get(group.file, 0) + group.rows
    return rows


def share_out(rows_of: Mapping[str, int], world_size: int) -> list[list[str]]:
    """The files of each worker: the largest first, each to whoever has the fewest rows so far.

    Files without rows come first in a share, so that its first step meets them.
    """
    shares: list[list[str]] = [[] for _ in range(world_size)]
    loads = [0] * world_size
    for file in sorted(rows_of, key=lambda file: (-rows_of[file], file)):
        least = loads.index(min(loads))
        shares[least].append(file)
        loads[least] += rows_of[file]
    return [sorted(share, key=lambda file: rows_of[file] > 0) for share in shares]


class PredictionStep(NamedTuple):
    """What one step scores."""

    arrived: tuple[FileRows, ...]
    """The row groups of which this step has the first row, in order, or that have none."""
    batch: FeatureBatch
    """[B] rows, the last of which may be padding."""


def prediction_steps(
    stream: Iterable[FileRows], batch_rows: int, data: FeatureColumns
) -> Iterator[PredictionStep]:
    """Cut row groups into steps of `batch_rows` rows; without end, by steps of padding."""
    pieces: list[EncodedFeatures] = []
    arrived: list[FileRows] = []
    waiting = 0
    for group in stream:
        arrived.append(group)
        rows, place = len(group.features.dense), 0
        while place < rows:
            taken = min(batch_rows - waiting, rows - place)
            pieces.append(group.features.slice(place, place + taken))
            place, waiting = place + taken, waiting + taken
            if waiting == batch_rows:
                yield PredictionStep(tuple(arrived), assemble_features(pieces, batch_rows, data))
                pieces, arrived, waiting = [], [], 0
    while True:
        yield PredictionStep(tuple(arrived), assemble_features(pieces, batch_rows, data))
        pieces, arrived = [], []
