"""`recsys-mtl settings`: what it prints, and that its reader may stop early."""

import json
import subprocess
import sys

import pytest

from recsys_mtl import cli
from recsys_mtl.config.json_schema import run_json_schema


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.main(["settings", *arguments])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_a_setting_is_printed_with_path_type_default_and_meaning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert printed(capsys, "method.alpha").splitlines() == [
        "method.alpha  (kind: gradops)",
        "    number; default: 0.0",
        "    The trade-off: above 0 favours tasks that dominate the update, below 0 the",
        "    dominated.",
        "",
        "method.alpha  (kind: dw)",
        "    number; default: -1.0",
        "    The trade-off, as in GradOPS; 0 is the plain sum.",
        "",
        "method.alpha  (kind: pcgrad_dw)",
        "    number; default: -1.0",
        "    The trade-off, as in GradOPS; 0 is PCGrad.",
        "",
        "method.alpha  (kind: gradnorm)",
        "    number from 0; default: 1.5",
        "    Asymmetry: 0 aims at equal gradient norms; the larger, the more a task that",
        "    has learnt less than the others gets.",
    ]


def test_without_a_section_everything_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys).splitlines()
    for section in ("run", "data", "model", "method", "optimizer", "training", "cluster"):
        assert section in lines
    assert max(map(len, lines)) <= 100


def test_the_json_schema_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(printed(capsys, "--json-schema")) == run_json_schema()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["trainng"], "there is no setting 'trainng'; did you mean training"),
        (["data", "--json-schema"], "--json-schema describes a whole file; leave out 'data'"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["settings", *arguments])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("recsys-mtl: ")
    assert sentence in said.err
    assert said.err.count("\n") == 1


def test_a_reader_that_stops_early_is_no_error() -> None:
    command = f"{sys.executable} -m recsys_mtl settings --json-schema | head -1"
    ended = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "{\n", "")
