"""Every body with every method in every mode trains what plain torch trains, on 1 and 2 workers."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from recsys_mtl.config import ConfigError
from recsys_mtl.config.file import load_config
from tests.distributed.plain_torch import train_plainly
from tests.distributed.test_worker_equivalence import run_yaml, train

__all__ = ["run_yaml"]

STEPS = 4
BODIES = {
    "bottom": [],
    "last layer own": ["model.task_specific_layers=[bottom.layers.2]"],
    "middle layer own": ["model.task_specific_layers=[bottom.layers.1]"],
    "first layer own": ["model.task_specific_layers=[bottom.layers.0]"],
    "every layer own": [
        "model.task_specific_layers=[bottom.layers.0, bottom.layers.1, bottom.layers.2]"
    ],
    "mmoe": ["model.body={kind: mmoe, experts: 3, expert_hidden_sizes: [12, 8]}"],
    "ple": ["model.body={kind: ple, task_experts: 2, expert_hidden_sizes: [12, 8]}"],
    "ple, 3 levels": ["model.body={kind: ple, levels: 3, expert_hidden_sizes: [8]}"],
}
METHODS = {
    "uniform": ["method={kind: uniform}"],
    "gradops": [],
    "pcgrad": ["method={kind: pcgrad}"],
    "gradnorm": ["method={kind: gradnorm}"],
    "gradops_static": [
        "method={kind: gradops_static, weights: {purchase: 1.5, cart: 0.5, wish: 1.0}}"
    ],
    "dw": ["method={kind: dw, alpha: -2}"],
    "pcgrad_dw": ["method={kind: pcgrad_dw}"],
    "gradvac": ["method={kind: gradvac}"],
    "mgda": ["method={kind: mgda}"],
    "cagrad": ["method={kind: cagrad}"],
    "imtl_g": ["method={kind: imtl_g}"],
    "upgrad": ["method={kind: upgrad}"],
}
MODES = {
    "all": [],
    "scope bottom": ["gradients.scope=bottom"],
    "refresh 2": ["gradients.refresh_interval_steps=2"],
    "representation": ["gradients={space: representation, audit_interval_steps: 3}"],
    "representation, bottom": ["gradients={space: representation, scope: bottom}"],
}
TASKS = {
    "one task": "data.labels={purchase: purchase}",
    "a task without labels": "data.labels={purchase: purchase, never: never, wish: wish}",
}
# Steps so small that float32 keeps to the float64 of the plain run within the tolerances.
ALWAYS = [
    "model.bottom_hidden_sizes=[24, 16, 8]",
    "optimizer.dense.learning_rate=0.05",
    "optimizer.tables.learning_rate=0.05",
    "training.global_batch_size=128",
]
Outcome = dict[str, Any]


def overrides(body: str, method: str, mode: str) -> list[str]:
    return [*ALWAYS, *BODIES[body], *METHODS[method], *MODES[mode]]


def is_worth_a_run(body: str, method: str, mode: str) -> bool:
    """Whether no other combination shows what this one shows.

    PLE has parts of the kinds that the other bodies have. `uniform` reads nothing of the modes. All
    methods but GradNorm read the products that GradOPS reads, and are asked by the same code: one
    body shows that they are given the right ones.
    """
    match method:
        case "gradops":
            return body != "ple, 3 levels" or mode == "all"
        case "uniform":
            return mode == "all" and "ple" not in body
        case "gradnorm":
            return body == "bottom" or (mode == "all" and body != "ple, 3 levels")
        case _:
            return body == "bottom" and mode != "representation, bottom"


def is_allowed(run_yaml: Path, body: str, method: str, mode: str) -> bool:
    try:
        load_config(run_yaml, tuple(overrides(body, method, mode)))
    except ConfigError:
        return False
    return True


@pytest.fixture(scope="module")
def combinations(run_yaml: Path) -> dict[str, list[str]]:
    """What may be combined, by name."""
    return {
        " / ".join(names): overrides(*names)
        for names in itertools.product(BODIES, METHODS, MODES)
        if is_worth_a_run(*names) and is_allowed(run_yaml, *names)
    } | {
        " / ".join((body, method, mode, tasks)): [*overrides(body, method, mode), labels]
        for tasks, labels in TASKS.items()
        for body, method, mode in [
            *itertools.product(("bottom", "mmoe"), METHODS, ("all", "scope bottom")),
            ("ple", "gradops", "all"),
        ]
        if is_worth_a_run(body, method, mode)
        # The plain GradNorm asks for labels of every task at every step; static weights name tasks.
        and not (method == "gradnorm" and tasks == "a task without labels")
        and method != "gradops_static"
    }


def differences(found: Outcome, expected: Outcome) -> list[str]:
    """What is farther off than it may be."""
    pairs = [
        # Before the parameters have drifted apart by float32 rounding: the same products.
        ("first coefficients", found["coefficients"][0], expected["coefficients"][0], 1e-6),
        ("first weights", found["weights"][0], expected["weights"][0], 1e-6),
        ("losses", found["losses"], expected["losses"], 1e-5),
    ]
    for group in ("parameters", "tables"):
        assert found[group].keys() == expected[group].keys()
        pairs += [(name, found[group][name], expected[group][name], 1e-5) for name in found[group]]
    return [
        f"{name} {float((a.double() - b).abs().max()):.1e}"
        for name, a, b, limit in pairs
        if not (a.double() - b).abs().max() <= limit
    ]


def test_every_combination_trains_what_plain_torch_trains(
    run_yaml: Path, combinations: dict[str, list[str]]
) -> None:
    # One test: a process of pytest-xdist that had a part of it would train all plainly again.
    assert len(combinations) > 100
    plain = {
        name: train_plainly(str(run_yaml), STEPS, tuple(changed))
        for name, changed in combinations.items()
    }
    assert_tasks_conflict(plain)
    for world_size in (1, 2):
        found = train(run_yaml, world_size, STEPS, combinations)
        wrong = {name: differences(found[name], plain[name]) for name in combinations}
        assert not {name: what for name, what in wrong.items() if what}, world_size


def assert_tasks_conflict(plain: dict[str, Outcome]) -> None:
    """Otherwise every method would do the same."""
    weights = plain["bottom / gradops / all"]["weights"]
    assert ((weights - 1).abs().amax(dim=1) > 1e-3).all()
    coefficients = [plain[f"bottom / {method} / all"]["coefficients"] for method in METHODS]
    for one, other in itertools.combinations(coefficients, 2):
        assert (one - other).abs().max() > 1e-3


def test_what_cannot_be_combined_is_refused(run_yaml: Path) -> None:
    refused = {
        names
        for names in itertools.product(BODIES, METHODS, MODES)
        if not is_allowed(run_yaml, *names)
    }
    for body, method, mode in refused:
        above = body in ("middle layer own", "first layer own") and "representation" in mode
        layers = method == "gradnorm" and "representation" in mode
        nothing_shared = body == "every layer own" and ("bottom" in mode or method == "gradnorm")
        assert above or layers or nothing_shared, (body, method, mode)
    assert ("middle layer own", "gradops", "representation") in refused
    assert ("bottom", "gradnorm", "representation") in refused
