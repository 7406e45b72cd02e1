"""recsys-mtl recon: find the layers in which tasks conflict, and train with copies of them."""

import argparse
from typing import TYPE_CHECKING

from recsys_mtl.commands.arguments import Commands, add_log_format, add_overrides, add_run_yaml
from recsys_mtl.commands.train import status_of
from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.driver.events import choose_format

if TYPE_CHECKING:
    from recsys_mtl.driver.recon_scores import Order

_ORDERS = ("highest", "lowest", "last", "random")


def add_to(commands: Commands) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "recon",
        help="find the shared layers in which tasks conflict most often, and train the run anew "
        "with a copy of these per task",
    )
    add_run_yaml(parser)
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="S",
        help="search: two tasks conflict in a layer where the cosine of their gradients is below "
        "it; from above -1 up to 0",
    )
    parser.add_argument(
        "--search-share",
        type=float,
        metavar="X",
        help="the share of the run's steps that are searched (default: 0.25); 1 is the whole run",
    )
    parser.add_argument(
        "--scores",
        metavar="FILE",
        help="search nothing: take the recon.json of a search of the same network, with any "
        "method and log",
    )
    parser.add_argument(
        "--layers", type=int, metavar="K", help="how many layers every task has a copy of"
    )
    parser.add_argument(
        "--order",
        choices=_ORDERS,
        help="which layers: those with the most conflicts (default), or as controls those with "
        "the fewest, those nearest to the heads, or drawn ones",
    )
    parser.add_argument(
        "--seed", type=int, help="of --order random (default: 0); not the run's own"
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="where the new run's YAML is written (default: in run.storage_path, under the new "
        "run's name, such as <run.name>-recon-2.yaml)",
    )
    parser.add_argument(
        "--search-only", action="store_true", help="print and draw the ranking, train nothing more"
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="delete what an earlier search, and an earlier run with copies, have left, and start "
        "anew; not for a job that is retried",
    )
    add_overrides(parser, "override a value of the file, for search and training")
    add_log_format(parser)
    parser.set_defaults(command=recon)


def recon(options: argparse.Namespace) -> int:
    """Search, or take the scores of a search; then write the new run, and train it."""
    from recsys_mtl.config.file import load_config

    choose_format(options.log_format)
    _refuse_contradictions(options)
    config = load_config(options.run_yaml, tuple(options.set))
    from recsys_mtl.driver.recon import name_of_new_run, place_of_new_run, refuse_unusable

    refuse_unusable(config, options.layers)
    if not options.search_only:
        name = name_of_new_run(config, options.layers, *_order_and_seed(options))
        place_of_new_run(config, name, options.out)
    return status_of(lambda: _search_and_train(config, options))


def _search_and_train(config: RunConfig, options: argparse.Namespace) -> None:
    from recsys_mtl.driver.recon import search, train_with_own_layers
    from recsys_mtl.driver.recon_scores import read_scores, refuse_another_network
    from recsys_mtl.driver.recon_tables import show_ranking

    if options.scores is None:
        scores = search(
            config,
            threshold=options.threshold,
            search_share=options.search_share,
            fresh=options.fresh,
        )
        scores_from = f"{scores.run}/recon.json"
    else:
        scores, scores_from = read_scores(options.scores), options.scores
        refuse_another_network(scores, config, options.scores)
        show_ranking(scores, len(config.task_names))
    if options.search_only:
        return
    order, seed = _order_and_seed(options)
    train_with_own_layers(
        config,
        scores,
        options.layers,
        scores_from=scores_from,
        order=order,
        seed=seed,
        out=options.out,
        fresh=options.fresh,
    )


def _order_and_seed(options: argparse.Namespace) -> tuple["Order", int]:
    """How layers are chosen, and the seed of a draw."""
    return options.order or "highest", options.seed or 0


def _refuse_contradictions(options: argparse.Namespace) -> None:
    """Raises UserError for arguments of which one is missing, says nothing or is out of range."""
    if options.scores is None and options.threshold is None:
        raise UserError(
            "--threshold is missing: a search needs the cosine below which two tasks conflict, "
            "such as 0 or -0.02; or give the --scores of an earlier search"
        )
    for_search = _given(options, "threshold", "search_share", "search_only")
    if options.scores is not None and for_search:
        raise UserError(
            f"{for_search[0]} is for a search, and --scores {options.scores} are those of one that "
            "has been made; give one of the two"
        )
    for_new_run = _given(options, "layers", "order", "seed", "out")
    if options.search_only and for_new_run:
        raise UserError(
            f"{for_new_run[0]} is for a run with copies of layers, and --search-only trains none; "
            "give one of the two"
        )
    if options.layers is None and not options.search_only:
        raise UserError(
            "--layers is missing: give the number of layers that every task is to have a copy of, "
            "or --search-only to see the ranking first"
        )
    if options.seed is not None and options.order != "random":
        raise UserError(
            f"--seed {options.seed} is for --order random, and the order is "
            f"{_order_and_seed(options)[0]}; give both, or leave --seed out"
        )
    _refuse_out_of_range(options)


def _given(options: argparse.Namespace, *names: str) -> list[str]:
    """Those of the arguments that were given, each as `--layers 1`."""
    values = {f"--{name.replace('_', '-')}": getattr(options, name) for name in names}
    return [
        argument if value is True else f"{argument} {value}"
        for argument, value in values.items()
        if value is not None and value is not False
    ]


def _refuse_out_of_range(options: argparse.Namespace) -> None:
    if options.threshold is not None and not -1 < options.threshold <= 0:
        raise UserError(
            f"--threshold is {options.threshold:g}; give a cosine above -1, and at most 0, where "
            "any two tasks that pull apart conflict"
        )
    if options.search_share is not None and not 0 < options.search_share <= 1:
        raise UserError(
            f"--search-share is {options.search_share:g}; give a share of the run's steps above 0, "
            "and at most 1"
        )
