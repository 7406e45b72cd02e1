"""A search for the layers in which tasks conflict, and the run that has copies of them."""

import io
import json
import os
import re
import signal
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from torch import Tensor, nn

from recsys_mtl.cli import main
from recsys_mtl.config import UserError
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.committed import checkpoints_of
from recsys_mtl.driver.launch import launch
from recsys_mtl.driver.recon_scores import read_scores, refuse_another_network
from recsys_mtl.driver.storage import Folder
from recsys_mtl.metrics.trace import read_trace
from recsys_mtl.model.bodies.contract import BodyInputs, BodyShape, DropoutMasks, MultiTaskBody
from tests.end_to_end.runs import Place, make_place, started, wait_until
from tests.in_process.demo_runs import tensors_of

STEPS = 40
SETTINGS = (
    "cluster.num_workers=0",
    "model.bottom_hidden_sizes=[16, 8, 4]",
    "metrics.linger_seconds=0",
    "training.epochs=null",
    f"training.max_steps={STEPS}",
)
SEARCH = ("--threshold", "-0.01", "--search-share", "0.5")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("recon"))


def command(
    place: Place, run: str, *arguments: object, settings: tuple[str, ...] = ()
) -> list[str]:
    sets = (*SETTINGS, f"run.name={run}", *settings)
    words = ("recon", place.yaml, *arguments, *(part for s in sets for part in ("--set", s)))
    return [str(word) for word in words]


def status_of(words: list[str]) -> tuple[int, str]:
    """The exit status of the command line, and all that it printed."""
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed), pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0), printed.getvalue()


def result_of(place: Place, run: str) -> dict[str, Any]:
    return dict(json.loads((place.folder / "runs" / run / "result.json").read_text()))


@pytest.fixture(scope="module")
def searched(place: Place) -> str:
    """What the command told of a run `clicks` of which one layer was made task-specific."""
    arguments = (*SEARCH, "--layers", "1", "--log-format", "json")
    settings = ("training.evaluation_interval_steps=10", "training.best_by=mean_auc")
    status, printed = status_of(command(place, "clicks", *arguments, settings=settings))
    assert status == 0, printed
    return printed


