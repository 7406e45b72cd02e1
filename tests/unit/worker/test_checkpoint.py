"""What a run that goes on keeps to, and what it is refused."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.train
import torch
from torch.distributed.checkpoint.state_dict_saver import save as save_tensors

from recsys_mtl import train
from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.config.file import load_config
from recsys_mtl.worker.checkpoint import earlier_plan
from tests.unit.run_files import write_run

PLAN = {"item_table": [{"kind": "table_wise", "rank": 1}]}


def saved_by(folder: Path, config: RunConfig, plan: object) -> ray.train.Checkpoint:
    facts = {
        "step": 3,
        "saved_at": 0.0,
        "config": config.model_dump(mode="json"),
        "data_digest": "abc",
        "sharding_plan": plan,
        "totals": {},
        "evaluation": {},
        "window_steps": 0,
    }
    (folder / "run.json").write_text(json.dumps(facts))
    return ray.train.Checkpoint.from_directory(str(folder))


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


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_run_that_has_trained_more_steps_than_it_now_is_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(write_run(tmp_path))
    parts: Any = SimpleNamespace(tensors=lambda: {"weight": torch.zeros(2)})
    (tmp_path / "checkpoint").mkdir()
    saved = {name: {"weight": torch.ones(2)} for name in ("worker", "reporter")}
    save_tensors(saved, checkpoint_id=tmp_path / "checkpoint")
    last = saved_by(tmp_path / "checkpoint", config, {})
    monkeypatch.setattr(ray.train, "get_checkpoint", lambda: last)
    job: Any = SimpleNamespace(config=config, train=SimpleNamespace(digest="abc"), last_step=2)
    with pytest.raises(UserError, match="has trained 3 steps, more than the 2 that"):
        train._restore(parts, parts, job)
