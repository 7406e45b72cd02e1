"""The network of a run: which bodies and layers can be named."""

from pathlib import Path

import pytest

from recsys_mtl.config import MixtureOfExpertsBody, SharedBottomBody
from recsys_mtl.config.file import load_config
from tests.unit.run_files import refusal, write_run

LAYERS = "model.bottom_hidden_sizes=[32, 16, 8]"
ALLOWED = "allowed: bottom.layers.0, bottom.layers.1, bottom.layers.2, each once"


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    return write_run(tmp_path)


def test_the_body_is_a_shared_bottom_unless_said_otherwise(run_yaml: Path) -> None:
    assert load_config(run_yaml).model.body == SharedBottomBody()
    body = load_config(run_yaml, ("model.body={kind: mmoe, expert_hidden_sizes: [8]}",)).model.body
    assert body == MixtureOfExpertsBody(kind="mmoe", experts=4, expert_hidden_sizes=(8,))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "={experts: 0}",
            ": needs the key kind, one of shared_bottom, mmoe, ple (found {'exp",
        ),
        (".experts=0", ": needs the key kind, one of shared_bottom, mmoe, ple (found {'exp"),
        (
            "=mmoe",
            ": must hold keys (found 'mmoe'); allowed: kind (one of shared_bottom, mmoe, ple)",
        ),
        ("={kind: cgc}", ".kind: unknown 'cgc'; allowed: shared_bottom, mmoe, ple"),
        ("={kind: ple, levels: 0}", ".levels: must be greater than or equal to 1 (found 0)"),
        ("={kind: ple, task_experts: 0}", ".task_experts: must be greater than or equal to 1"),
        ("={kind: ple, shared_experts: 0}", ".shared_experts: must be greater than or equal to 1"),
        ("={kind: ple, experts: 3}", ".experts: unknown key (value 3); did you mean"),
        ("={kind: mmoe, experts: 0}", ".experts: must be greater than or equal to 1 (found 0)"),
        ("={kind: mmoe, expert_hidden_sizes: []}", ".expert_hidden_sizes: must not be empty"),
        ("={kind: mmoe, expert: 3}", ".expert: unknown key (value 3); did you mean experts?"),
        ("={kind: shared_bottom, experts: 3}", ".experts: unknown key (value 3); allowed: kind"),
    ],
)
def test_a_wrong_body_is_refused_in_one_sentence(
    run_yaml: Path, override: str, expected: str
) -> None:
    (line,) = refusal(run_yaml, f"model.body{override}")
    assert line.startswith(f"model.body{expected}")


def test_layers_of_the_bottom_can_be_task_specific(run_yaml: Path) -> None:
    own = "model.task_specific_layers=[bottom.layers.2, bottom.layers.0]"
    model = load_config(run_yaml, (LAYERS, own)).model
    assert model.bottom_layers == ("bottom.layers.0", "bottom.layers.1", "bottom.layers.2")
    assert model.task_specific_layers == ("bottom.layers.2", "bottom.layers.0")
    assert model.shared_above_task_specific == ("bottom.layers.1",)
    assert load_config(run_yaml, (LAYERS,)).model.shared_above_task_specific == ()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("bottom.layers.3", f"names 'bottom.layers.3', no layer of the bottom; {ALLOWED}"),
        ("bottom.layers.01", f"names 'bottom.layers.01', no layer of the bottom; {ALLOWED}"),
        ("bottom.layers.1, bottom.layers.1", f"names bottom.layers.1 twice; {ALLOWED}"),
    ],
)
def test_an_unknown_or_repeated_layer_is_refused_with_those_there_are(
    run_yaml: Path, names: str, expected: str
) -> None:
    found = refusal(run_yaml, LAYERS, f"model.task_specific_layers=[{names}]")
    assert found == [f"model.task_specific_layers {expected}"]


@pytest.mark.parametrize("kind", ["mmoe", "ple"])
def test_another_body_has_no_task_specific_layers(run_yaml: Path, kind: str) -> None:
    own = "model.task_specific_layers=[bottom.layers.0]"
    assert refusal(run_yaml, f"model.body={{kind: {kind}}}", own) == [
        "model.task_specific_layers names layers of the body shared_bottom, and model.body.kind is "
        f"{kind}; remove one of the two"
    ]
