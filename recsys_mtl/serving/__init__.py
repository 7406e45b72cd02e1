"""A trained run as files, and what scores rows with them: no Ray, no TorchRec, no fbgemm.

bundle.py        what a bundle's files hold, and whether they are whole
rows.py          rows as an application has them, to the columns of the log that was trained on
tables.py        memory-mapped embedding tables, and the look-up
scorer.py        rows to one probability per task
verification.py  logged probabilities, compared with the bundle's

    scorer = Scorer.load("bundle")
    scorer.score([{"user_id": 7, "city": "Oslo", "price": 12.5}])   # {"purchase": array([0.03...
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys_mtl.serving.scorer import Scorer

__all__ = ["Scorer"]


def __getattr__(name: str) -> Any:
    """Import the scorer, and torch with it, when it is asked for."""
    if name == "Scorer":
        from recsys_mtl.serving.scorer import Scorer

        return Scorer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
