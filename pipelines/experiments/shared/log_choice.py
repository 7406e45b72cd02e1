"""Experiments that run on either log: Census-Income, or the synthetic clicks."""

import argparse

from pipelines.benchmarks.measure import positive_int
from pipelines.census import add_data_arguments
from pipelines.experiments.shared.census_setting import census_setting
from pipelines.experiments.shared.clicks_setting import add_log_arguments, clicks_setting
from pipelines.experiments.shared.command import Asked, experiment_parser
from pipelines.experiments.shared.setting import Setting


def log_parser(
    name: str, docstring: str | None, *, seeds: int, rows: int
) -> argparse.ArgumentParser:
    """The command line of an experiment on either log.

    Args:
        rows: of the synthetic log, by default.
    """
    parser = experiment_parser(name, docstring, seeds=seeds)
    parser.add_argument("--log", choices=("census", "clicks"), required=True)
    parser.add_argument("--epochs", type=positive_int, help="of a run (200 on census, 1 on clicks)")
    add_data_arguments(parser)
    add_log_arguments(parser, rows=rows)
    return parser


def setting_of(asked: Asked) -> Setting:
    """The setting of the log that is asked for.

    Raises:
        UserError: the rows of Census-Income cannot be had.
    """
    return (
        census_setting(asked) if asked.options.log == "census" else clicks_setting(asked, asked.out)
    )
