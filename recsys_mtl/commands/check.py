"""recsys-mtl check: validate a run's YAML and its data; train nothing."""

import argparse

from recsys_mtl.commands.arguments import Commands, add_overrides, add_run_yaml


def add_to(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add_parser("check", help="validate a run's YAML and its data; train nothing")
    add_run_yaml(parser)
    add_overrides(parser, "override a value of the file; may be given several times")
    parser.set_defaults(command=check)


def check(options: argparse.Namespace) -> int:
    """Validate without Ray and without training."""
    from recsys_mtl.config.file import load_config

    config = load_config(options.run_yaml, tuple(options.set))
    from recsys_mtl.data.schema import refuse_other_families
    from recsys_mtl.driver.log_summary import show_log  # slow to import, and only for a valid file

    train = show_log("train", config.data.train, config)
    evaluation = show_log("eval", config.data.eval, config)
    refuse_other_families(
        evaluation.column_families, train.column_families, here="data.eval", there="data.train"
    )
    return 0
