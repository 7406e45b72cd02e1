"""A run's folder: what is found there, what is written, what is deleted."""

import json
import secrets
from pathlib import Path

import pytest

from recsys_mtl.config import RunConfig, UserError, refuse_changes
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.run_folder import RunFolder
from recsys_mtl.driver.storage import storage_url, with_absolute_paths
from tests.unit.run_files import write_run


def config_at(tmp_path: Path, storage: str, *overrides: str) -> RunConfig:
    return load_config(write_run(tmp_path), (f"run.storage_path={storage}", *overrides))


def begin(
    folder: RunFolder, config: RunConfig, digest: str, error: Exception | None = None, **state: bool
) -> None:
    """Begin a run in which this error happens, with training under way unless `state` says no."""
    with folder.begun(config, digest, "eval", lambda: state.get("training", True)):
        if error is not None:
            raise error


@pytest.fixture(params=["local folder", "object store"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> RunConfig:
    storage = str(tmp_path / "runs")
    if request.param == "object store":
        storage = f"memory://{secrets.token_hex(8)}"
    return config_at(tmp_path, storage)


@pytest.fixture
def begun(tmp_path: Path) -> tuple[RunFolder, Path]:
    """A run that has begun, and its folder on the disk."""
    config = config_at(tmp_path, str(tmp_path / "runs"))
    folder = RunFolder(config)
    begin(folder, config, "abc")
    return folder, tmp_path / "runs" / "demo"


def test_no_run_is_found_where_none_has_begun(config: RunConfig) -> None:
    folder = RunFolder(config)
    assert folder.earlier() is None
    assert folder.result() is None
    folder.delete()  # nothing to delete is no fault


def test_a_run_that_has_begun_is_found_with_its_configuration_and_digest(config: RunConfig) -> None:
    begin(RunFolder(config), config, "abc")
    assert RunFolder(config).earlier() == (config, "abc")
    assert RunFolder(config).result() is None


def test_beginning_again_replaces_the_first_beginning(config: RunConfig, tmp_path: Path) -> None:
    changed = config_at(tmp_path, config.run.storage_path, "training.max_steps=9")
    folder = RunFolder(config)
    begin(folder, config, "abc")
    begin(folder, changed, "def")
    assert folder.earlier() == (changed, "def")


def test_nothing_half_written_stays_behind(begun: tuple[RunFolder, Path]) -> None:
    _, place = begun
    assert sorted(path.name for path in place.iterdir()) == ["config.yaml", "data.json"]


def test_the_result_is_read_back(begun: tuple[RunFolder, Path]) -> None:
    folder, place = begun
    (place / "result.json").write_text(json.dumps({"steps": 7}))
    assert folder.result() == {"steps": 7}


@pytest.mark.parametrize("begun_before", [True, False])
def test_a_start_that_is_refused_before_training_leaves_the_folder_as_it_was(
    config: RunConfig, tmp_path: Path, begun_before: bool
) -> None:
    folder = RunFolder(config)
    if begun_before:
        begin(folder, config, "abc")
    changed = config_at(tmp_path, config.run.storage_path, "training.max_steps=9")
    with pytest.raises(UserError):
        begin(folder, changed, "def", UserError("the tables are too large"), training=False)
    assert folder.earlier() == ((config, "abc") if begun_before else None)


@pytest.mark.parametrize("error", [UserError("a row is damaged"), KeyboardInterrupt()])
def test_a_start_that_ends_while_training_is_the_run_s_newest(
    config: RunConfig, tmp_path: Path, error: Exception
) -> None:
    folder = RunFolder(config)
    begin(folder, config, "abc")
    changed = config_at(tmp_path, config.run.storage_path, "training.max_steps=9")
    with pytest.raises(type(error)):
        begin(folder, changed, "def", error)
    assert folder.earlier() == (changed, "def")


def test_both_logs_have_their_digest(begun: tuple[RunFolder, Path]) -> None:
    _, place = begun
    digests = json.loads((place / "data.json").read_text())
    assert digests == {"digest": "abc", "eval_digest": "eval"}


def test_a_deleted_run_is_gone_and_may_begin_again(config: RunConfig) -> None:
    folder = RunFolder(config)
    begin(folder, config, "abc")
    folder.delete()
    assert RunFolder(config).earlier() is None
    begin(folder, config, "def")
    assert folder.earlier() == (config, "def")


def test_deleting_one_run_leaves_the_others(begun: tuple[RunFolder, Path], tmp_path: Path) -> None:
    folder, _ = begun
    other = config_at(tmp_path, str(tmp_path / "runs"), "run.name=demo-2")
    begin(RunFolder(other), other, "abc")
    folder.delete()
    assert RunFolder(other).earlier() == (other, "abc")


def test_a_folder_that_is_no_run_s_is_not_deleted(tmp_path: Path) -> None:
    thesis = tmp_path / "runs" / "demo" / "thesis.tex"
    thesis.parent.mkdir(parents=True)
    thesis.write_text("years of work")
    with pytest.raises(UserError, match=r"runs/demo, which holds no config\.yaml"):
        RunFolder(config_at(tmp_path, str(tmp_path / "runs"))).delete()
    assert thesis.read_text() == "years of work"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"run: [",
        b"run: {name: demo}\n",
        b"\xff\xfe\x00 not text",
        b"run: 2024-01-01\n",
        b"- a list",
    ],
)
def test_a_damaged_configuration_is_refused_and_fresh_mends_it(
    begun: tuple[RunFolder, Path], content: bytes
) -> None:
    folder, place = begun
    (place / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"demo/config\.yaml .*--fresh") as caught:
        folder.earlier()
    assert "\n" not in str(caught.value)
    folder.delete()
    assert not place.exists()


