"""What is appended comes back: whole groups, in order; faults are one sentence."""

import resource
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from recsys_mtl.config import UserError
from recsys_mtl.metrics import scored_rows
from recsys_mtl.metrics.scored_rows import ScoredBlock, ScoredRows, pairs
from tests.unit.metrics.scored_logs import draw_log, spill


@pytest.fixture
def rng() -> np.random.Generator:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return np.random.default_rng(seed)


def together(blocks: Iterator[ScoredBlock]) -> ScoredBlock:
    return ScoredBlock(*(np.concatenate(columns) for columns in zip(*blocks, strict=True)))


def pieces(rows: ScoredRows) -> Iterator[ScoredBlock]:
    for partition in range(scored_rows.PARTITIONS):
        yield from rows.pieces_of_partition(partition)


def same_rows(one: ScoredBlock, other: ScoredBlock) -> bool:
    """Whether the two hold the same rows, groups in any order and each group in the same one."""
    orders = [np.argsort(block.keys, kind="stable") for block in (one, other)]
    return all(np.array_equal(a[orders[0]], b[orders[1]]) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("small_blocks", [False, True])
def test_every_row_comes_back_once_with_its_group_whole_and_in_order(
    tmp_path: Path,
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    small_blocks: bool,
) -> None:
    if small_blocks:  # many flushes, and files that are read in several parts
        monkeypatch.setattr(scored_rows, "BUFFER_BYTES", 20_000)
        monkeypatch.setattr(scored_rows, "BLOCK_ROWS", 16)
    log = draw_log(rng, 20_000, 6_000, weighted=True)
    rows = spill(tmp_path / "rows", log)
    blocks = list(rows.partitions())
    assert same_rows(together(iter(blocks)), log)
    assert sum(len(np.unique(block.keys)) for block in blocks) == len(np.unique(log.keys))
    assert same_rows(together(pieces(rows)), log)
    assert not small_blocks or all(len(block.keys) <= 16 for block in pieces(rows))
    assert rows.num_rows == 20_000


def test_rows_may_be_read_again_and_more_be_appended_after(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    log = draw_log(rng, 500, 40)
    rows = spill(tmp_path / "rows", log)
    assert same_rows(together(rows.partitions()), log)
    rows.append(*log)
    twice = ScoredBlock(*(np.concatenate((column, column)) for column in log))
    assert same_rows(together(rows.partitions()), twice)


def test_without_rows_there_is_no_block(tmp_path: Path) -> None:
    rows = ScoredRows(tmp_path / "rows", 2)
    assert list(rows.partitions()) == list(pieces(rows)) == []


def test_a_label_without_weight_is_no_positive(tmp_path: Path) -> None:
    rows = ScoredRows(tmp_path / "rows", 2)
    one = np.ones((1, 2))
    rows.append(
        np.zeros(1, np.uint64), np.zeros((1, 1, 2), np.float32), one, np.array([[0.0, 1.0]])
    )
    assert together(pieces(rows)).labels.tolist() == [[False, True]]


def test_two_models_scores_of_the_same_rows_come_as_one(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    log = draw_log(rng, 3_000, 400)
    other = log._replace(logits=log.logits - 1)
    both = pairs(spill(tmp_path / "new", log), spill(tmp_path / "other", other, batch_rows=70))
    stacked = log._replace(logits=np.concatenate((log.logits, other.logits), axis=1))
    assert same_rows(together(both), stacked)


def test_scores_of_different_rows_are_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    log = draw_log(rng, 300, 40)
    new = spill(tmp_path / "new", log)
    reweighted = log.weights.copy()
    reweighted[7, 1] += 1
    turned = log.labels.copy()
    turned[np.flatnonzero(log.weights[:, 1])[7], 1] ^= True
    for number, other in enumerate(
        [
            ScoredBlock(*(column[:-1] for column in log)),
            log._replace(keys=np.roll(log.keys, 1)),
            log._replace(labels=turned),
            log._replace(weights=reweighted),
        ]
    ):
        with pytest.raises(UserError, match="did not score the same rows"):
            list(pairs(new, spill(tmp_path / f"other{number}", other)))


def test_a_full_disk_is_one_sentence(tmp_path: Path, rng: np.random.Generator) -> None:
    log = draw_log(rng, 100_000, 1)
    rows = spill(tmp_path / "rows", log)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(UserError, match="after 100,000 scored rows of 26 bytes each"):
            list(pieces(rows))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Not a directory"):
        ScoredRows(tmp_path / "file" / "rows", 1)


def test_more_groups_than_asked_for_are_refused_while_rows_come(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    log = draw_log(rng, 300, 20)
    groups = len(np.unique(log.keys))
    for most in (groups, groups - 1):
        rows = ScoredRows(tmp_path / str(most), 2, most_groups=most)
        rows.append(*(column[:9] for column in log))
        if most == groups:
            rows.append(*log)
        else:
            with pytest.raises(UserError, match=f"has more than {most} values; slice by one"):
                rows.append(*log)


def test_a_group_too_large_for_memory_is_refused(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scored_rows, "BLOCK_ROWS", 64)
    monkeypatch.setattr(scored_rows, "LARGEST_BLOCK_ROWS", 256)
    rows = spill(tmp_path / "rows", draw_log(rng, 300, 1))
    with pytest.raises(UserError, match="group by a column with more values"):
        list(rows.partitions())
    assert sum(len(block.keys) for block in pieces(rows)) == 300
