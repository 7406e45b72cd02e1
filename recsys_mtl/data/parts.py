"""Which part of a log trains, and which judges."""

from recsys_mtl.config import UserError
from recsys_mtl.data.manifest import list_files

_EVAL_NAMES = ("eval", "test", "valid", "validation", "val")


def train_and_eval(data: str, evaluation: str | None) -> tuple[str, str]:
    """The URLs of both parts.

    Args:
        data: a file, a folder or a glob.
        evaluation: the part that judges; None looks for one in `data`: folders or files named
            train and eval (test, valid), or the second of two files.

    Raises:
        UserError: there is none, or both are the same.
    """
    _, files = list_files(data)
    data = data.rstrip("/")
    if evaluation is not None:
        if evaluation.rstrip("/") == data:
            raise UserError(f"--eval is --data itself ({data}); give rows that do not train")
        list_files(evaluation)
        return data, evaluation
    below = {file.rpartition(f"{data.rpartition('/')[2]}/")[2].partition("/")[0] for file in files}
    train = [name for name in below if name.partition(".")[0] == "train"]
    judging = [n for e in _EVAL_NAMES for n in sorted(below) if n.partition(".")[0] == e]
    if train and judging:
        return f"{data}/{train[0]}", f"{data}/{judging[0]}"
    if len(files) == 2 and len(below) == 2:
        first, second = sorted(below)
        return f"{data}/{first}", f"{data}/{second}"
    raise UserError(
        f"{data} has no part to judge the model by: no train and eval in it, and not two files; "
        "give one with --eval, best of later days than --data"
    )
