"""recsys-mtl export: write the bundle that serves a trained run."""

import argparse

from recsys_mtl.commands.arguments import Commands, add_run
from recsys_mtl.driver.events import log_event


def add_to(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "export", help="write a trained run as a bundle that serves without Ray and TorchRec"
    )
    add_run(parser)
    parser.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="the bundle's folder or URL; not there yet, or empty",
    )
    parser.add_argument(
        "--examples",
        metavar="URL",
        help="log whose first rows go into the bundle with their scores (default: data.eval)",
    )
    parser.add_argument(
        "--tables",
        choices=("float32", "float16"),
        default="float32",
        help="the type of the tables' numbers (default: float32); float16 halves the bundle, and "
        "probabilities move a little",
    )
    parser.set_defaults(command=export)


def export(options: argparse.Namespace) -> int:
    """Write the bundle, and say what is in it."""
    from recsys_mtl.driver.export import export_run

    bundle = export_run(
        options.run,
        options.out,
        checkpoint=options.checkpoint,
        examples=options.examples,
        tables=options.tables,
    )
    log_event(
        "exported",
        f"run {bundle.run.name!r}, step {bundle.run.step}: {len(bundle.features)} features, "
        f"{len(bundle.tables)} tables and the tasks {', '.join(bundle.tasks)} in {options.out}",
        out=options.out,
        run=bundle.run.name,
        checkpoint=bundle.run.checkpoint,
        step=bundle.run.step,
        tasks=list(bundle.tasks),
    )
    if bundle.run.precision != "float32":
        log_event(
            "note",
            f"the run was trained with products in {bundle.run.precision}; the bundle's are "
            "float32, so its probabilities differ from the run's own evaluation in the third digit",
        )
    return 0
