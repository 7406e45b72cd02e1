"""`sweep`: everything a user can get wrong is said before anything trains."""

from pathlib import Path

import pytest

from recsys_mtl import cli
from tests.unit.data.click_logs import write_log
from tests.unit.run_files import write_run

RUN = """\
run: {name: demo, storage_path: FOLDER/runs, seed: 4}
data:
  train: TRAIN
  eval: EVAL
  features:
    row: {kind: id, rows: 1000, embedding_dim: 8}
    price: {kind: dense}
  labels: {purchase: buy}
method: {kind: gradops}
training: {global_batch_size: 64}
cluster: {num_workers: 0}
"""


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    train, evaluation = write_log(tmp_path / "train", [[100]]), write_log(tmp_path / "eval", [[30]])
    text = RUN.replace("TRAIN", train).replace("EVAL", evaluation)
    return write_run(tmp_path, text.replace("FOLDER", str(tmp_path)))


ALPHAS = ("--set", "method.alpha=-1,0")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--set", "method.alhpa=-1,0"), "arm 'alhpa=-1': {yaml}: method.alhpa: unknown key"),
        (("--set", "method.alpha="), "--set method.alpha=: has no value; give one or more"),
        (("--set", "method.alpha=0,.inf"), "arm 'alpha=.inf': {yaml}: method.alpha: "),
        (("--set", "method.alpha=0,0.0"), "'alpha=0' and 'alpha=0.0' are the same configuration"),
        ((*ALPHAS, "--seeds", "0"), "--seeds 0: give 1 to 1,000"),
        ((*ALPHAS, "--seeds", "3" + 20 * "0"), "00: give 1 to 1,000"),
        ((*ALPHAS, "--parallel", "0"), "--parallel 0: give 1 or more cells at a time"),
        ((*ALPHAS, "--baseline", "uniform"), "no arm; the arms: alpha=-1, alpha=0"),
        ((*ALPHAS, "--out", "s3://a/b"), "--out s3://a/b is no folder of this machine"),
        ((*ALPHAS, "--out", ""), "--out is empty; give a folder, or leave it out"),
        ((*ALPHAS, "--out", "/proc/x"), "--out: /proc cannot be used"),
        ((*ALPHAS, "--choose", "max wihs"), "'wihs' is no task; allowed: purchase, average"),
        ((*ALPHAS, "--choose", "best wish"), "--choose 'best wish' cannot be read; write"),
        ((*ALPHAS, "--test", "/nowhere"), "--test /nowhere: no Parquet file there"),
        ((*ALPHAS, "--test", "{folder}/eval"), "/part-0.parquet is a file of data.eval"),
        ((*ALPHAS, "--test", "{folder}/train"), "/part-0.parquet is a file of data.train"),
        (("--set", "data.train=/a,/b"), "/a: no Parquet file there"),
        ((*ALPHAS, "--for-all", "training.epoch=3"), "training.epoch: unknown key"),
        ((*ALPHAS, "--for-all", "run.seed=3"), "--for-all run.seed=3: every arm is trained with"),
    ],
)
def test_what_cannot_be_swept_is_refused_in_one_sentence_and_nothing_is_trained(
    run_yaml: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], says: str
) -> None:
    folder = run_yaml.parent
    given = [option.format(folder=folder) for option in options]
    with pytest.raises(SystemExit) as ended:
        cli.main(["sweep", str(run_yaml), *given, "--log-format", "text"])
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert says.format(yaml=run_yaml) in printed.err
    assert printed.err.startswith("recsys-mtl: ")
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert not (folder / "runs").exists()
