"""Recon: each method with and without it, its three claims, and three controls.

    python -m pipelines.experiments.recon_table --log census --data ../shared/data/census_income
    python -m pipelines.experiments.recon_table --log clicks --rows 1000000

Shi et al. (ICLR 2023) search the layers in which tasks conflict most and give each task a copy of
these. Every run here counts, at every step and in each layer of the bottom, the pairs of tasks
whose gradients have a cosine below --threshold. The layers that become task-specific are those with
the most in the first quarter of the plain sum's first run, and these for every method and seed.

What would confirm each claim was fixed beforehand:

1. Surgery does not reduce how often tasks conflict: a method's share of conflicting pairs is at
   least nine tenths of the plain sum's.
2. Recon does, in the layers that stay shared, at equal steps: the 95 % interval of the difference
   of the shares, with minus without it, over paired seeds, lies below 0.
3. One search serves other methods and logs: their own searches would choose the same layers.

The controls, under the plain sum and GradOPS(0): the layers with the fewest conflicts, random ones,
and a wider shared bottom with as many parameters as Recon's network. With two layers, as on census,
of which one is chosen, no random choice is left. The other log is of another seed, so of another
world; census has none. Written: `recon_table.md`, `.json` and `.png` in --out.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import fsspec

from pipelines.benchmarks.measure import positive_int
from pipelines.experiments.shared.clicks_setting import clicks_setting
from pipelines.experiments.shared.command import Asked, Experiment, Report, run
from pipelines.experiments.shared.conflict_counts import counting, counts_by_arm
from pipelines.experiments.shared.log_choice import log_parser, setting_of
from pipelines.experiments.shared.method_arms import CAGRAD, MGDA, PCGRAD, UNIFORM, gradops
from pipelines.experiments.shared.networks import inputs_of, parameters, wider
from pipelines.experiments.shared.recon_arms import (
    random_layers,
    refuse_unusable,
    with_own_layers,
)
from pipelines.experiments.shared.recon_report import Found, draw, report
from pipelines.experiments.shared.scores import scores_of
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.sweep import Arm

NAME = "recon_table"
METHODS = (UNIFORM, PCGRAD, CAGRAD, MGDA, gradops(0), gradops(-2))
"""MGDA on parameters: at the representation no shared layer may lie above a task-specific one."""
CONTROLLED = (UNIFORM, gradops(0))


def compare(asked: Asked) -> Report:
    """Train without Recon, choose the layers, train with them, and count everywhere."""
    setting, options = setting_of(asked), asked.options
    config = load_config(setting.run_yaml, tuple(options.set))
    refuse_unusable(config, options.layers)
    every_run = (*options.set, counting(options.threshold))
    plain = asked.stage(
        setting.run_yaml, METHODS, "without", test=setting.test, overrides=every_run
    )
    counts = counts_by_arm(plain)
    search = counts[UNIFORM.name][asked.seeds[0]]
    ranking, layers = search.ranking(), list(search.scores)
    chosen, lowest = (
        sorted(some, key=layers.index)
        for some in (ranking[: options.layers], ranking[-options.layers :])
    )
    controls = _controls(plain, config.model.bottom_hidden_sizes, layers, chosen, lowest)
    arms = _arms_with(chosen, controls)
    with_recon = asked.sweep(setting.run_yaml, arms, "with", test=setting.test, overrides=every_run)
    sweeps, other_log = [plain, with_recon], None
    if options.log == "clicks":
        searched = _search_elsewhere(asked, every_run)
        sweeps.append(searched)
        other_log = counts_by_arm(searched)[UNIFORM.name]
    found = Found(
        methods=[arm.name for arm in METHODS],
        chosen=chosen,
        scores=scores_of(plain, "test") | scores_of(with_recon, "test"),
        counts=counts | counts_by_arm(with_recon),
        other_log=other_log,
        controls={name: ", ".join(arm.overrides) for name, arm in controls.items()},
    )
    draw(found, asked.picture)
    return Report(report(found, setting, asked.seeds), asdict(found), sweeps)


def _arms_with(chosen: Sequence[str], controls: Mapping[str, Arm]) -> list[Arm]:
    """Every method with the chosen layers task-specific, and some with every control."""
    return [
        *(with_own_layers(arm, chosen, "recon") for arm in METHODS),
        *(
            Arm(f"{arm.name}_{name}", (*arm.overrides, *control.overrides))
            for arm in CONTROLLED
            for name, control in controls.items()
        ),
    ]


def _controls(
    plain: Mapping[str, Any],
    hidden_sizes: Sequence[int],
    layers: Sequence[str],
    chosen: Sequence[str],
    lowest: Sequence[str],
) -> dict[str, Arm]:
    """The controls by name, as arms that only say what is different."""
    settings = {"lowest": lowest, "random": random_layers(layers, [chosen, lowest])}
    arms = {
        name: Arm(name, (f"model.task_specific_layers=[{', '.join(own)}]",))
        for name, own in settings.items()
        if own is not None
    }
    cell = next(c for c in plain["cells"] if c["arm"] == UNIFORM.name)
    with fsspec.open(f"{cell['url']}/result.json") as file:
        result = json.load(file)
    inputs = inputs_of(result["parameters"]["shared"], hidden_sizes)
    depths = [layers.index(layer) for layer in chosen]
    tasks = len(result["tasks"])
    widths = wider(hidden_sizes, parameters(hidden_sizes, depths, inputs, tasks), inputs, tasks)
    return arms | {"wider": Arm("wider", (f"model.bottom_hidden_sizes={widths}",))}


def _search_elsewhere(asked: Asked, every_run: Sequence[str]) -> dict[str, Any]:
    """Count under the plain sum on the log of another world."""
    options = argparse.Namespace(**vars(asked.options) | {"log_seed": asked.options.log_seed + 1})
    setting = clicks_setting(replace(asked, options=options), asked.out / "other_log")
    return asked.sweep(setting.run_yaml, [UNIFORM], "other_log/sweep", overrides=every_run)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = log_parser(NAME, __doc__, seeds=3, rows=1_000_000)
    parser.add_argument(
        "--layers", type=positive_int, default=1, metavar="K", help="task-specific (%(default)s)"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.0,
        help="cosine below which tasks conflict (%(default)s)",
    )
    title = "Recon, with every method and beside controls"
    return run(Experiment(NAME, title, compare), parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
