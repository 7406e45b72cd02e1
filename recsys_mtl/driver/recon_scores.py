"""The scores of a search: what recon.json holds, and which layers are chosen by them.

{"version": 1, "run": "/runs/clicks-recon-search", "method": "uniform", "tasks": ["cart", "wish"],
 "hidden_sizes": [64, 32], "threshold": -0.02, "search_steps": 250,
 "layers": {
   "bottom.layers.0": {"parameters": 9280, "conflicting_pairs": 61, "compared_pairs": 250},
   "bottom.layers.1": {"parameters": 2080, "conflicting_pairs": 83, "compared_pairs": 250}},
 "tables": {"item": {"parameters": 80000, "conflicting_pairs": 9, "compared_pairs": 250,
                     "bytes": 320000}}}
"""

import random
from collections.abc import Mapping
from typing import Any, Literal, assert_never

import fsspec
from pydantic import NonNegativeInt, ValidationError

from recsys_mtl.config import RunConfig, Section, TableOptimizer, UserError
from recsys_mtl.data.features import table_sizes
from recsys_mtl.worker.body import traced_body

Order = Literal["highest", "lowest", "last", "random"]
"""By which layers are chosen: most or fewest conflicting pairs, nearest to the heads, or drawn."""

_FLOAT_BYTES = 4  # of tables and of what their optimizer keeps


class LayerScore(Section):
    """One layer of the body that tasks share, over all steps of a search."""

    parameters: NonNegativeInt
    """Numbers in weight and bias."""
    conflicting_pairs: NonNegativeInt
    """Pairs of tasks whose cosine was below the threshold, summed over the steps: the score."""
    compared_pairs: NonNegativeInt
    """Pairs that could have conflicted, both tasks having a gradient."""

    @property
    def share(self) -> float:
        """Which share of the compared pairs conflicted; NaN where none were compared."""
        return self.conflicting_pairs / self.compared_pairs if self.compared_pairs else float("nan")


class TableScore(LayerScore):
    """One embedding table, over all steps of a search."""

    bytes: NonNegativeInt
    """What the table and its optimizer's state take."""


class Scores(Section):
    """How often the tasks of a network conflict in each of its layers and tables."""

    version: Literal[1] = 1
    """Of this file."""
    run: str
    """The folder of the run that counted."""
    method: str
    """The method that it was trained with."""
    tasks: tuple[str, ...]
    """Names of its tasks."""
    hidden_sizes: tuple[int, ...] | None
    """`model.bottom_hidden_sizes`, by which a network is known; None for another body."""
    threshold: float
    """S: pairs of a cosine below it conflict."""
    search_steps: NonNegativeInt
    """Steps that counted."""
    layers: dict[str, LayerScore]
    """By name, from the inputs up; those that were task-specific already are not among them."""
    tables: dict[str, TableScore]
    """By the feature that owns the table."""

    def ranking(self) -> list[str]:
        """Names of layers, those with the most conflicting pairs first.

        Of layers with equally many, the one nearer to the heads comes first: it has fewer layers
        above it, which would run once per task.
        """
        from_the_heads = reversed(self.layers)
        return sorted(from_the_heads, key=lambda name: -self.layers[name].conflicting_pairs)

    def ranking_of_tables(self) -> list[str]:
        """Features whose tables have the most conflicting pairs first."""
        return sorted(self.tables, key=lambda name: -self.tables[name].conflicting_pairs)


