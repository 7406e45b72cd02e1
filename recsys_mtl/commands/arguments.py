"""Arguments that several commands take."""

import argparse
from typing import Any


def add_run_yaml(parser: argparse.ArgumentParser) -> None:
    """Take a run's YAML file."""
    parser.add_argument("run_yaml", metavar="RUN.yaml", help="the run's configuration")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Take a trained run and one of its checkpoints."""
    parser.add_argument("run", metavar="RUN", help="the folder or URL of a run that has trained")
    parser.add_argument(
        "--checkpoint",
        default="last",
        metavar="last|best|NAME",
        help="which one (default: last)",
    )


def add_overrides(parser: argparse.ArgumentParser, help: str) -> None:
    """Take `--set A.B=VALUE`, any number of times."""
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help=help)


def add_log_format(parser: argparse.ArgumentParser) -> None:
    """Take how a command that trains tells what happens."""
    parser.add_argument(
        "--log-format",
        choices=("auto", "text", "json"),
        default="auto",
        help="sentences, or one JSON object per line; auto: JSON where the output is no terminal",
    )


Commands = Any
"""What `ArgumentParser.add_subparsers` returns."""
