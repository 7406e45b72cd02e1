"""The command line: what `check` prints, and how everything a user gets wrong is refused."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from recsys_mtl import cli
from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.driver import launch
from recsys_mtl.driver.preemption import PreemptionError
from recsys_mtl.driver.runner import TrainingError
from tests.unit.data.click_logs import clicks, write_groups, write_log
from tests.unit.run_files import write_run

RUN = """\
run: {name: demo}
data:
  train: TRAIN
  eval: EVAL
  features:
    row: {kind: id, rows: 1000, embedding_dim: 8}
    tags: {kind: id, column: words, rows: 50, embedding_dim: 8}
    price: {kind: dense}
    first: {kind: one_hot, column: row, vocabulary: [0, 1, 2]}
  labels: {purchase: buy}
method: {kind: gradops}
training: {global_batch_size: 64}
"""


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    """A run whose training log has 1,006 rows in 3 row groups of 2 files."""
    train = write_log(tmp_path / "train", [[1000, 4], [2]])
    evaluation = write_log(tmp_path / "eval", [[30]])
    return write_run(tmp_path, RUN.replace("TRAIN", train).replace("EVAL", evaluation))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one message of a command that ends with status 2."""
    text = ["--log-format", "text"] if arguments[0] == "train" else []
    with pytest.raises(SystemExit) as ended:
        cli.main([*map(str, arguments), *text])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    message = printed.err
    assert "Traceback" not in message + printed.out
    assert message.startswith("recsys-mtl: ")
    assert message.count("\n") == 1
    return message.removeprefix("recsys-mtl: ").strip()


def test_check_says_what_is_in_both_logs_and_what_is_read_of_them(
    run_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["check", str(run_yaml)])
    assert ended.value.code == 0
    read = [
        "  2 id features: row, words",
        "  1 dense features: price",
        "  1 one_hot features, 5 inputs: row",
    ]
    outside = "of the first {} rows hold a value that its vocabulary lacks, such as 3, 4, 5"
    train, evaluation = run_yaml.parent / "train", run_yaml.parent / "eval"
    assert capsys.readouterr().out.splitlines() == [
        f"data.train: 1,006 rows in 2 file(s), 3 row group(s) of at most 1,000 rows: {train}",
        *read,
        f"    first: 997 {outside.format('1,000')}",
        "  1 label(s): purchase (buy)",
        f"data.eval: 30 rows in 1 file(s), 1 row group(s) of at most 30 rows: {evaluation}",
        *read,
        f"    first: 27 {outside.format('30')}",
        "  1 label(s): purchase (buy)",
    ]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "global_batch_size: 64",
            "global_batch_size: 64, epoch: 3",
            ["training.epoch:", "unknown key", "did you mean epochs?"],
        ),
        (
            "kind: gradops",
            "kind: gradpos",
            ["method.kind:", "unknown 'gradpos'", "allowed: uniform, gradops, gradops_static"],
        ),
        (
            "run: {name: demo}",
            "run: {name: demo}\ncluster: {num_workers: 9}",
            ["cluster.num_workers is 9", "data.lanes is 8", "take at most 8"],
        ),
        (
            "run: {name: demo}",
            "run: {name: demo}\nrun: {name: other}",
            ["the key 'run' stands twice", "line 2", "keep one"],
        ),
    ],
    ids=["unknown key", "misspelt method", "workers", "duplicate key"],
)
@pytest.mark.parametrize("command", ["check", "train"])
def test_a_wrong_yaml_is_refused_with_key_and_remedy(
    run_yaml: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    old: str,
    new: str,
    says: list[str],
) -> None:
    run_yaml.write_text(run_yaml.read_text().replace(old, new))
    message = refusal(capsys, command, run_yaml)
    for part in (str(run_yaml), *says):
        assert part in message


def test_a_missing_yaml_is_refused_with_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(capsys, "check", tmp_path / "missing.yaml")
    assert f"{tmp_path}/missing.yaml" in message
    assert "give the path of a run's YAML" in message


