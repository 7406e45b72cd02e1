"""What a method remembers is in the checkpoint: a run that was lost goes on to the same bits."""

from pathlib import Path
from types import ModuleType

import pytest
import torch

from recsys_mtl.driver.launch import launch
from recsys_mtl.driver.runner import TrainingError
from recsys_mtl.gradients.methods import gradnorm, gradvac
from recsys_mtl.gradients.methods.contract import Evidence, MethodState, TaskWeighting
from tests.in_process.demo_runs import committed, config_of, tensors_of, write_demo_log


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_log(tmp_path_factory.mktemp("method_state"))


@pytest.mark.parametrize(
    ("kind", "module", "state"),
    [("gradnorm", gradnorm, "weights"), ("gradvac", gradvac, "targets")],
    ids=["gradnorm", "gradvac"],
)
def test_a_run_lost_between_checkpoints_has_the_state_of_an_undisturbed_one(
    folder: Path, kind: str, module: ModuleType, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = (f"method={{kind: {kind}}}", "training.max_steps=24")
    every_ten = (*sets, "training.checkpoint_interval_steps=10")
    whole, lost = (config_of(folder, f"{kind}-{name}", *every_ten) for name in ("whole", "lost"))
    launch(whole)
    weigh_tasks = module.weigh_tasks

    def ends_the_run(
        evidence: Evidence, remembered: MethodState, **hyperparameters: float
    ) -> tuple[TaskWeighting, MethodState]:
        if evidence.step == 16:
            raise RuntimeError("the process is lost here")
        answer: tuple[TaskWeighting, MethodState]
        answer = weigh_tasks(evidence, remembered, **hyperparameters)
        return answer

    with monkeypatch.context() as planted:
        planted.setattr(module, "weigh_tasks", ends_the_run)
        with pytest.raises(TrainingError, match="the process is lost here"):
            launch(lost)
    assert len(committed(folder, lost.run.name)) == 1
    launch(lost)
    plain, gone_on = (tensors_of(folder, run.run.name) for run in (whole, lost))
    assert gone_on.keys() == plain.keys()
    for name, tensor in plain.items():
        assert torch.equal(gone_on[name], tensor), name
    assert len(plain[f"method.{state}"].unique()) > 1
