"""What a new run takes over from another one."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from recsys_mtl.config.section import Section


class WarmStart(Section):
    """A run whose checkpoint gives the first values; steps, totals and windows begin at zero.

    Names decide: a table has its feature's, a head its task's, the bottom's columns their
    features'. What has no namesake there begins as in any new run.
    """

    model_config = ConfigDict(serialize_by_alias=True)

    source: Annotated[str, Field(alias="from", min_length=1)]
    """The folder or URL of the run to take from, <run.storage_path>/<run.name>. Name only
    runs that you trust: torch unpickles a checkpoint's `.metadata`, which can run any code."""
    parts: Annotated[tuple[Literal["tables", "dense", "moments"], ...], Field(min_length=1)] = (
        "tables",
        "dense",
        "moments",
    )
    """What to take: embedding tables; body and heads; what both optimizers keep of them. A part of
    the model that is new, under moments and Adam's step count that are not, moves by up to three
    times the learning rate at first."""
    checkpoint: str = "last"
    """`last`, `best`, or the name of one of its checkpoints."""
    rename: dict[str, str] = Field(default_factory=dict)
    """Names there to names here, of features, tasks or layers, as they stand between the dots of a
    parameter's name: `{item: product}` makes `tables.item` `tables.product`, and whatever is called
    `item` here begins anew. `{a: b, b: a}` swaps two."""
