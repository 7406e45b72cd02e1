"""What a person sees of a search: the ranking of layers, and of tables with what they would cost.

T tasks.
"""

from rich.table import Table

from recsys_mtl.driver.events import console, is_json, log_event
from recsys_mtl.driver.progress import number_or_dash
from recsys_mtl.driver.recon_scores import LayerScore, Scores

_MIB = 2**20


def show_ranking(scores: Scores, num_tasks: int) -> None:
    """Tell the ranking of a search.

    Args:
        num_tasks: T, of the run whose layers are to be chosen.
    """
    sentence = (
        f"{scores.search_steps:,} steps of {scores.run} under {scores.method}: pairs of tasks with "
        f"a cosine below {scores.threshold:g}"
    )
    if is_json():
        log_event("ranking", sentence, ranking=scores.ranking(), scores=scores.model_dump())
        return
    log_event("ranking", sentence)
    copies = num_tasks - 1
    if scores.layers:
        table = _table("layer", "per task +")
        for name in scores.ranking():
            score = scores.layers[name]
            table.add_row(name, *_counts(score), f"{copies * score.parameters:,}")
        console.print(table)
    if scores.tables:
        table = _table("table", "per task +", "MiB +")
        for name in scores.ranking_of_tables():
            of_table = scores.tables[name]
            added = (f"{copies * of_table.parameters:,}", f"{copies * of_table.bytes / _MIB:,.1f}")
            table.add_row(name, *_counts(of_table), *added)
        console.print(table)
    log_event("note", _cost_of_copies(scores, num_tasks))


def _cost_of_copies(scores: Scores, num_tasks: int) -> str:
    meaning = f"per task +: what one per task adds, for {num_tasks} tasks"
    if not scores.tables:
        return meaning
    mib = (num_tasks - 1) * sum(table.bytes for table in scores.tables.values()) / _MIB
    return (
        f"{meaning}; tables stay shared, as none can be task-specific: one of each per task would "
        f"take {mib:,.1f} MiB more, the state of their optimizer included"
    )


def _table(what: str, *added: str) -> Table:
    table = Table()
    table.add_column(what, no_wrap=True)
    for column in ("parameters", "conflicts", "share", *added):
        table.add_column(column, justify="right")
    return table


def _counts(score: LayerScore) -> tuple[str, str, str]:
    return (
        f"{score.parameters:,}",
        f"{score.conflicting_pairs:,}",
        number_or_dash(score.share),
    )
