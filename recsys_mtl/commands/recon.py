"""recsys-mtl recon: find the layers in which tasks conflict, and train with copies of them."""

import argparse

from recsys_mtl.commands.arguments import Commands, add_log_format, add_overrides, add_run_yaml
from recsys_mtl.commands.train import status_of
from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.driver.events import choose_format

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
        default="highest",
        help="which layers: those with the most conflicts (default), or as controls those with "
        "the fewest, those nearest to the heads, or drawn ones",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of --order random (default: 0); not the run's own"
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="where the new run's YAML is written (default: <run.name>-recon.yaml in "
        "run.storage_path)",
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
    from recsys_mtl.driver.recon import place_of_new_run, refuse_unusable

    refuse_unusable(config, options.layers)
    if not options.search_only:
        place_of_new_run(config, options.out)
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
    train_with_own_layers(
        config,
        scores,
        options.layers,
        scores_from=scores_from,
        order=options.order,
        seed=options.seed,
        out=options.out,
        fresh=options.fresh,
    )


def _refuse_contradictions(options: argparse.Namespace) -> None:
    """Raises UserError for arguments of which one is missing or says nothing."""
    if options.scores is None and options.threshold is None:
        raise UserError(
            "--threshold is missing: a search needs the cosine below which two tasks conflict, "
            "such as 0 or -0.02; or give the --scores of an earlier search"
        )
    searches = {
        "--threshold": options.threshold is not None,
        "--search-share": options.search_share is not None,
        "--search-only": options.search_only,
    }
    given = [name for name, is_given in searches.items() if is_given]
    if options.scores is not None and given:
        raise UserError(
            f"{given[0]} is for a search, and --scores {options.scores} are those of one that has "
            "been made; give one of the two"
        )
    if options.search_only and options.layers is not None:
        raise UserError(
            f"--layers {options.layers} is for a run with copies of layers, and --search-only "
            "trains none; give one of the two"
        )
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
    if options.layers is None and not options.search_only:
        raise UserError(
            "--layers is missing: give the number of layers that every task is to have a copy of, "
            "or --search-only to see the ranking first"
        )
