"""Arguments that several commands take."""

import argparse
from typing import Any


def add_run_yaml(parser: argparse.ArgumentParser) -> None:
    """Take a run's YAML file."""
    parser.add_argument("run_yaml", metavar="RUN.yaml", help="the run's configuration")


def add_overrides(parser: argparse.ArgumentParser, help: str) -> None:
    """Take `--set A.B=VALUE`, any number of times."""
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help=help)


Commands = Any
"""What `ArgumentParser.add_subparsers` returns."""
