"""One small bundle for all tests of a file."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from recsys_mtl.distributed.alone import alone
from recsys_mtl.driver.export import export_run
from recsys_mtl.serving import Scorer
from tests.unit.data.click_logs import fresh_generator
from tests.unit.serving.served import Trained, log_rows, train


@dataclass(frozen=True)
class Served:
    """A bundle, what it was made from, and a log of fresh rows."""

    folder: Path
    scorer: Scorer
    trained: Trained
    log: pa.Table


@pytest.fixture(scope="module")
def process_group() -> Iterator[None]:
    """What a model with tables asks for in training."""
    with alone("cpu", num_threads=1, timeout_seconds=60):
        yield


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, process_group: None) -> Served:
    """The log, and the bundle, of a model that reads every kind of column."""
    folder, rng = tmp_path_factory.mktemp("served"), fresh_generator()
    trained = train(folder, log_rows(200, rng))
    export_run(trained.url, str(folder / "bundle"))
    return Served(folder / "bundle", Scorer.load(folder / "bundle"), trained, log_rows(150, rng))
