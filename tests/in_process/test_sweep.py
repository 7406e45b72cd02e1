"""Whole sweeps without Ray: killed, crashed, judged by a test log, chosen from."""

import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from recsys_mtl.config import UserError
from recsys_mtl.driver.evaluate import evaluate
from recsys_mtl.driver.launch import launch
from recsys_mtl.driver.sweep import Arm, cell_process, sweep
from recsys_mtl.driver.sweep.cells import plan_cells
from recsys_mtl.driver.sweep.folder import SweepFolder
from recsys_mtl.metrics.comparison import paired_difference
from recsys_mtl.metrics.trace import read_trace
from tests.end_to_end.runs import Place, click_log, damage, make_place, started, wait_until

ALPHAS = [Arm(f"alpha={alpha}", (f"method.alpha={alpha}",)) for alpha in (-2, 1)]
SEEDS = [5, 6]
FOR_ALL = ("cluster.num_workers=0", "training.epochs=1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A log, and `later`: the log of another day."""
    made = make_place(tmp_path_factory.mktemp("sweep"))
    (made.folder / "later").mkdir()
    pq.write_table(click_log(1000, seed=99), made.folder / "later" / "0.parquet")
    return made


def swept(place: Place, arms: Sequence[Arm] = ALPHAS, **options: Any) -> dict[str, Any]:
    given = {"seeds": SEEDS, "folder": str(place.folder / "out"), "overrides": FOR_ALL} | options
    return sweep(str(place.yaml), arms, **given)


@pytest.fixture(scope="module")
def resumed(place: Place) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The record of a sweep that was killed with one run finished, and what was finished then."""
    out = place.folder / "out"
    options = [word for override in FOR_ALL for word in ("--for-all", override)]
    process, _ = started(
        dict(os.environ), "sweep", place.yaml, "--set", "method.alpha=-2,1", "--seeds", "2",
        "--parallel", "2", "--out", out, *options, until="cell",
    )  # fmt: skip
    wait_until(lambda: list(out.glob("runs/*/result.json")), timeout_seconds=180, what="a result")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finished = {file.parent.name: file.read_bytes() for file in out.glob("runs/*/result.json")}
    assert len(finished) < len(ALPHAS) * len(SEEDS), "it was killed in the middle"
    return swept(place, parallel=2), finished


def test_a_killed_sweep_goes_on_and_no_finished_run_is_trained_again(
    place: Place, resumed: tuple[dict[str, Any], dict[str, bytes]]
) -> None:
    record, finished = resumed
    assert [cell["status"] for cell in record["cells"]] == ["finished"] * 4
    for name, result in finished.items():
        run = place.folder / "out" / "runs" / name
        assert (run / "result.json").read_bytes() == result
        assert set(read_trace(f"{run}/trace")["attempt"].to_pylist()) == {1}
    assert record == json.loads((place.folder / "out" / "sweep.json").read_text())


def test_a_sweep_s_numbers_are_those_of_its_runs(
    place: Place, resumed: tuple[dict[str, Any], dict[str, bytes]]
) -> None:
    record, _ = resumed
    aucs: dict[str, list[float]] = {}
    for cell in record["cells"]:
        result = json.loads(Path(cell["url"], "result.json").read_text())
        assert cell["auc"] == {task: n["auc"] for task, n in result["tasks"].items()}
        assert cell["rows"] == 2000
        assert cell["core_hours"] == pytest.approx(cell["seconds"] / 3600)
        assert cell["conflicting_steps"] == result["conflicting_steps"]
        aucs.setdefault(cell["arm"], []).append(cell["auc"]["wish"])
    low, high = record["arms"]
    assert (low["name"], record["baseline"], low["eval"]["seeds"]) == ("alpha=-2",) * 2 + (SEEDS,)
    assert low["eval"]["mean"]["wish"] == pytest.approx(sum(aucs["alpha=-2"]) / 2)
    expected = paired_difference(aucs["alpha=1"], aucs["alpha=-2"])
    assert high["eval"]["difference"]["wish"]["lower"] == pytest.approx(expected.lower)
    assert (place.folder / "out" / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert "| alpha=1 | 2 |" in (place.folder / "out" / "sweep.md").read_text()


def test_a_changed_file_is_refused_where_runs_of_the_sweep_have_begun(
    place: Place, resumed: tuple[dict[str, Any], dict[str, bytes]], tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(place.yaml.read_text().replace("learning_rate: 0.1", "learning_rate: 0.2"))
    with pytest.raises(UserError) as refused:  # a run by itself would go on with it
        sweep(str(other), ALPHAS, seeds=SEEDS, folder=f"{place.folder}/out", overrides=FOR_ALL)
    assert "optimizer.dense.learning_rate: 0.1 -> 0.2. Change it back, or give another" in str(
        refused.value
    )
    with pytest.raises(UserError, match=r"data\.train: the rows of .*later are others now"):
        swept(place, overrides=(*FOR_ALL, f"data.train={place.folder}/later"))


def test_a_cell_that_fails_is_named_and_alone_trained_again(
    place: Place, resumed: tuple[dict[str, Any], dict[str, bytes]]
) -> None:
    copy = Place(place.folder / "copy")
    shutil.copytree(place.folder / "train", copy.folder / "train")
    sound = (copy.folder / "train" / "1.parquet").read_bytes()
    damage(copy)  # behind sound footers, so that only training meets it
    arms = [Arm("damaged", (f"data.train={copy.folder}/train",)), ALPHAS[0]]
    failed, done = swept(place, arms, seeds=SEEDS[:1])["cells"]
    assert (failed["status"], failed["exit_status"], done["status"]) == ("failed", 2, "finished")
    assert f"{copy.folder}/train/1.parquet" in failed["last_line"]
    assert "cannot be read" in Path(failed["log"]).read_text()
    page = (place.folder / "out" / "sweep.md").read_text()
    assert f"damaged-seed5 failed with status 2: {failed['last_line']}; its log:" in page
    assert "| damaged" not in page

    (copy.folder / "train" / "1.parquet").write_bytes(sound)
    mended, kept = swept(place, arms, seeds=SEEDS[:1])["cells"]
    assert (mended["status"], mended["last_line"]) == ("finished", None)
    assert kept == done


def test_the_chosen_arm_and_the_baseline_alone_are_judged_by_the_test_log_and_once(
    place: Place,
    resumed: tuple[dict[str, Any], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written = list[list[dict[str, Any]]]()
    write = SweepFolder.write_record

    def note(self: SweepFolder, record: dict[str, Any]) -> None:
        written.append(record["choices"])
        write(self, record)

    monkeypatch.setattr(SweepFolder, "write_record", note)
    record, _ = resumed
    later, seeds = f"{place.folder}/later", SEEDS[:1]
    by_purchase = {cell["arm"]: cell["auc"]["purchase"] for cell in record["cells"][:2]}
    best, other = sorted(by_purchase, key=lambda arm: by_purchase[arm], reverse=True)
    third = Arm("third", ("data.shuffle_window_row_groups=1",))
    options = {"seeds": seeds, "test": later, "baseline": other, "parallel": 2}
    rule = "max purchase subject to average >= 0.01"
    chosen = swept(place, choose=rule, **options)
    (choice,) = chosen["choices"]
    assert (choice["arm"], choice["test_pending"]) == (best, False)
    first = next(place for place, choices in enumerate(written) if choices)
    assert written[first][0]["test"] is None, "written down before the test log is read"
    assert len(written) - first > 3, "after the choice, after each run, at the end"
    assert {choices[0]["arm"] for choices in written[first:]} == {best}
    of_best = next(cell for cell in chosen["cells"] if cell["arm"] == best)
    assert choice["test"]["mean"]["purchase"] == of_best["test_auc"]["purchase"]
    judged = evaluate(of_best["url"], later)
    assert of_best["test_auc"] == {task: n["auc"] for task, n in judged["tasks"].items()}
    answers = {file: file.read_bytes() for file in (place.folder / "out" / "test").iterdir()}
    assert len(answers) == 2

    again = swept(place, choose=rule, **options)
    assert again["choices"] == chosen["choices"]
    assert {file: file.read_bytes() for file in answers} == answers
    for changed in ({"choose": "max wish"}, {"choose": rule, "arms": [*ALPHAS, third]}):
        with pytest.raises(UserError, match="has already judged the choice of"):
            swept(place, **(options | changed))
    with pytest.raises(UserError, match=r"no arm holds this on data\.eval; the nearest is"):
        swept(place, choose="max wish subject to purchase >= 1", seeds=seeds)

    shutil.rmtree(of_best["url"])
    damaged = next(file for file in answers if not file.name.startswith(of_best["name"]))
    damaged.write_bytes(answers[damaged][:-9])
    with pytest.raises(UserError, match=f"and {of_best['name']} of it has been trained anew since"):
        swept(place, choose=rule, **options)
    capsys.readouterr()
    anew = swept(place, **options)  # chooses nothing
    both = ", ".join(cell["name"] for cell in record["cells"][:2])
    assert f"said of {both} is damaged or of another training, and" in capsys.readouterr().out
    assert damaged.read_bytes() == answers[damaged], "the same training was judged again"
    trained_anew = next(file for file in answers if file != damaged)
    now, before = json.loads(trained_anew.read_bytes()), json.loads(answers[trained_anew])
    assert now["training"] != before["training"]
    assert anew["cells"][0]["test_auc"].keys() == {"purchase", "cart", "wish"}


def test_what_a_log_says_that_changed_meanwhile_is_not_kept(
    place: Place,
    resumed: tuple[dict[str, Any], dict[str, bytes]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    later, answer = place.folder / "later", place.folder / "answer.json"
    cell_yaml = place.folder / "out" / "cells" / "alpha_1-seed6.yaml"
    judging = ["--test", later, "--test-digest", "of other rows", "--answer", answer]
    assert cell_process.main(list(map(str, [cell_yaml, *judging]))) == 2
    said = f"--test {later}: its rows are others than when the sweep began; let the log be as it is"
    assert said in capsys.readouterr().err
    assert not answer.exists()


def test_a_run_of_a_single_task_arm_trains_that_task_alone(place: Place) -> None:
    cells = plan_cells(
        str(place.yaml),
        [Arm("alone", (), single_task=True)],
        seeds=[1],
        overrides=(*FOR_ALL, "training.max_steps=3"),
        runs_url=f"{place.folder}/alone",
    )
    assert len(cells) == 3
    result = launch(cells[1].config)
    assert result["tasks"].keys() == {"cart"}
    assert result["tasks"]["cart"]["mean_weight"] == 1.0
