"""Recon: a search for the layers in which tasks conflict, and a run that has copies of them.

Source: Shi et al., "Recon: Reducing Conflicting Gradients from the Root for Multi-Task Learning",
ICLR 2023, Algorithm 1.
"""

import io
import json
from collections.abc import Sequence
from textwrap import fill
from typing import Any

import fsspec

from recsys_mtl.config import RunConfig, UserError
from recsys_mtl.config.file import overridden
from recsys_mtl.driver.events import log_event
from recsys_mtl.driver.launch import launch, refuse_another_run
from recsys_mtl.driver.recon_scores import Order, Scores, chosen_layers, scores_of
from recsys_mtl.driver.recon_tables import show_ranking
from recsys_mtl.driver.storage import Folder, storage_url, with_absolute_paths
from recsys_mtl.metrics.recon_figure import draw_ranking

SEARCH, TRAINED = "-recon-search", "-recon-"
"""What is behind the run's name in those of the run that searches and of the one that is trained,
where K and the order follow."""

_WRITTEN_BY = "# Written by recsys-mtl recon."


def refuse_unusable(config: RunConfig, num_layers: int | None) -> None:
    """Nothing, where a search of this run tells which layers to make task-specific.

    Args:
        num_layers: K; None for a search alone.

    Raises:
        UserError: it cannot, or there are fewer layers; says why.
    """
    model, (task, *others) = config.model, config.task_names
    if not others:
        raise UserError(
            f"recon compares the gradients of tasks, and data.labels has {task!r} alone; name "
            "another task"
        )
    if num_layers is None:
        return
    if model.body.kind != "shared_bottom":
        raise UserError(
            f"recon makes layers of the body shared_bottom task-specific, and model.body.kind is "
            f"{model.body.kind}; --search-only shows how its tasks conflict"
        )
    shared = [name for name in model.bottom_layers if name not in model.task_specific_layers]
    if len(shared) < 2:
        raise UserError(
            f"recon chooses among the shared layers of the bottom, and here there is no choice "
            f"({', '.join(shared) or 'none'} of {', '.join(model.bottom_layers)} is shared); add "
            "layers in model.bottom_hidden_sizes, or name them in model.task_specific_layers "
            "yourself"
        )
    if not 1 <= num_layers <= len(shared):
        raise UserError(
            f"--layers is {num_layers}, and the bottom has {len(shared)} shared layers "
            f"({', '.join(shared)}); give a number from 1 to {len(shared)}"
        )
    if num_layers == len(shared):  # there is no choice, so what forbids it can be said at once
        with_own_layers(config, shared, config.run.name)


def search(
    config: RunConfig, *, threshold: float, search_share: float | None = None, fresh: bool = False
) -> Scores:
    """Train the first steps of a run, under its own method, and count conflicts.

    The run is called `<run.name>-recon-search`. Like any run it goes on where it was interrupted;
    its folder has `recon.json`, the scores, and `recon.png`.

    Args:
        threshold: S.
        search_share: of the run's steps; None takes the default of `recon.search_share`.
        fresh: delete what an earlier search has left.

    Raises:
        What `launch` raises.
    """
    asked: dict[str, Any] = {"threshold": threshold, "search_only": True}
    if search_share is not None:
        asked["search_share"] = search_share
    searching = overridden(
        config,
        (
            f"run.name={config.run.name}{SEARCH}",
            f"recon={json.dumps(asked)}",
            # Its layers are all that is asked of it: an evaluation would only take time, and
            # patience could end it early.
            "training.evaluation_interval_steps=null",
            "training.best_by=null",
            "training.patience_evaluations=null",
        ),
    )
    result = launch(searching, fresh=fresh)
    url = f"{storage_url(searching.run.storage_path)}/{searching.run.name}"
    scores, folder = scores_of(searching, result, url), Folder(url)
    layers = {name: scores.layers[name] for name in scores.ranking()}
    tables = {name: scores.tables[name] for name in scores.ranking_of_tables()}
    picture = io.BytesIO()
    draw_ranking(layers, tables, scores.threshold, picture)
    folder.write("recon.json", scores.model_dump_json(indent=2).encode())
    folder.write("recon.png", picture.getvalue())
    show_ranking(scores, len(config.task_names))
    log_event("scores", f"scores: {url}/recon.json, drawn in {url}/recon.png", url=url)
    return scores


def name_of_new_run(config: RunConfig, num_layers: int, order: Order, seed: int) -> str:
    """What the run with copies is called: `clicks-recon-2`, or as a control `clicks-recon-2-lowest`
    or `clicks-recon-2-random-7`, so that each is a run of its own.

    Args:
        config: the run without them.
        num_layers: K.
        order: how layers are chosen.
        seed: of the order `random`.
    """
    control = {"highest": "", "random": f"-random-{seed}"}.get(order, f"-{order}")
    return f"{config.run.name}{TRAINED}{num_layers}{control}"


