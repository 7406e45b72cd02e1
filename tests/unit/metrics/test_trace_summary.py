"""What a trace comes to, column by column, also where its method is not known."""

import math
import secrets

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys_mtl.metrics.columns import Column
from recsys_mtl.metrics.trace_summary import columns_in, recent_steps, summarise


def test_a_column_is_summed_up_over_the_steps_that_measured_it() -> None:
    seed = secrets.randbelow(2**31)
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    values = rng.normal(size=95)
    values[rng.random(95) < 0.3] = math.nan
    values[10] = math.inf
    column = Column("loss", "number", "The loss.", ("cart",))
    (summary,) = summarise(pa.table({"loss_cart": values}), [column])
    known = pd.Series(values[np.isfinite(values)])
    recent = pd.Series(np.where(np.isfinite(values), values, math.nan)[-10:])
    assert summary.measured == len(known)
    assert (summary.first, summary.last) == (known.iloc[0], known.iloc[-1])
    assert (summary.lowest, summary.highest) == (known.min(), known.max())
    assert summary.recent_mean == pytest.approx(recent.mean(), nan_ok=True)


@pytest.mark.parametrize(("steps", "recent"), [(1, 1), (10, 1), (11, 2), (1000, 100)])
def test_the_recent_mean_is_over_a_tenth_of_the_steps_and_at_least_one(
    steps: int, recent: int
) -> None:
    assert recent_steps(pa.table({"step": range(steps)})) == recent


def test_what_was_never_measured_has_no_numbers() -> None:
    table = pa.table({"cosine": pa.array([math.nan, None], pa.float64())})
    (summary,) = summarise(table, [Column("cosine", "number", "A cosine.")])
    assert summary.measured == 0
    assert all(math.isnan(v) for v in (summary.first, summary.last, summary.recent_mean))


def test_a_flag_counts_as_one_where_it_was_true() -> None:
    table = pa.table({"conflict": [True, False, True, True]})
    (summary,) = summarise(table, [Column("conflict", "flag", "A conflict.")])
    assert (summary.first, summary.lowest, summary.highest) == (1, 0, 1)


def test_columns_of_a_method_that_is_not_known_have_their_kind_and_task_and_no_help() -> None:
    known = [Column("step", "count", "The step."), Column("min_norm", "flag", "Of GradOPS.")]
    table = pa.table(
        {
            "step": [1],
            "gain_cart": [0.5],
            "gain_wish": [0.5],
            "left_cart": [0.5],
            "stuck": [True],
        }
    )
    found = columns_in(table, known, ("cart", "wish"))
    assert [column.name for column in found] == table.schema.names
    assert [(c.quantity, c.kind, c.tasks, c.help) for c in found] == [
        ("step", "count", (), "The step."),
        ("gain", "number", ("cart",), ""),
        ("gain", "number", ("wish",), ""),
        ("left_cart", "number", (), ""),  # there is no left_wish
        ("stuck", "flag", (), ""),
    ]
