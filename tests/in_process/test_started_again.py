"""A run that is started again says what is true of it, and one that is refused leaves no mark.

All without Ray, in this process, over the very code that runs on Ray, too.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from recsys_mtl.config import Model, RunConfig, UserError
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.events import choose_format
from recsys_mtl.driver.launch import launch
from recsys_mtl.driver.local_runner import LocalRunner
from recsys_mtl.model.bodies.build import BodyFactory, body_factory
from recsys_mtl.model.bodies.contract import BodyShape, MultiTaskBody
from recsys_mtl.worker.job import TrainJob
from tests.end_to_end.runs import Place, make_place

STEPS = 4


@pytest.fixture(autouse=True)
def _as_json() -> Iterator[None]:
    choose_format("json")
    yield
    choose_format("auto")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A log, its YAML with paths below its folder, and a finished run of it."""
    made = make_place(tmp_path_factory.mktemp("again"))
    made.yaml.write_text(made.yaml.read_text().replace(f"{made.folder}/", ""))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made.folder)
        launch(config_of(made))
    return made


def config_of(place: Place, *overrides: str) -> RunConfig:
    short = ("cluster.num_workers=0", "training.epochs=null", f"training.max_steps={STEPS}")
    return load_config(place.yaml, (*short, "metrics.linger_seconds=0", *overrides))


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def events_of(printed: str) -> dict[str, dict[str, object]]:
    return {event["event"]: event for event in map(json.loads, printed.splitlines())}


def test_the_run_s_configuration_holds_paths_that_mean_the_same_everywhere(place: Place) -> None:
    kept = yaml.safe_load((place.run / "config.yaml").read_text())
    assert kept["data"]["train"] == str(place.folder / "train")
    assert kept["data"]["eval"] == str(place.folder / "eval")
    assert kept["run"]["storage_path"] == str(place.folder / "runs")


def test_a_finished_run_says_so_from_whichever_folder_it_is_started(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content_of(place.run)
    monkeypatch.chdir(place.folder / "train")
    paths = ("run.storage_path=../runs", "data.train=.", "data.eval=../eval")
    launch(config_of(place, *paths))
    told = events_of(capsys.readouterr().out)
    assert told.keys() == {"finished", "result"}
    assert content_of(place.run) == before


def test_a_finished_run_with_another_eval_log_says_that_it_did_not_evaluate_it(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content_of(place.run)
    monkeypatch.chdir(place.folder)
    result = launch(config_of(place, "data.eval=train/1.parquet"))
    assert result["data"]["eval"]["url"] == f"{place.folder}/eval"
    told = events_of(capsys.readouterr().out)
    assert told.keys() == {"finished", "not_evaluated", "result"}
    assert told["not_evaluated"]["measured_on"] == f"{place.folder}/eval"
    sentence = str(told["not_evaluated"]["message"])
    new = f"{place.folder}/train/1.parquet"
    assert f"nothing was evaluated on {new} now" in sentence
    assert f"`recsys-mtl evaluate {place.run} --data {new}`" in sentence
    assert content_of(place.run) == before


def test_rows_that_changed_behind_the_same_path_are_another_eval_log(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place.folder)
    new = place.folder / "eval" / "1.parquet"
    new.write_bytes((place.folder / "train" / "1.parquet").read_bytes())
    launch(config_of(place))
    new.unlink()
    assert "not_evaluated" in events_of(capsys.readouterr().out)


def wider_body(shape: BodyShape) -> MultiTaskBody:
    """Another body than the run's; only a worker can see that its checkpoint does not hold it."""
    return body_factory(Model(bottom_hidden_sizes=(32, 8)))(shape)


@pytest.mark.parametrize(
    ("overrides", "body", "sentence", "starts_a_worker"),
    [
        (["training.max_steps=3"], None, "has trained 4 steps, more than the 3 that", False),
        (["gradients.backend=triton", "cluster.device=cpu"], None, "gradients.backend: ", False),
        (["method.alpha=2"], None, "method.alpha: 0.5 -> 2.0", False),
        (["training.max_steps=9"], wider_body, "does not hold this model", True),
    ],
)
def test_a_refused_start_changes_nothing_in_the_run_s_folder(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    body: BodyFactory | None,
    sentence: str,
    starts_a_worker: bool,
) -> None:
    before = content_of(place.run)
    monkeypatch.chdir(place.folder)
    started: list[TrainJob] = []
    fit = LocalRunner.fit

    def record(runner: LocalRunner, job: TrainJob) -> dict[str, Any]:
        started.append(job)
        return fit(runner, job)

    monkeypatch.setattr(LocalRunner, "fit", record)
    changed = config_of(place, "training.log_interval_steps=7", *overrides)
    with pytest.raises(UserError) as refused:
        launch(changed, body=body)
    assert sentence in str(refused.value)
    assert bool(started) == starts_a_worker
    assert content_of(place.run) == before