def test_an_override_reaches_the_run_and_a_wrong_one_is_refused(
    run_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(capsys, "check", run_yaml, "--set", "cluster.num_workers=9")
    assert "cluster.num_workers is 9" in message


def without_price(clicks: pa.Table) -> pa.Table:
    return clicks.drop_columns(["price"])


def with_text_for_price(clicks: pa.Table) -> pa.Table:
    return clicks.set_column(2, "price", pa.array(["cheap"] * clicks.num_rows))


def with_a_label_of_2(clicks: pa.Table) -> pa.Table:
    return clicks.set_column(3, "buy", pa.array([0, 2] * (clicks.num_rows // 2), pa.int8()))


def without_rows(clicks: pa.Table) -> pa.Table:
    return clicks.slice(0, 0)


@pytest.mark.parametrize("part", ["train", "eval"])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            without_price,
            ["'price'", "data.features.price", "is missing in", "the file has: row, words, buy"],
        ),
        (with_text_for_price, ["'price'", "has type string", "it must hold numbers"]),
        (with_a_label_of_2, ["'buy'", "data.labels.purchase", "value 2", "is 0, 1 or null"]),
    ],
)
def test_a_wrong_column_is_refused_with_file_and_remedy(
    run_yaml: Path,
    capsys: pytest.CaptureFixture[str],
    part: str,
    spoil: Callable[[pa.Table], pa.Table],
    says: list[str],
) -> None:
    file = run_yaml.parent / part / "part-0.parquet"
    write_groups(file, [spoil(clicks(0, 10))])
    message = refusal(capsys, "check", run_yaml)
    for name in (str(file), *says):
        assert name in message


def test_a_log_without_rows_is_refused(run_yaml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_yaml.parent / "train"
    for file in folder.iterdir():
        write_groups(file, [without_rows(clicks(0, 10))])
    message = refusal(capsys, "check", run_yaml)
    assert f"{folder} holds no rows in 2 file(s); give a log with at least one" in message


def test_a_missing_log_is_refused_with_its_path(
    run_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(capsys, "check", run_yaml, "--set", "data.train=/nowhere/clicks")
    assert message == (
        "/nowhere/clicks: no Parquet file there; give a file, a folder or a glob of files"
    )


@pytest.mark.parametrize("content", [b"", b"no Parquet at all", "cut short"])
def test_a_corrupt_file_is_refused_with_its_name(
    run_yaml: Path, capsys: pytest.CaptureFixture[str], content: bytes | str
) -> None:
    file = run_yaml.parent / "train" / "part-1.parquet"
    whole = file.read_bytes()
    file.write_bytes(content if isinstance(content, bytes) else whole[: len(whole) - 20])
    message = refusal(capsys, "check", run_yaml)
    assert f"{file} cannot be read as Parquet: " in message
    assert message.endswith("; mend or remove it")


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (TrainingError("worker 1 was lost"), 1, "recsys-mtl: worker 1 was lost\n"),
        (UserError("no such cluster"), 2, "recsys-mtl: no such cluster\n"),
        (
            KeyboardInterrupt(),
            130,
            "recsys-mtl: interrupted; the same command goes on from what is there\n",
        ),
        (PreemptionError("ended by SIGTERM"), 143, "recsys-mtl: ended by SIGTERM\n"),
        (None, 0, ""),
    ],
    ids=["failed training", "user's mistake", "interrupted", "pre-empted", "done"],
)
@pytest.mark.parametrize("fresh", [True, False])
def test_train_ends_with_the_documented_status_and_one_message(
    run_yaml: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException | None,
    status: int,
    says: str,
    fresh: bool,
) -> None:
    launched: list[tuple[str, bool]] = []

    def record_launch(config: RunConfig, *, fresh: bool) -> None:
        launched.append((config.run.name, fresh))
        if error is not None:
            raise error

    monkeypatch.setattr(launch, "launch", record_launch)
    flags = ["--fresh"] if fresh else []
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", str(run_yaml), "--log-format", "text", *flags])
    assert ended.value.code == status
    assert capsys.readouterr().err == says
    assert launched == [("demo", fresh)]


def test_what_went_wrong_in_this_process_is_told_with_its_traceback(
    run_yaml: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(config: RunConfig, *, fresh: bool) -> None:
        try:
            raise RuntimeError("no batch")
        except RuntimeError as error:
            raise TrainingError("run 'demo' failed (no batch)") from error

    monkeypatch.setattr(launch, "launch", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", str(run_yaml), "--log-format", "text"])
    assert ended.value.code == 1
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == "recsys-mtl: run 'demo' failed (no batch)"
    assert rest[0].startswith("Traceback")
    assert rest[-1] == "RuntimeError: no batch"


def test_an_error_is_one_json_object_where_the_output_is_no_terminal(
    run_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["train", str(run_yaml), "--set", "cluster.num_workers=9"])
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    told = json.loads(line)
    assert (told["level"], told["event"], printed.out) == ("error", "refused", "")
    assert "cluster.num_workers is 9" in told["message"]


def test_help_names_the_commands_and_succeeds() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "recsys_mtl", "--help"], capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0
    assert "check" in found.stdout
    assert "train" in found.stdout


def test_check_never_imports_ray(run_yaml: Path) -> None:
    program = (
        "import json, sys\n"
        "from recsys_mtl.cli import main\n"
        "try:\n"
        "    main(['check', sys.argv[1]])\n"
        "except SystemExit as ended:\n"
        "    print(json.dumps([ended.code, 'ray' in sys.modules]))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, run_yaml], capture_output=True, text=True, timeout=60
    )
    assert json.loads(found.stdout.splitlines()[-1]) == [0, False], found.stderr
