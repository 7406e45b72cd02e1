"""recsys-mtl settings: every setting of a run's YAML, with type, default and meaning."""

import argparse
import json
import shutil
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from recsys_mtl.commands.arguments import Commands
from recsys_mtl.commands.printing import print_lines
from recsys_mtl.config import UserError

if TYPE_CHECKING:
    from recsys_mtl.config.settings import Setting

_WIDEST = 100


def add_to(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "settings", help="print every setting of a run's YAML: type, default, meaning"
    )
    parser.add_argument(
        "section",
        metavar="SECTION",
        nargs="?",
        help="a section or setting, such as data.features or training.epochs; all by default",
    )
    parser.add_argument(
        "--json-schema",
        action="store_true",
        help="print a JSON Schema, by which editors complete and check a run's YAML",
    )
    parser.set_defaults(command=settings)


def settings(options: argparse.Namespace) -> int:
    """Print what was asked for."""
    from recsys_mtl.config.json_schema import run_json_schema
    from recsys_mtl.config.settings import all_settings, settings_below

    if options.json_schema and options.section:
        raise UserError(
            f"--json-schema describes a whole file; leave out {options.section!r}, or --json-schema"
        )
    if options.json_schema:
        print_lines(json.dumps(run_json_schema(), indent=2).splitlines())
    else:
        found = settings_below(options.section) if options.section else all_settings()
        width = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns)
        print_lines(_lines(found, width))
    return 0


def _lines(found: Iterable["Setting"], width: int) -> Iterator[str]:
    for number, setting in enumerate(found):
        if number:
            yield ""
        yield ".".join(setting.path) + (f"  (kind: {setting.kind})" if setting.kind else "")
        default = setting.default and (
            "needed" if setting.default == "needed" else f"default: {setting.default}"
        )
        for text in ("; ".join(filter(None, (setting.allowed, default))), setting.meaning):
            yield from textwrap.wrap(
                text, width, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False
            )
