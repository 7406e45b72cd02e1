"""What can be compared: gradients that the method needs and the model has."""

from pathlib import Path
from typing import get_args

import pytest

from recsys_mtl.config import Method
from recsys_mtl.config.file import load_config
from tests.unit.run_files import SMALLEST, refusal, write_run

METHODS = (
    "uniform",
    "gradops",
    "gradops_static",
    "dw",
    "pcgrad",
    "pcgrad_dw",
    "gradvac",
    "mgda",
    "cagrad",
    "imtl_g",
    "upgrad",
    "gradnorm",
)
NEEDED = {"gradops_static": ", weights: {purchase: 1.5, cart: 0.5}"}
"""Settings without a default."""
TWO_LAYERS = "model.bottom_hidden_sizes=[16, 8]"
FIRST = "model.task_specific_layers=[bottom.layers.0]"
LAST = "model.task_specific_layers=[bottom.layers.1]"
EVERY = "model.task_specific_layers=[bottom.layers.1, bottom.layers.0]"
BOTTOM = "gradients.scope=bottom"
TABLE = "    item: {kind: id, rows: 100, embedding_dim: 8}\n"
REPRESENTATION = "gradients.space=representation"


@pytest.fixture
def run_yaml(tmp_path: Path) -> Path:
    return write_run(tmp_path)


def method(kind: str) -> str:
    return f"method={{kind: {kind}{NEEDED.get(kind, '')}}}"


def test_every_method_of_the_configuration_is_tried_here() -> None:
    (union, _) = get_args(Method)
    assert tuple(get_args(m.model_fields["kind"].annotation)[0] for m in get_args(union)) == METHODS


@pytest.mark.parametrize("kind", METHODS)
def test_a_method_needs_no_more_than_its_kind(run_yaml: Path, kind: str) -> None:
    config = load_config(run_yaml, (method(kind),))
    assert config.method.kind == kind
    assert (config.gradients.scope, config.gradients.space) == ("all", "parameters")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("alpha: -0.1", "method.alpha: must be greater than or equal to 0 (found -0.1)"),
        ("alpha: .inf", "method.alpha: must be a finite number (found inf)"),
        ("learning_rate: 0", "method.learning_rate: must be greater than 0 (found 0)"),
    ],
)
def test_gradnorm_s_numbers_are_checked(run_yaml: Path, settings: str, expected: str) -> None:
    assert refusal(run_yaml, f"method={{kind: gradnorm, {settings}}}") == [expected]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("cagrad, c: 1", "method.c: must be less than 1 (found 1)"),
        ("cagrad, c: -0.1", "method.c: must be greater than or equal to 0 (found -0.1)"),
        ("gradvac, beta: 1.5", "method.beta: must be less than or equal to 1 (found 1.5)"),
        ("dw, alpha: .inf", "method.alpha: must be a finite number (found inf)"),
        ("pcgrad_dw, alpha: .nan", "method.alpha: must be a finite number (found nan)"),
        ("mgda, alpha: 1", "method.alpha: unknown key (value 1); allowed: kind"),
        ("gradops_static", "method.weights: is missing; add it"),
    ],
)
def test_a_method_s_numbers_are_checked(run_yaml: Path, settings: str, expected: str) -> None:
    assert refusal(run_yaml, f"method={{kind: {settings}}}") == [expected]


def test_cagrad_is_refused_for_more_than_8_tasks(run_yaml: Path) -> None:
    labels = ", ".join(f"task_{place}: buy_{place}" for place in range(9))
    assert refusal(run_yaml, "method={kind: cagrad}", f"data.labels={{{labels}}}") == [
        "method.kind is cagrad, which weighs at most 8 tasks, and data.labels has 9; choose "
        "another method, such as upgrad, or leave labels out"
    ]
    load_config(run_yaml, ("method={kind: upgrad}", f"data.labels={{{labels}}}"))


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (
            "{purchase: 1.5, cart: 0.6}",
            "method.weights sum to 2.1, and with 2 tasks they must sum to 2; multiply each by 2 / "
            "2.1",
        ),
        (
            "{purchase: 2.0}",
            "method.weights lacks cart; give a weight to each of purchase, cart, with the sum 2",
        ),
        (
            "{purchase: 1.0, cart: 0.5, wish: 0.5}",
            "method.weights names 'wish', no task; give a weight to each of purchase, cart, with "
            "the sum 2",
        ),
        (
            "{purchase: 3.0, cart: -1.0}",
            "method.weights.cart: must be greater than or equal to 0 (found -1.0)",
        ),
    ],
    ids=["sum", "too few", "too many", "negative"],
)
def test_static_weights_fit_the_tasks(run_yaml: Path, weights: str, expected: str) -> None:
    assert refusal(run_yaml, f"method={{kind: gradops_static, weights: {weights}}}") == [expected]
    load_config(run_yaml, ("method={kind: gradops_static, weights: {cart: 2, purchase: 0}}",))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("scope", "bottom"),
        ("space", "representation"),
        ("refresh_interval_steps", "8"),
        ("audit_interval_steps", "50"),
        ("backend", "torch"),
    ],
)
@pytest.mark.parametrize("kind", METHODS)
def test_a_key_that_moved_is_refused_with_its_new_place(
    tmp_path: Path, key: str, value: str, kind: str
) -> None:
    sentence = f"method.{key}: is now gradients.{key}, for every method that compares gradients; "
    needed = NEEDED.get(kind, "")
    in_the_file = SMALLEST.replace("{kind: gradops}", f"{{kind: {kind}{needed}, {key}: {value}}}")
    (line,) = refusal(write_run(tmp_path, in_the_file))
    assert line.startswith(sentence)
    path = write_run(tmp_path, SMALLEST.replace("gradops", kind + needed))
    (line,) = refusal(path, f"method.{key}={value}")
    assert line.startswith(sentence)
    assert value in line.removeprefix(sentence)
    load_config(write_run(tmp_path), (f"gradients.{key}={value}",))  # as it advises