def scores_of(config: RunConfig, result: Mapping[str, Any], url: str) -> Scores:
    """The scores that a run with the section `recon` has counted.

    Args:
        config: the run's.
        result: its result.json.
        url: its folder.
    """
    counted, compared = result["recon"], result["recon"]["compared_pairs"]
    body, _ = traced_body(config, None)
    shared, costs = body.shared_parameters(), table_bytes(config)
    features = dict(config.data.id_features())
    return Scores(
        run=url,
        method=result["method"]["kind"],
        tasks=config.task_names,
        hidden_sizes=_hidden_sizes(config),
        threshold=counted["threshold"],
        search_steps=counted["search_steps"],
        layers={
            layer: LayerScore(
                parameters=sum(shared[name].numel() for name in names),
                conflicting_pairs=counted["layers"][layer],
                compared_pairs=compared["layers"][layer],
            )
            for layer, names in body.shared_layers().items()
        },
        tables={
            owner: TableScore(
                parameters=rows * (features[owner].embedding_dim or 0),
                conflicting_pairs=counted["tables"][owner],
                compared_pairs=compared["tables"][owner],
                bytes=costs[owner],
            )
            for owner, rows in table_sizes(config.data).items()
        },
    )


def table_bytes(config: RunConfig) -> dict[str, int]:
    """What each table and its optimizer's state take, by the feature that owns it."""
    features = dict(config.data.id_features())
    return {
        owner: _FLOAT_BYTES * rows * (dim + _numbers_kept_per_row(config.optimizer.tables, dim))
        for owner, rows in table_sizes(config.data).items()
        for dim in [features[owner].embedding_dim or 0]
    }


def _numbers_kept_per_row(optimizer: TableOptimizer, dim: int) -> int:
    """How many numbers a table's optimizer remembers of a row."""
    match optimizer.kind:
        case "sgd":
            return 0
        case "rowwise_adagrad":
            return 1
        case "adagrad":
            return dim
        case _:
            assert_never(optimizer.kind)


def _hidden_sizes(config: RunConfig) -> tuple[int, ...] | None:
    is_bottom = config.model.body.kind == "shared_bottom"
    return config.model.bottom_hidden_sizes if is_bottom else None


def read_scores(place: str) -> Scores:
    """The scores in a recon.json, at a path or any fsspec URL.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    try:
        with fsspec.open(place, "rb") as file:
            return Scores.model_validate_json(file.read())
    except (OSError, ImportError) as error:
        raise UserError(
            f"--scores {place} cannot be read ({error}); give the recon.json that a search has "
            "left in its run's folder"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(
            f"--scores {place} is no recon.json of this version ({where}: {first['msg']}); give "
            "the one that a search has left in its run's folder"
        ) from None


def refuse_another_network(scores: Scores, config: RunConfig, place: str) -> None:
    """Nothing, where the scores are of this run's layers. Its log and its tasks may be others.

    Args:
        place: where the scores come from.

    Raises:
        UserError: they are of other layers.
    """
    own = config.model.task_specific_layers
    layers = {name: None for name in config.model.bottom_layers if name not in own}
    if (
        scores.hidden_sizes == config.model.bottom_hidden_sizes
        and scores.layers.keys() == layers.keys()
    ):
        return
    bottom = "no shared bottom" if scores.hidden_sizes is None else str([*scores.hidden_sizes])
    raise UserError(
        f"--scores {place} is of another network: its bottom is {bottom} with the shared layers "
        f"{', '.join(scores.layers)}, and this run's is {[*config.model.bottom_hidden_sizes]} with "
        f"{', '.join(layers)}; search anew with --threshold, or give the scores of this network"
    )


def chosen_layers(scores: Scores, count: int, order: Order, seed: int = 0) -> tuple[str, ...]:
    """Names of the layers to make task-specific, from the inputs up.

    Args:
        count: K, at most the number of layers.
        order: `lowest`, `last` and `random` are controls for `highest`.
        seed: of `random`.
    """
    match order:
        case "highest":
            candidates = scores.ranking()
        case "lowest":
            candidates = scores.ranking()[::-1]
        case "last":
            candidates = [*reversed(scores.layers)]
        case "random":
            candidates = random.Random(seed).sample([*scores.layers], len(scores.layers))
    chosen = set(candidates[:count])
    return tuple(name for name in scores.layers if name in chosen)
