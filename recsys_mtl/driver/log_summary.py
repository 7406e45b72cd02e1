"""What `recsys-mtl check` says of a log."""

from recsys_mtl.config import RunConfig
from recsys_mtl.data.manifest import read_manifest
from recsys_mtl.driver.events import log_event


def show_log(part: str, url: str, config: RunConfig) -> None:
    """Read a log's footers and say what is there.

    Raises:
        DataError: it cannot be trained on.
    """
    manifest = read_manifest(url, config.data)
    largest = max(group.rows for group in manifest.row_groups)
    ids = [f.column or n for n, f in config.data.id_features()]
    dense = [f.column or n for n, f in config.data.dense_features()]
    labels = [f"{t} ({c})" if t != c else t for t, c in config.data.labels.items()]
    lines = (
        f"data.{part}: {manifest.rows:,} rows in {len(manifest.files):,} file(s), "
        f"{len(manifest.row_groups):,} row group(s) of at most {largest:,} rows: {url}",
        f"  {len(ids)} id features: {', '.join(ids) or 'none'}",
        f"  {len(dense)} dense features: {', '.join(dense) or 'none'}",
        f"  {len(labels)} label(s): {', '.join(labels)}",
    )
    for line in lines:
        log_event("log", line)