def test_gradnorm_is_refused_at_the_representation(run_yaml: Path) -> None:
    (line,) = refusal(run_yaml, method("gradnorm"), REPRESENTATION)
    assert line == (
        "gradients.space is representation, where no layer has a gradient per task; method.kind "
        "gradnorm reads the gradient of the last shared layer; choose gradients.space: parameters"
    )
    for kind in set(METHODS) - {"gradnorm"}:
        load_config(run_yaml, (method(kind), REPRESENTATION))


def test_a_representation_below_shared_layers_is_refused(run_yaml: Path) -> None:
    (line,) = refusal(run_yaml, "model.bottom_hidden_sizes=[32, 16, 8]", FIRST, REPRESENTATION)
    assert line == (
        "gradients.space is representation, the input of the first layer of "
        "model.task_specific_layers; bottom.layers.1, bottom.layers.2 above it would be shared, "
        "with gradients that are not compared; name the layers above in "
        "model.task_specific_layers, too, or choose gradients.space: parameters"
    )
    load_config(run_yaml, (TWO_LAYERS, FIRST))
    load_config(run_yaml, (TWO_LAYERS, FIRST, REPRESENTATION, method("uniform")))
    load_config(run_yaml, (TWO_LAYERS, LAST, REPRESENTATION))
    load_config(run_yaml, (TWO_LAYERS, EVERY, REPRESENTATION))


@pytest.mark.parametrize("kind", ["gradops", "mgda"])
def test_tables_alone_are_compared_where_they_are_in_scope(run_yaml: Path, kind: str) -> None:
    load_config(run_yaml, (TWO_LAYERS, EVERY, method(kind)))
    assert refusal(run_yaml, TWO_LAYERS, EVERY, method(kind), BOTTOM) == [
        "model.task_specific_layers names every layer of the bottom, and gradients.scope is "
        "bottom, which leaves out the embedding tables: no shared gradient would be left to "
        "compare; leave a layer shared, or choose gradients.scope: all, or choose method.kind "
        "uniform"
    ]
    load_config(run_yaml, (TWO_LAYERS, LAST, method(kind), BOTTOM))


@pytest.mark.parametrize("kind", ["gradops", "mgda"])
def test_a_model_without_tables_needs_a_shared_layer_to_compare(tmp_path: Path, kind: str) -> None:
    path = write_run(tmp_path, SMALLEST.replace(TABLE, ""))
    assert refusal(path, TWO_LAYERS, EVERY, method(kind)) == [
        "model.task_specific_layers names every layer of the bottom, and there are no embedding "
        "tables: no shared gradient would be left to compare; leave a layer shared, or choose "
        "method.kind uniform"
    ]
    load_config(path, (TWO_LAYERS, LAST, method(kind)))


def test_gradnorm_needs_a_shared_layer_whatever_the_tables(run_yaml: Path) -> None:
    assert refusal(run_yaml, TWO_LAYERS, EVERY, method("gradnorm")) == [
        "model.task_specific_layers names every layer of the bottom, and method.kind gradnorm "
        "compares the gradients of layers alone: no shared gradient would be left to compare; "
        "leave a layer shared, or choose method.kind uniform"
    ]
    load_config(run_yaml, (TWO_LAYERS, LAST, method("gradnorm")))


def test_a_method_that_compares_nothing_needs_nothing_to_compare(tmp_path: Path) -> None:
    path = write_run(tmp_path, SMALLEST.replace(TABLE, ""))
    load_config(path, (TWO_LAYERS, EVERY, method("uniform"), BOTTOM))