@pytest.mark.parametrize("content", [b"{", b"\xff"])
def test_a_damaged_digest_is_refused(begun: tuple[RunFolder, Path], content: bytes) -> None:
    folder, place = begun
    (place / "data.json").write_bytes(content)
    with pytest.raises(UserError, match=r"damaged .*--fresh"):
        folder.earlier()


def test_a_run_without_a_digest_has_an_empty_one(begun: tuple[RunFolder, Path]) -> None:
    folder, place = begun
    (place / "data.json").unlink()
    earlier = folder.earlier()
    assert earlier is not None
    assert earlier[1] == ""


def test_local_paths_become_absolute_and_urls_lose_the_last_slash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    assert storage_url("runs") == str(tmp_path.resolve() / "runs")
    assert storage_url("~/runs") == "/home/ada/runs"
    assert storage_url("s3://bucket/runs/") == "s3://bucket/runs"


def test_storage_of_an_unknown_kind_is_refused_with_the_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run\.storage_path: nowhere://a/"):
        RunFolder(config_at(tmp_path, "nowhere://a"))


@pytest.mark.parametrize(
    ("record", "trained_by"),
    [
        ("checkpoint_manager_snapshot.json", "ray"),
        ("local_checkpoints.json", "this process"),
        (None, None),
    ],
)
def test_a_run_is_whose_committed_checkpoints_it_has(
    begun: tuple[RunFolder, Path], record: str | None, trained_by: str | None
) -> None:
    folder, place = begun
    if record is not None:
        (place / record).write_text("{}")
    assert folder.trained_by() == trained_by


@pytest.mark.parametrize(
    ("record", "content", "newest"),
    [
        (
            "local_checkpoints.json",
            {
                "checkpoints": [
                    {"name": name, "step": step, "score": None, "scored_by": None}
                    for step, name in enumerate(("a", "b"))
                ]
            },
            "b",
        ),
        ("local_checkpoints.json", {"checkpoints": []}, None),
        (
            "checkpoint_manager_snapshot.json",
            {
                "checkpoint_report_indices": [1, 0],
                "checkpoint_results": [
                    {"checkpoint_dir_name": name, "metrics": {"step": step}}
                    for step, name in ((2, "b"), (1, "a"))
                ],
            },
            "b",
        ),
        (
            "checkpoint_manager_snapshot.json",
            {"checkpoint_report_indices": [], "checkpoint_results": []},
            None,
        ),
        (None, None, None),
    ],
)
def test_the_newest_checkpoint_is_the_last_that_was_committed(
    begun: tuple[RunFolder, Path], record: str | None, content: object, newest: str | None
) -> None:
    folder, place = begun
    for name in ("a", "b", "c"):  # c was never committed
        (place / name).mkdir()
        (place / name / "run.json").write_text(name)
    if record is not None:
        (place / record).write_text(json.dumps(content))
    checkpoint = folder.newest_checkpoint()
    assert (checkpoint and checkpoint.read("run.json").decode()) == newest


@pytest.mark.parametrize("record", ["local_checkpoints.json", "checkpoint_manager_snapshot.json"])
@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_a_damaged_record_of_checkpoints_is_refused_by_name(
    begun: tuple[RunFolder, Path], record: str, content: str
) -> None:
    folder, place = begun
    (place / record).write_text(content)
    with pytest.raises(UserError, match=rf"demo/{record} is damaged .*--fresh"):
        folder.newest_checkpoint()


def test_local_paths_of_a_run_become_absolute_and_urls_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    here = tmp_path.resolve()
    (tmp_path / "newest").symlink_to(tmp_path / "elsewhere")
    config = config_at(
        tmp_path,
        "runs",
        "data.train=newest/*.parquet",
        "data.eval=../eval",
        "metrics.bearer_token_file=~/token",
    )
    absolute = with_absolute_paths(config)
    assert absolute.run.storage_path == f"{here}/runs"
    assert absolute.data.train == f"{here}/newest/*.parquet"
    assert absolute.data.eval == f"{here.parent}/eval"
    assert absolute.metrics.bearer_token_file == "/home/ada/token"
    assert absolute.metrics.discovery_folder is None
    assert with_absolute_paths(absolute) == absolute
    refuse_changes(config, absolute, "abc", "abc")  # the same run
    urls = config_at(tmp_path, "s3://runs", "data.train=s3://a/train/", "data.eval=s3://a/*")
    assert with_absolute_paths(urls) == urls
