"""Benchmarks measure what is right, say what is wrong, and write what they promise."""

import argparse
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipelines.benchmarks import gradops_step, measure, weights
from pipelines.benchmarks.gradops_step import (
    METHODS,
    conflicting_gradients,
    contenders_for,
    main,
    wrong_methods,
)
from recsys_mtl.gradients import gradops_reference

SMALL = ["--tasks", "2", "3", "--parameters", "1000", "--rounds", "3"]


def fresh_gradients(num_tasks: int = 3) -> Tensor:
    print("seed", torch.seed())
    return conflicting_gradients(num_tasks, 1000)


def test_a_run_writes_every_method_of_every_size(tmp_path: Path) -> None:
    file, threads = tmp_path / "out.json", torch.get_num_threads()
    main([*SMALL, "--json", str(file)])
    torch.set_num_threads(threads)
    written = json.loads(file.read_text())
    assert written["threads"] == 1
    names = ["floor", *METHODS]
    assert [(row["name"], row["T"]) for row in written["rows"]] == [
        (name, num_tasks) for num_tasks in (2, 3) for name in names
    ]
    for row in written["rows"]:
        assert set(row) == {"name", "T", "P", "batch_size", "median_seconds", "ratio"}
        assert (row["P"], row["batch_size"]) == (1000, None)
        assert row["median_seconds"] > 0
        floor = written["rows"][0 if row["T"] == 2 else len(names)]
        assert row["ratio"] == pytest.approx(row["median_seconds"] / floor["median_seconds"])


def test_a_method_that_is_wrong_is_named_and_no_number_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nearly(gradients: Tensor, coefficients: Tensor, **_: Tensor) -> Tensor:
        return (coefficients * 1.00001).float() @ gradients

    monkeypatch.setattr(gradops_step, "combine_gradients", nearly)
    file = tmp_path / "out.json"
    with pytest.raises(SystemExit, match=r"wrong update at T = 2, P = 1000: gradops \(rel") as end:
        main([*SMALL, "--json", str(file)])
    assert "torchjd" not in str(end.value)
    assert not file.exists()
    assert "ratio" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["floor", *METHODS])
def test_an_update_that_is_not_finite_or_off_by_a_percent_is_wrong(name: str) -> None:
    gradients = fresh_gradients()
    contenders = contenders_for(gradients, METHODS)
    assert wrong_methods(gradients, contenders) == []
    right = contenders[name]
    for factor in (1.01, torch.nan):
        broken = replace(right, run=lambda factor=factor: right.run() * factor)
        (wrong,) = wrong_methods(gradients, {**contenders, name: broken})
        assert wrong.startswith(name)


def test_a_float32_gram_is_no_fault_of_a_method_and_its_price_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    gradients = fresh_gradients()
    rounded = (gradients @ gradients.T).double()

    def off_by_rounding(gram: Tensor) -> Tensor:
        return torch.full((3,), 1.0 if torch.equal(gram, rounded) else 1.25, dtype=torch.float64)

    contender = gradops_step.Contender(
        lambda: gradients.sum(dim=0), off_by_rounding, tolerance=1e-5, float32_gram=True
    )
    assert wrong_methods(gradients, {"rounded": contender}) == []
    assert "rounded 2.0e-01" in capsys.readouterr().out
    exact = replace(contender, float32_gram=False)
    assert wrong_methods(gradients, {"exact": exact}) == [
        "exact (relative error 2.0e-01, at most 1e-05)"
    ]


def test_gradients_have_a_pair_that_conflicts_and_one_that_agrees() -> None:
    gram = weights.plain_gram(fresh_gradients())
    assert gram[0, 1] < 0 < gram[0, 2]


@pytest.mark.parametrize("alpha", [-1.0, 0.0, 0.5])
def test_weights_from_coordinates_are_those_of_the_reference_on_the_gradients(
    alpha: float,
) -> None:
    gradients = fresh_gradients(4)
    found = weights.gradops_weights(alpha)(weights.plain_gram(gradients))
    update, *_ = gradops_reference(gradients, alpha=alpha, zero_sine_squared=1e-8)
    torch.testing.assert_close(found @ gradients.double(), update)


def test_upgrad_s_projections_solve_their_quadratic_program() -> None:
    gradients = fresh_gradients(2)
    gram = weights.plain_gram(gradients)
    update = weights.upgrad_weights(gram) @ gradients.double()
    # By hand for two conflicting gradients: each half loses its part along the other.
    first, second = gradients.double()
    product = first @ second
    expected = (first - product / gram[1, 1] * second + second - product / gram[0, 0] * first) / 2
    assert float((update - expected).norm() / expected.norm()) < 1e-3


@pytest.mark.parametrize("norm", [1.0, 1e-3], ids=["long", "short: their mean"])
def test_upgrad_s_weights_are_those_torchjd_finds(norm: float) -> None:
    from torchjd.aggregation import UPGrad

    gradients = fresh_gradients(4).double()
    gradients *= norm / gradients.norm()
    found = weights.upgrad_weights(weights.plain_gram(gradients)) @ gradients
    torch.testing.assert_close(found, UPGrad()(gradients), rtol=1e-4, atol=1e-4 * norm)


def test_a_package_that_is_missing_is_said_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as end:
        main([*SMALL, "--methods", "gradops", "torchjd_upgrad"])
    assert end.value.code == 2
    assert "torchjd is not installed, which torchjd_upgrad needs" in capsys.readouterr().err


def test_rounds_are_interleaved_after_a_warm_up() -> None:
    called: list[str] = []
    calls = {name: lambda name=name: called.append(name) for name in "abc"}
    seconds = measure.time_interleaved(calls, rounds=4)
    assert {name: len(values) for name, values in seconds.items()} == {"a": 4, "b": 4, "c": 4}
    rounds = [called[start : start + 3] for start in range(0, len(called), 3)]
    assert len(rounds) == measure.WARM_UP_ROUNDS + 4
    assert all(sorted(names) == ["a", "b", "c"] for names in rounds)


def test_ratios_are_of_medians_to_the_baseline_s() -> None:
    seconds = {"slow": [0.3, 9.0, 0.3], "base": [0.1, 0.1, 0.2]}
    slow, base = measure.summarise(
        seconds, baseline="base", num_tasks=3, num_parameters=7, batch_size=2048
    )
    assert (slow.median_seconds, base.median_seconds) == (0.3, 0.1)
    assert (slow.ratio, base.ratio) == (pytest.approx(3.0), 1.0)
    assert slow.p10_seconds == pytest.approx(0.3)
    assert slow.p90_seconds > 0.3
    assert (slow.name, slow.num_tasks, slow.num_parameters, slow.batch_size) == ("slow", 3, 7, 2048)


@pytest.mark.parametrize("text", ["0", "-1", "1e6", "many"])
def test_a_count_that_is_not_a_positive_whole_number_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        measure.positive_int(text)