def test_the_scores_are_the_sums_of_the_search_s_trace(place: Place, searched: str) -> None:
    scores = read_scores(f"{place.runs}/clicks-recon-search/recon.json")
    trace = read_trace(f"{place.runs}/clicks-recon-search/trace").to_pandas()
    assert (len(trace), scores.search_steps, scores.threshold) == (STEPS // 2, STEPS // 2, -0.01)
    found = {**scores.layers, **{f"tables.{name}": score for name, score in scores.tables.items()}}
    assert [*found] == [*(f"bottom.layers.{d}" for d in range(3)), "tables.user", "tables.items"]
    for name, score in found.items():
        assert score.conflicting_pairs == trace[f"conflicting_pairs_{name}"].sum()
        assert score.compared_pairs == trace[f"compared_pairs_{name}"].sum() == 3 * STEPS // 2
    assert sum(score.conflicting_pairs for score in found.values()) > 0


def test_learning_rates_of_a_search_are_those_of_the_whole_run(place: Place) -> None:
    schedule = ("optimizer.schedule={kind: linear, final_factor: 0}", "run.name=decaying")
    recon = "recon={threshold: 0, search_only: true}"
    launch(load_config(place.yaml, (*SETTINGS, *schedule, recon)))
    factors = read_trace(f"{place.runs}/decaying/trace")["learning_rate_factor"].to_pylist()
    assert factors == pytest.approx([1 - step / STEPS for step in range(STEPS // 4)])


def test_parameters_and_bytes_are_those_of_what_is_trained(place: Place, searched: str) -> None:
    scores = read_scores(f"{place.runs}/clicks-recon-search/recon.json")
    parameters = result_of(place, "clicks-recon-search")["parameters"]
    assert sum(layer.parameters for layer in scores.layers.values()) == parameters["shared"]
    assert sum(table.parameters for table in scores.tables.values()) == parameters["tables"]
    saved = tensors_of(place.folder, "clicks-recon-search")
    for owner, table in scores.tables.items():
        kept = [t for name, t in saved.items() if name.endswith(f"tables.{owner}")]
        assert len(kept) == 2, "the table, and what row-wise Adagrad keeps of it"
        assert table.bytes == sum(tensor.nbytes for tensor in kept)


def test_the_layer_with_most_conflicts_has_a_copy_per_task_in_the_run_that_is_written(
    place: Place, searched: str
) -> None:
    scores = read_scores(f"{place.runs}/clicks-recon-search/recon.json")
    best = max(scores.layers.values(), key=lambda score: score.conflicting_pairs)
    (chosen,) = yaml.safe_load(Path(f"{place.runs}/clicks-recon-1.yaml").read_text())["model"][
        "task_specific_layers"
    ]
    assert scores.layers[chosen].conflicting_pairs == best.conflicting_pairs
    first, *comment = Path(f"{place.runs}/clicks-recon-1.yaml").read_text().splitlines()
    assert first == "# Written by recsys-mtl recon."
    assert any(line.startswith(f"#   {chosen}: ") for line in comment)
    saved = tensors_of(place.folder, "clicks-recon-1")
    for task in ("purchase", "cart", "wish"):
        assert f"{chosen}.{task}.weight" in saved
    assert f"{chosen}.weight" not in saved
    result = result_of(place, "clicks-recon-1")
    assert result["steps"] == STEPS
    assert result["best"]["step"] is not None, "what is left out of a search is in the run"
    events = [json.loads(line)["event"] for line in searched.splitlines()]
    assert [e for e in events if e in ("ranking", "scores", "written")] == [
        "ranking",
        "scores",
        "written",
    ]


def test_the_written_run_goes_on_from_its_checkpoint_and_the_command_says_it_is_done(
    place: Place, searched: str
) -> None:
    arguments = (*SEARCH, "--layers", "1")
    settings = ("training.evaluation_interval_steps=10", "training.best_by=mean_auc")
    status, printed = status_of(command(place, "clicks", *arguments, settings=settings))
    assert status == 0
    for run in ("clicks-recon-search", "clicks-recon-1"):
        assert f"run '{run}' is finished" in printed
    longer = load_config(f"{place.runs}/clicks-recon-1.yaml", (f"training.max_steps={STEPS + 10}",))
    assert launch(longer)["steps"] == STEPS + 10
    attempts = read_trace(f"{place.runs}/clicks-recon-1/trace")["attempt"].to_pylist()
    assert attempts == [1] * STEPS + [2] * 10


def test_scores_serve_another_method_without_a_search(place: Place, searched: str) -> None:
    scores = f"{place.runs}/clicks-recon-search/recon.json"
    out = place.folder / "other.yaml"
    arguments = ("--scores", scores, "--layers", "2", "--order", "lowest", "--out", out)
    status, printed = status_of(
        command(place, "other", *arguments, settings=("method={kind: uniform}",))
    )
    assert status == 0, printed
    assert not (place.folder / "runs" / "other-recon-search").exists()
    result = result_of(place, "other-recon-2-lowest")
    assert (result["method"]["kind"], result["recon"]) == ("uniform", None)
    ranking = read_scores(scores).ranking()
    assert f"task-specific: {', '.join(sorted(ranking[1:]))}" in printed
    written = out.read_text()
    assert "a control: those with the fewest" in written.replace("\n# ", " ")

    # A run of that name that could not go on with this one leaves its YAML as it is.
    again = ("--scores", scores, "--layers", "2", "--order", "lowest", "--out", out)
    status, printed = status_of(command(place, "other", *again))
    assert status == 2
    *_, refused = printed.splitlines()
    assert "run 'other-recon-2-lowest' was begun with another configuration: method.kind" in refused
    assert f"--fresh, each with --scores {scores}, so that nothing is searched again" in refused
    assert out.read_text() == written


def test_a_search_that_is_killed_goes_on_with_the_scores_of_an_undisturbed_one(
    place: Place,
) -> None:
    settings = ("training.max_steps=200", "training.log_interval_steps=7")
    often, never = (f"training.checkpoint_interval_steps={steps}" for steps in (10, "null"))
    arguments = ("--threshold", "0", "--search-share", "1", "--search-only")
    json_format = ("--log-format", "json")
    killed = command(place, "killed", *arguments, *json_format, settings=(*settings, often))
    process, _ = started(dict(os.environ), *killed, until="run")
    folder = Folder(f"{place.runs}/killed-recon-search")
    wait_until(lambda: len(checkpoints_of(folder)) > 0, timeout_seconds=60, what="a checkpoint")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not folder.exists("result.json"), "it was killed in time"
    for run in ("killed", "whole"):
        words = command(place, run, *arguments, settings=(*settings, never))
        status, printed = status_of(words)
        assert status == 0, printed
    found, expected = (
        read_scores(f"{place.runs}/{run}-recon-search/recon.json") for run in ("killed", "whole")
    )
    attempts = read_trace(f"{folder.url}/trace")["attempt"].to_pylist()
    assert set(attempts) == {1, 2}
    assert found.search_steps == 200
    assert (found.layers, found.tables) == (expected.layers, expected.tables)


class Quarrelling(MultiTaskBody):
    """Two tasks of the same labels: they agree on one layer and pull the other apart."""

    def __init__(self, shape: BodyShape) -> None:
        super().__init__()
        self.agreed = nn.Parameter(torch.zeros(shape.input_width))
        self.disputed = nn.Parameter(torch.zeros(shape.input_width))
        self.biases = nn.ParameterList(torch.zeros(1) for _ in shape.task_names)

    def representation(self, inputs: BodyInputs, masks: DropoutMasks) -> tuple[Tensor, ...]:
        joined = torch.cat(inputs, dim=1)
        return (torch.stack([joined @ self.agreed, joined @ self.disputed], dim=1),)

    def logits(self, representation: tuple[Tensor, ...], task: int, masks: DropoutMasks) -> Tensor:
        agreed, disputed = representation[0].unbind(dim=1)
        return agreed + (-1) ** task * disputed + self.biases[task]

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        return {"agreed.weight": self.agreed, "disputed.weight": self.disputed}

    def task_parameters(self, task: int) -> dict[str, nn.Parameter]:
        return {f"heads.{task}.bias": self.biases[task]}

    def shared_layers(self) -> dict[str, tuple[str, ...]]:
        return {"agreed": ("agreed.weight",), "disputed": ("disputed.weight",)}


def test_a_network_whose_tasks_conflict_in_one_layer_has_all_conflicts_there(place: Place) -> None:
    twice = place.folder / "twice.parquet"
    table = pq.read_table(place.folder / "train")
    pq.write_table(table.append_column("again", table["purchase"]), twice)
    settings = (
        "run.name=quarrelling",
        f"data.train={twice}",
        f"data.eval={twice}",
        "data.labels={one: purchase, other: again}",
        "recon={threshold: -0.9, search_share: 1}",
        "method={kind: uniform}",
    )
    result = launch(load_config(place.yaml, (*SETTINGS, *settings)), body=Quarrelling)
    assert result["recon"]["layers"] == {"agreed": 0, "disputed": STEPS}


@pytest.mark.parametrize(
    ("arguments", "settings", "says"),
    [
        (["--layers", "1"], (), "--threshold is missing"),
        (["--threshold", "0"], (), "--layers is missing"),
        (["--threshold", "0.1", "--layers", "1"], (), "--threshold is 0.1; give a cosine above -1"),
        (["--threshold", "-1", "--layers", "1"], (), "--threshold is -1; "),
        (["--threshold", "nan", "--layers", "1"], (), "--threshold is nan; "),
        (
            ["--threshold", "0", "--layers", "1", "--search-share", "1.5"],
            (),
            "--search-share is 1.5; give a share",
        ),
        (["--threshold", "0", "--layers", "4"], (), "--layers is 4, and the bottom has 3 shared"),
        (["--threshold", "0", "--layers", "0"], (), "--layers is 0, .* from 1 to 3"),
        (
            ["--threshold", "0", "--layers", "3"],
            ("model.task_specific_layers=[bottom.layers.2]",),
            r"--layers is 3, .* has 2 shared layers \(bottom.layers.0, bottom.layers.1\)",
        ),
        (
            ["--threshold", "0", "--layers", "1"],
            ("model.bottom_hidden_sizes=[8]",),
            "here there is no choice .*; add layers in model.bottom_hidden_sizes",
        ),
        (
            ["--threshold", "0", "--layers", "1"],
            ("model.body={kind: mmoe}",),
            "model.body.kind is mmoe; --search-only shows",
        ),
        (
            ["--threshold", "0", "--search-only"],
            ("data.labels={cart: cart}",),
            "data.labels has 'cart' alone; name another task",
        ),
        (["--scores", "{runs}/none.json", "--layers", "1"], (), "cannot be read .*give the recon"),
        (["--scores", "{runs}/../run.yaml", "--layers", "1"], (), "is no recon.json of this vers"),
        (
            ["--scores", "{search}", "--layers", "1"],
            ("model.bottom_hidden_sizes=[8, 4]",),
            r"is of another network: its bottom is \[16, 8, 4\] .* this run's is \[8, 4\]",
        ),
        (["--scores", "{search}", "--threshold", "0"], (), "--threshold 0.0 is for a search, and"),
        (["--scores", "{search}", "--search-only"], (), "--search-only is for a search, and"),
        (
            ["--scores", "{search}", "--layers", "1", "--out", "{runs}/../run.yaml"],
            (),
            "was not written by recsys-mtl recon; give another --out",
        ),
        (["--threshold", "0", "--search-only", "--layers", "1"], (), "--layers 1 is for a run"),
        (["--threshold", "0", "--search-only", "--order", "last"], (), "--order last is for a run"),
        (["--threshold", "0", "--search-only", "--seed", "0"], (), "--seed 0 is for a run"),
        (["--threshold", "0", "--search-only", "--out", "a.yaml"], (), "--out a.yaml is for a run"),
        (
            ["--threshold", "0", "--layers", "1", "--seed", "0"],
            (),
            "--seed 0 is for --order random, and the order is highest; give both, or leave --seed",
        ),
        (
            ["--threshold", "0", "--layers", "3"],
            ("method={kind: gradnorm}",),
            "no shared gradient would be left to compare; leave a layer shared",
        ),
        (
            [*SEARCH, "--layers", "1"],
            ("run.name=clicks", "method={kind: uniform}"),
            "run 'clicks-recon-search' was begun with another configuration: method.kind",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    place: Place, searched: str, arguments: list[str], settings: tuple[str, ...], says: str
) -> None:
    search = f"{place.runs}/clicks-recon-search/recon.json"
    words = [word.format(runs=place.runs, search=search) for word in arguments]
    before = sorted((place.folder / "runs").iterdir())
    status, printed = status_of(command(place, "refused", *words, settings=settings))
    assert status == 2
    (line,) = printed.splitlines()
    assert re.search(says, line), line
    assert sorted((place.folder / "runs").iterdir()) == before


def test_a_search_alone_shows_how_tasks_conflict_in_any_body(place: Place) -> None:
    arguments = (*SEARCH, "--search-only", "--log-format", "text")
    status, printed = status_of(
        command(place, "experts", *arguments, settings=("model.body={kind: mmoe, experts: 2}",))
    )
    assert status == 0, printed
    scores = read_scores(f"{place.runs}/experts-recon-search/recon.json")
    assert scores.hidden_sizes is None
    for name in (*scores.layers, *scores.tables):
        assert name in printed
    assert "tables stay shared" in printed
    with pytest.raises(UserError, match="no shared bottom"):
        refuse_another_network(scores, load_config(place.yaml), "there")
