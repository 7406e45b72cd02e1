"""The rule from ids to table rows: held to golden vectors and to a plain-Python twin.

Trained tables rely on it: should a test here fail, the rule or a library's hash has changed, and
`ID_ENCODING_VERSION` must say so.
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_mtl.data.ids import golden_vectors, row_of, rows_of_integers, rows_of_strings
from tests.unit.data.click_logs import fresh_generator
from tests.unit.data.plain_ids import plain_row, siphash24, splitmix64_finaliser

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ROWS = st.integers(1, 100) | st.integers(1, 2**32 - 1)


def test_the_golden_vectors_hold_for_the_package_and_for_its_twin() -> None:
    vectors = golden_vectors()
    assert len(vectors) == 50
    for value, rows, row in vectors:
        assert (row_of(value, rows), plain_row(value, rows)) == (row, row), value


def test_the_twin_s_siphash_is_the_published_one() -> None:
    # The example of the paper's appendix A.
    assert siphash24(bytes(range(16)), bytes(range(15))) == 0xA129CA6149BE45E5


@given(WORDS)
def test_pandas_hash_of_a_string_is_siphash_and_splitmix64_s_finaliser(word: str) -> None:
    found = pd.util.hash_array(np.array([word], dtype=object), categorize=False)
    assert int(found[0]) == splitmix64_finaliser(siphash24(b"0123456789123456", word.encode()))


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 200)), ROWS)
def test_signed_integers_have_the_rows_of_the_rule(values: list[int], rows: int) -> None:
    found = rows_of_integers(np.array(values, dtype=np.int64), rows)
    assert found.dtype == np.int64
    assert found.tolist() == [plain_row(value, rows) for value in values]


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 200)), ROWS)
def test_unsigned_integers_have_the_rows_of_the_rule(values: list[int], rows: int) -> None:
    found = rows_of_integers(np.array(values, dtype=np.uint64), rows)
    assert found.dtype == np.int64
    assert found.tolist() == [plain_row(value, rows) for value in values]


@given(st.lists(WORDS), ROWS)
def test_strings_have_the_rows_of_the_rule(words: list[str], rows: int) -> None:
    found = rows_of_strings(np.array(words, dtype=object), rows)
    assert found.tolist() == [plain_row(word, rows) for word in words]


def test_compact_ids_never_share_a_row() -> None:
    ids = fresh_generator().permutation(1000)
    assert (rows_of_integers(ids, 1000) == ids).all()


@pytest.mark.parametrize("start", [0, 1_700_000_000_000 << 22, -(2**62)])
@pytest.mark.parametrize("rows", [1000, 1024])
def test_ids_with_a_common_factor_spread_like_random_ones(start: int, rows: int) -> None:
    # 1,000 balls into so many boxes hit 632 or 638 of them, give or take 10. What lies below `rows`
    # has its own row: 64 such ids at most here.
    for factor in (*(2**power for power in range(4, 50)), 1000, 3600, 10**6, 86_400_000, 37 << 22):
        ids = start + factor * np.arange(1000)
        used = len(np.unique(rows_of_integers(ids, rows)))
        assert 570 < used < 720, factor


@pytest.mark.parametrize(("room", "sharing"), [(1, 0.632), (10, 0.095)])
def test_as_many_hashed_ids_share_a_row_as_the_setting_s_description_says(
    room: int, sharing: float
) -> None:
    count = 10_000
    found = rows_of_integers((np.arange(count) + 1) << 32, room * count)
    assert np.mean(np.bincount(found)[found] > 1) == pytest.approx(sharing, abs=0.02)


def test_rows_are_hit_evenly_also_where_their_number_is_no_power_of_two() -> None:
    rows, count = 24, 240_000
    random = fresh_generator().integers(-(2**63), 2**63 - 1, count)
    for found in (
        rows_of_integers(random, rows),
        rows_of_strings(random.astype(str).astype(object), rows),
    ):
        hits = np.bincount(found, minlength=rows)
        assert len(hits) == rows
        # 10,000 expected, with a standard deviation of 98.
        assert (abs(hits - count / rows) < 600).all()
