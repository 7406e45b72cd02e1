"""What `recsys-mtl check` says of a log."""

from collections.abc import Iterator

from recsys_mtl.config import Label, RunConfig
from recsys_mtl.data.event_times import refuse_too_short_logs
from recsys_mtl.data.manifest import Manifest, read_manifest
from recsys_mtl.data.outside_vocabulary import outside_vocabulary
from recsys_mtl.driver.events import log_event


def show_log(part: str, url: str, config: RunConfig) -> Manifest:
    """Read a log's footers, say what is there, and return it.

    Raises:
        DataError: it cannot be trained on.
    """
    manifest = read_manifest(url, config.data)
    if part == "train":
        refuse_too_short_logs(manifest.event_times, config.data, url)
    largest = max(group.rows for group in manifest.row_groups)
    ids = [f.column or n for n, f in config.data.id_features()]
    dense = [f.column or n for n, f in config.data.dense_features()]
    one_hot = [f.column or n for n, f in config.data.one_hot_features()]
    inputs = sum(f.columns for _, f in config.data.one_hot_features())
    tasks = config.data.labels.items()
    labels = [f"{t} ({label.column})" if t != label.column else t for t, label in tasks]
    lines = (
        f"data.{part}: {manifest.rows:,} rows in {len(manifest.files):,} file(s), "
        f"{len(manifest.row_groups):,} row group(s) of at most {largest:,} rows: {url}",
        f"  {len(ids)} id features: {', '.join(ids) or 'none'}",
        f"  {len(dense)} dense features: {', '.join(dense) or 'none'}",
        f"  {len(one_hot)} one_hot features, {inputs:,} inputs: {', '.join(one_hot) or 'none'}",
        *_outside_vocabularies(manifest, config),
        f"  {len(labels)} label(s): {', '.join(labels)}",
        *(
            f"    {task}: {'; '.join(said)}"
            for task, label in tasks
            if (said := list(_counting(label, manifest)))
        ),
    )
    for line in lines:
        log_event("log", line)
    return manifest


def _outside_vocabularies(manifest: Manifest, config: RunConfig) -> Iterator[str]:
    """Yield a line per feature whose vocabulary lacks values that the log's first rows hold."""
    for found in outside_vocabulary(manifest, config.data):
        examples = ", ".join(map(repr, found.examples))
        yield (
            f"    {found.feature}: {found.outside:,} of the first {found.rows:,} rows hold a value "
            f"that its vocabulary lacks, such as {examples}"
        )


def _counting(label: Label, manifest: Manifest) -> Iterator[str]:
    """Which rows of a log count for a task, and how much; nothing where all count once."""
    if label.only_where is not None:
        yield f"rows where {label.only_where} is 1"
    if label.event_time is not None and label.window_seconds is not None:
        times = manifest.event_times[label.event_time]
        until = times.before_the_end(label.window_seconds)
        yield f"negatives up to {until} by {label.event_time}, {label.window} before the last event"
        if times.seconds < label.window_seconds:
            yield "no negative is that old, so that this log tells no AUC"
    if label.sample_weight is not None:
        yield f"weighed by {label.sample_weight}"
    if label.loss_weight != 1:
        yield f"its loss times {label.loss_weight:g}"