def with_own_layers(config: RunConfig, layers: Sequence[str], name: str) -> RunConfig:
    """The run `name`, of which every task has copies of these layers of its own.

    Raises:
        UserError: method or gradients cannot have it so.
    """
    chosen = {*layers, *config.model.task_specific_layers}
    names = [name for name in config.model.bottom_layers if name in chosen]
    return overridden(
        config,
        (
            f"run.name={name}",
            f"model.task_specific_layers={json.dumps(names)}",
            # A search that a file asks for itself would end this run with it.
            *(() if config.recon is None else ("recon.search_only=false",)),
        ),
    )


def train_with_own_layers(
    config: RunConfig,
    scores: Scores,
    num_layers: int,
    *,
    scores_from: str,
    order: Order = "highest",
    seed: int = 0,
    out: str | None = None,
    fresh: bool = False,
) -> dict[str, Any]:
    """Choose layers, write the run that has copies of them per task, and train it from scratch.

    Args:
        config: the run without them.
        num_layers: K.
        scores_from: where the scores come from, for whoever reads the run's YAML.
        order: how layers are chosen.
        seed: of the order `random`.
        out: where the YAML is written; by default beside the new run's folder, under its name.
        fresh: delete what an earlier run of the name has left.

    Returns:
        Its result.json.

    Raises:
        UserError: the file or the new run's folder holds something else, or what `launch` says.
    """
    layers = chosen_layers(scores, num_layers, order, seed)
    _tell_choice(scores, layers, order)
    name = name_of_new_run(config, num_layers, order, seed)
    new = with_absolute_paths(with_own_layers(config, layers, name))
    place = place_of_new_run(config, name, out)
    if not fresh:
        try:
            refuse_another_run(new)
        except UserError as error:
            raise UserError(
                f"{error}, each with --scores {scores_from}, so that nothing is searched again"
            ) from None
    comment = _comment(scores, layers, order, seed, scores_from)
    _write_yaml(place, f"{comment}\n{new.to_yaml()}")
    log_event("written", f"written: {place}, task-specific: {', '.join(layers)}", path=place)
    return launch(new, fresh=fresh)


def _tell_choice(scores: Scores, layers: Sequence[str], order: Order) -> None:
    """Say where a choice by scores rests on none."""
    silent = [name for name in layers if not scores.layers[name].conflicting_pairs]
    if order == "highest" and silent:
        log_event(
            "note",
            f"no two tasks had a cosine below {scores.threshold:g} in {', '.join(silent)}: nothing "
            "speaks for copies of them; a threshold nearer to 0 or fewer --layers would",
        )


def _comment(
    scores: Scores, layers: Sequence[str], order: Order, seed: int, scores_from: str
) -> str:
    """What the first lines of a written run say of it."""
    by = {
        "highest": "those with the most conflicting pairs of tasks",
        "lowest": "a control: those with the fewest conflicting pairs of tasks",
        "last": "a control: those nearest to the heads, whatever their conflicts",
        "random": f"a control: drawn with seed {seed}, whatever their conflicts",
    }[order]
    text = (
        f"Task-specific: {len(layers)} of {len(scores.layers)} shared layers, {by}. Scores: "
        f"{scores_from}, counted over {scores.search_steps:,} steps under {scores.method} for the "
        f"tasks {', '.join(scores.tasks)}, at a cosine below {scores.threshold:g}:"
    )
    paragraph = fill(text, 100, initial_indent="# ", subsequent_indent="# ", break_long_words=False)
    lines = [_WRITTEN_BY, paragraph]
    for name in scores.ranking():
        score, chosen = scores.layers[name], " (task-specific)" if name in layers else ""
        pairs = f"{score.conflicting_pairs:,} of {score.compared_pairs:,} pairs"
        lines.append(f"#   {name}: {pairs}{chosen}")
    return "\n".join(lines)


def place_of_new_run(config: RunConfig, name: str, out: str | None) -> str:
    """The path or URL to which the run with copies is written.

    Args:
        config: the run without them.
        name: of the run with them.
        out: what was asked for, if anything.

    Raises:
        UserError: there is a file that this command has not written, or the place cannot be read.
    """
    folder = storage_url(config.run.storage_path)
    place = out or f"{folder}/{name}.yaml"
    try:
        filesystem, path = fsspec.core.url_to_fs(place)
        found = filesystem.cat_file(path) if filesystem.exists(path) else None
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{place} cannot be read ({error}); give another --out") from None
    if found is not None and not found.startswith(_WRITTEN_BY.encode()):
        raise UserError(
            f"{place} is there and was not written by recsys-mtl recon; give another --out"
        )
    return place


def _write_yaml(place: str, text: str) -> None:
    try:
        with fsspec.open(place, "w", encoding="utf-8", auto_mkdir=True) as file:
            file.write(text)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{place} cannot be written ({error}); give another --out") from None
