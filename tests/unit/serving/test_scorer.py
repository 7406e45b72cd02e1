"""A bundle gives the probabilities of training, whatever rows come in, alone or among others."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys_mtl.serving import Scorer, scorer
from recsys_mtl.serving.rows import Rows
from tests.unit.data.click_logs import fresh_generator
from tests.unit.serving.conftest import Served
from tests.unit.serving.served import log_rows

FORMS: dict[str, Callable[[pa.Table], Rows]] = {
    "table": lambda table: table,
    "batch": lambda table: table.to_batches()[0],
    "several chunks": lambda table: pa.concat_tables([table.slice(0, 5), table.slice(5)]),
    # Of integers with nulls `to_pandas` makes float64, which loses ids from 2^53 on.
    "frame of objects": lambda table: table.to_pandas().assign(
        user=pd.Series(table["user"].to_pylist(), dtype=object)
    ),
    "frame of nullable integers": lambda table: table.to_pandas().assign(
        user=pd.Series(table["user"].to_pylist(), dtype="UInt64")
    ),
    "frame of arrow types": lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
    "frame put together of two": lambda table: pd.concat(
        [part.to_pandas(types_mapper=pd.ArrowDtype) for part in (table.slice(0, 9), table.slice(9))]
    ),
    "dicts": lambda table: table.to_pylist(),
    "dicts without nulls": lambda table: [
        {name: value for name, value in row.items() if value is not None}
        for row in table.to_pylist()
    ],
    "dictionaries": lambda table: table.set_column(
        table.schema.get_field_index("city"), "city", table["city"].dictionary_encode()
    ),
    "another order, with others beside them": lambda table: table.select(
        sorted(table.column_names, reverse=True)
    ).append_column("other", pa.array([object.__name__] * table.num_rows)),
}


def assert_equal(
    found: dict[str, np.ndarray[Any, Any]], expected: dict[str, np.ndarray[Any, Any]]
) -> None:
    assert list(found) == list(expected)
    for task, probabilities in found.items():
        assert probabilities.dtype == np.float32
        np.testing.assert_allclose(probabilities, expected[task], rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_every_form_have_the_probabilities_of_training(served: Served, form: str) -> None:
    expected = served.trained.probabilities(served.log)
    assert len(np.unique(expected["cart"])) > 100, "rows must be told from each other"
    assert_equal(served.scorer.score(FORMS[form](served.log)), expected)


def test_a_row_alone_has_the_score_that_it_has_among_others(served: Served) -> None:
    expected = served.scorer.score(served.log)
    for row in fresh_generator().choice(served.log.num_rows, 10, replace=False).tolist():
        alone = served.scorer.score(served.log.slice(row, 1))
        assert_equal(alone, {task: all_[row : row + 1] for task, all_ in expected.items()})


def test_more_rows_than_one_forward_takes_are_scored_in_order(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = served.scorer.score(served.log)
    monkeypatch.setattr(scorer, "_ROWS_AT_ONCE", 16)
    assert_equal(served.scorer.score(served.log), expected)


@pytest.mark.parametrize("rows", [[], pd.DataFrame(), pa.table({"user": pa.array([], "int64")})])
def test_no_rows_have_no_probabilities(served: Served, rows: Rows) -> None:
    empty = np.zeros(0, dtype=np.float32)
    assert_equal(served.scorer.score(rows), {"purchase": empty, "cart": empty})


def test_nothing_but_nulls_and_empty_lists_is_scored(served: Served) -> None:
    kinds = {field.name: field.type for field in served.log.schema}
    nulls = pa.table({name: pa.nulls(2, kind) for name, kind in kinds.items()})
    lists = {name: pa.array([[], []], kinds[name]) for name in ("recent", "seen", "tags")}
    empty = pa.table({name: lists.get(name, nulls[name]) for name in kinds})
    for rows, as_dicts in (
        (nulls, [{}, {}]),
        (empty, [{"recent": [], "seen": [], "tags": []}] * 2),
    ):
        expected = served.trained.probabilities(rows)
        assert_equal(served.scorer.score(rows), expected)
        assert_equal(served.scorer.score(as_dicts), expected)


def test_an_unseen_string_is_scored_by_the_row_of_its_hash(served: Served) -> None:
    rows = served.log.set_column(
        served.log.schema.get_field_index("city"), "city", pa.array(["nowhere"] * 150)
    )
    assert_equal(served.scorer.score(rows.to_pylist()), served.trained.probabilities(rows))


def test_threads_share_a_scorer(served: Served) -> None:
    logs = [log_rows(20, fresh_generator()) for _ in range(8)]
    expected = [served.scorer.score(log) for log in logs]
    with ThreadPoolExecutor(4) as pool:
        for found, one in zip(pool.map(served.scorer.score, logs * 5), expected * 5, strict=True):
            assert_equal(found, one)


def test_requests_scored_together_have_the_scores_that_they_have_alone(served: Served) -> None:
    # The log had no value of `never`: what comes there is of no one type.
    requests = [[{"city": "Oslo"}], [], [{"never": 3}, {"item": 2}], [{"never": "x"}]]
    tables = [served.scorer.read(rows) for rows in requests]
    for some in (tables[:2], tables[:3], tables):
        for found, table in zip(served.scorer.score_each(some), some, strict=True):
            assert_equal(found, served.scorer.score_columns(table))


WITHOUT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[2:]:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import numpy, pyarrow.parquet
from recsys_mtl.serving import Scorer
rows = pyarrow.parquet.read_table(sys.argv[1] + "/examples.parquet")
assert rows.num_rows == 102
for task, found in Scorer.load(sys.argv[1]).score(rows).items():
    numpy.testing.assert_allclose(found, rows["probability_" + task], rtol=0, atol=1e-6)
"""


UNNEEDED = ("ray", "torchrec", "fbgemm_gpu", "fsspec", "numba", "matplotlib", "rich", "fastapi")


def test_a_process_without_ray_torchrec_and_fbgemm_reproduces_the_examples(served: Served) -> None:
    command = [sys.executable, "-c", WITHOUT, str(served.folder), *UNNEEDED]
    subprocess.run(command, check=True, timeout=120)


def test_the_bundle_says_which_run_it_is(served: Served) -> None:
    run = served.scorer.bundle.run
    assert (run.name, run.checkpoint, run.step) == ("served", "checkpoint", 7)
    assert run.metrics == {"purchase": {"auc": 0.75, "rows": 10}, "cart": {"auc": None}}
    assert isinstance(served.scorer, Scorer)
