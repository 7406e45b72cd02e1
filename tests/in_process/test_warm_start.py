"""Runs that begin with another run's values, in this process."""

import json
import re
from pathlib import Path

import pytest

from pipelines import synthetic_clicks
from recsys_mtl.cli import main

DEMO = Path(__file__).parents[2] / "pipelines" / "runs" / "demo.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of two days, and a run on the first."""
    made = tmp_path_factory.mktemp("warm")
    words = ["--out", str(made / "demo"), "--rows", "4000", "--seed", "1", "--drift", "--days", "2"]
    synthetic_clicks.main(words)
    assert train(made, "first", days(made)[0]) == 0
    return made


def days(folder: Path) -> list[Path]:
    return sorted(path for path in (folder / "demo" / "train").iterdir() if path.is_dir())


def train(folder: Path, run: str, log: Path, *more: str, fresh: bool = False) -> int:
    """The command's exit status."""
    overrides = (
        f"run.name={run}",
        f"run.storage_path={folder}/runs",
        f"data.train={log}",
        f"data.eval={folder}/demo/eval",
        "model.bottom_hidden_sizes=[16, 8]",
        "training.global_batch_size=64",
        "training.epochs=1",
        "metrics.linger_seconds=0",
        "cluster.num_workers=0",
        *more,
    )
    words = ["train", str(DEMO), "--log-format", "text", *(["--fresh"] if fresh else [])]
    with pytest.raises(SystemExit) as ended:
        main([*words, *(part for o in overrides for part in ("--set", o))])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_the_next_day_goes_on_from_the_one_before(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warm = f"run.warm_start={{from: {folder}/runs/first}}"
    mean = "data.features.price.mean=3.25"
    assert train(folder, "second", days(folder)[1], warm, mean, "training.max_steps=3") == 0
    said = capsys.readouterr().out
    assert "names matched, 0 new, 0 dropped" in said
    assert "warm start, features changed: price: mean 3.5 -> 3.25" in said
    result = json.loads((folder / "runs" / "second" / "result.json").read_text())
    assert result["steps"] == 3
    assert result["warm_start"]["run"].startswith(f"{folder}/runs/first (")
    assert result["warm_start"]["changed"] == ["price: mean 3.5 -> 3.25"]
    # Gone on with, it has its own values, and still says where the first ones are from.
    assert train(folder, "second", days(folder)[1], warm, mean, "training.max_steps=5") == 0
    assert "warm start" not in capsys.readouterr().out
    longer = json.loads((folder / "runs" / "second" / "result.json").read_text())
    assert (longer["steps"], longer["warm_start"]) == (5, result["warm_start"])


def test_a_run_that_would_begin_with_itself_is_refused_and_not_deleted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warm = f"run.warm_start={{from: 'file://{folder}/runs/first/'}}"
    assert train(folder, "first", days(folder)[1], warm, fresh=True) == 2
    assert "run.warm_start.from is file://" in capsys.readouterr().err
    assert (folder / "runs" / "first" / "result.json").exists()


def test_a_log_that_has_grown_is_refused_with_the_way_on(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(folder, "first", folder / "demo" / "train") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "data.train: the rows of" in line
    assert "run.warm_start: {from: " in line


@pytest.mark.parametrize(
    ("warm_start", "more", "says"),
    [
        ("{from: runs/none}", (), "run.warm_start.from .*runs/none is no run's folder"),
        ("{from: runs/cold}", (), "runs/cold is no run's folder"),
        ("{from: runs/first, checkpoint: best}", (), "no checkpoint of the run .* has a score"),
        ("{from: runs/first, parts: [table]}", (), "run.warm_start.parts.*'tables'"),
        ("{form: runs/first}", (), "run.warm_start.*from"),
        (
            "{from: runs/first}",
            ("data.features.item_id.rows=77",),
            r"item_id.rows is 77 and was \d+ in the run of run.warm_start.*another name here",
        ),
        (
            "{from: runs/first}",
            ("data.features.item_id={kind: id, column: words, rows: 100000, embedding_dim: 16}",),
            "is missing in",
        ),
        (
            "{from: runs/first}",
            ("model.bottom_hidden_sizes=[32, 8]",),
            "bottom.layers.0.weight is 16 x .* and 32 x .* here, and .* more differ; .*parts",
        ),
        (
            "{from: runs/first}",
            ("data.features.recent_categories.pooling=sum",),
            "recent_categories.pooling is sum and was mean in the run of .*another name here",
        ),
        (
            "{from: runs/first}",
            ("data.features.price.transform=identity",),
            "price.transform is identity and was log1p in the run of .*another name here",
        ),
        (
            "{from: runs/first, rename: {shop: item_id}}",
            (),
            "nothing is called 'shop' in the other run.*has the features user_id, .*tasks purchase",
        ),
        ("{from: runs/first, rename: {prize: price}}", (), "'prize' .*did you mean price"),
        ("{from: runs/first, rename: {item_id: shop}}", (), "nothing here is called so"),
    ],
)
def test_what_cannot_be_taken_over_is_said_in_one_sentence(
    folder: Path,
    warm_start: str,
    more: tuple[str, ...],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert train(folder, "cold", days(folder)[1], f"run.warm_start={warm_start}", *more) == 2
    refusal = capsys.readouterr().err  # of the YAML, a line per mistake
    assert re.search(says, refusal), refusal
    assert "Traceback" not in refusal
    cold = folder / "runs" / "cold"
    assert not cold.exists() or not list(cold.iterdir()), "what is mended can begin, --fresh or not"
