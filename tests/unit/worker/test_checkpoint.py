"""What a run that goes on keeps to, and what it is refused."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.config.file import load_config
from recsys_mtl.data.ids import ID_ENCODING_VERSION
from recsys_mtl.distributed.alone import alone
from recsys_mtl.driver.storage import Folder
from recsys_mtl.driver.stored_checkpoint import StoredCheckpoint
from recsys_mtl.worker.checkpoint import VERSION, earlier_plan, restore_run
from recsys_mtl.worker.named_tensors import save_tensors
from tests.unit.run_files import write_run

PLAN = {"item_table": [{"kind": "table_wise", "rank": 1}]}
WINDOW = {"window.auc": torch.zeros(3)}


@pytest.fixture(autouse=True, scope="module")
def _one_worker() -> Iterator[None]:
    with alone("cpu", num_threads=1, timeout_seconds=60):
        yield


def saved_by(
    folder: Path, config: RunConfig, plan: object, changes: Mapping[str, object] | None = None
) -> StoredCheckpoint:
    """The checkpoint of step 3, without tensors; `changes` are of what it says of its run."""
    said = {
        "version": VERSION,
        "id_encoding": ID_ENCODING_VERSION,
        "step": 3,
        "saved_at": 0.0,
        "config": config.model_dump(mode="json"),
        "data_digest": "abc",
        "column_families": {},
        "sharding_plan": plan,
        "totals": {},
        "evaluation": {},
        "window_steps": 0,
    }
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "run.json").write_text(json.dumps(said | dict(changes or {})))
    return StoredCheckpoint(Folder(str(folder)), "checkpoint")


def restore(
    source: StoredCheckpoint, config: RunConfig, last_step: int = 9, **tensors: Tensor
) -> int:
    """Go on from it with a worker that has these tensors."""
    worker: Any = SimpleNamespace(state_dict=lambda: tensors, model=SimpleNamespace(body=None))
    reporter: Any = SimpleNamespace(
        state_dict=lambda: dict(WINDOW), load_state_dict=lambda *_: None
    )
    job: Any = SimpleNamespace(
        config=config, train=SimpleNamespace(digest="abc"), last_step=last_step
    )
    return restore_run(source, worker, reporter, job)


def test_the_plan_is_kept_by_the_same_workers_with_the_same_wishes(tmp_path: Path) -> None:
    config = load_config(write_run(tmp_path))
    assert earlier_plan(saved_by(tmp_path, config, PLAN), config) == PLAN


@pytest.mark.parametrize("override", ["cluster.num_workers=2", "sharding={}"])
def test_other_workers_or_wishes_have_a_plan_of_their_own(tmp_path: Path, override: str) -> None:
    columns = ("sharding.item={kind: table_wise}",)
    old, new = (load_config(write_run(tmp_path), (*columns, *o)) for o in ((), (override,)))
    assert earlier_plan(saved_by(tmp_path, old, PLAN), new) is None


def test_without_a_checkpoint_or_tables_there_is_no_plan(tmp_path: Path) -> None:
    config = load_config(write_run(tmp_path))
    assert earlier_plan(None, config) is None
    assert earlier_plan(saved_by(tmp_path, config, {}), config) is None


def test_a_run_that_has_trained_more_steps_than_it_now_is_to_is_refused(tmp_path: Path) -> None:
    config = load_config(write_run(tmp_path))
    with pytest.raises(UserError, match="has trained 3 steps, more than the 2 that"):
        restore(saved_by(tmp_path, config, {}), config, last_step=2)


def test_a_run_goes_on_from_its_step_with_what_was_saved(tmp_path: Path) -> None:
    config = load_config(write_run(tmp_path))
    source = saved_by(tmp_path, config, {})
    save_tensors({"weight": torch.ones(2), **WINDOW}, tmp_path / "checkpoint")
    weight = torch.zeros(2)
    assert restore(source, config, weight=weight) == 3
    assert weight.tolist() == [1, 1]


def test_a_checkpoint_of_another_body_is_refused_with_a_name_that_differs(tmp_path: Path) -> None:
    config = load_config(write_run(tmp_path))
    source = saved_by(tmp_path, config, {})
    save_tensors({"weight": torch.ones(2), **WINDOW}, tmp_path / "checkpoint")
    with pytest.raises(UserError, match=r"'demo' does not hold this model \(gate is not in it"):
        restore(source, config, gate=torch.zeros(2))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": 1}, f"version 1, and this one reads {VERSION}"),
        ({"id_encoding": 0}, "ids encoded by version 0"),
        ({"config": {}}, "run"),
        ({"later": True}, "later"),
    ],
)
def test_a_checkpoint_of_another_version_is_refused(
    tmp_path: Path, changes: Mapping[str, object], says: str
) -> None:
    config = load_config(write_run(tmp_path))
    with pytest.raises(UserError, match=f"(?s)another version of recsys-mtl .*{says}.*--fresh"):
        restore(saved_by(tmp_path, config, {}, changes), config)
