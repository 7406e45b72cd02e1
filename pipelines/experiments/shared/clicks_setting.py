"""What the experiments on the synthetic click log have in common: a log in three parts, and a run.

Taobao's own log, which the GradOPS paper trains on, is private. The synthetic one has as many
features and the same tasks, which pull apart as far as asked (pipelines/synthetic_tasks.py). The
run has what the paper says of its own: a bottom of 1024, 512, 256 and 128 units, and Adam at 1e-3.
Its embedding tables move by row-wise Adagrad, as TorchRec has no Adam for tables on CPU.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

import pipelines
from pipelines.benchmarks.measure import positive_int
from pipelines.experiments.shared.command import Asked, experiment_parser
from pipelines.experiments.shared.setting import Setting
from pipelines.synthetic_clicks import write_click_log
from pipelines.synthetic_tasks import DEMO, TASKS, TaskRelation
from recsys_mtl.config import UserError
from recsys_mtl.data.plan import Plan

DEMO_YAML = Path(pipelines.__file__).parent / "runs" / "demo.yaml"
HIDDEN_SIZES = (1024, 512, 256, 128)
BATCH_ROWS, LANES = 2048, 8
EPOCHS = 1
EVALUATIONS_PER_EPOCH = 4


def clicks_parser(
    name: str, docstring: str | None, *, seeds: int, rows: int
) -> argparse.ArgumentParser:
    """The command line of an experiment on the synthetic click log."""
    parser = experiment_parser(name, docstring, seeds=seeds)
    add_log_arguments(parser, rows=rows)
    parser.add_argument("--epochs", type=positive_int, help=f"of a run ({EPOCHS})")
    return parser


def add_log_arguments(parser: argparse.ArgumentParser, *, rows: int) -> None:
    """--rows and --log-seed: how large the log is, and of which world."""
    log = parser.add_argument_group("the synthetic log")
    log.add_argument("--rows", type=positive_int, default=rows, help="to train on (%(default)s)")
    log.add_argument("--log-seed", type=int, default=1, help="of the log (%(default)s)")


def clicks_setting(
    asked: Asked,
    folder: Path,
    *,
    relation: TaskRelation = DEMO,
    hidden_sizes: Sequence[int] = HIDDEN_SIZES,
    spare: int = 1,
) -> Setting:
    """Write the log, unless it is there, and the run's YAML, to a folder.

    Args:
        relation: how the log's tasks go together.
        hidden_sizes: of the bottom.
        spare: how many times the rows of a run the log has, in an order that the seed decides; runs
            that are to see more of them say so.
    """
    options = asked.options
    epochs = options.epochs or EPOCHS
    judged_rows = max(1, options.rows // 5)
    log = folder / "log"
    _write_log(
        log,
        relation,
        rows=spare * options.rows,
        eval_rows=2 * judged_rows,
        seed=options.log_seed,
    )
    tree = run_tree(
        log,
        storage_path=str(folder / "runs"),
        rows=options.rows,
        epochs=epochs,
        hidden_sizes=hidden_sizes,
    )
    if spare > 1:
        steps = _plan(options.rows).steps_per_epoch
        tree["training"] |= {"epochs": None, "max_steps": epochs * steps}
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False, default_flow_style=None, width=100))
    return Setting(
        run_yaml=path,
        train=str(log / "train"),
        test=str(_judging_file(log, 1)),
        label_columns={task: task for task in TASKS},
        training=f"{options.rows:,} training rows, {epochs} epoch(s)",
        judging=f"AUC on {judged_rows:,} test rows of the evaluation with the best average AUC on "
        f"as many validation rows, {EVALUATIONS_PER_EPOCH} evaluations per epoch",
    )


def _write_log(log: Path, relation: TaskRelation, **shape: Any) -> None:
    """Write the log, unless it is there.

    Raises:
        UserError: another one is, which runs may have been trained on.
    """
    truth = log / "truth.json"
    if not truth.is_file():  # written last, so the log is not there, or not whole
        # Two files, so that one can be chosen by and the other judge.
        write_click_log(log, files=2, row_group_rows=8192, relation=relation, **shape)
    elif not _is_of(truth, shape, relation):
        raise UserError(
            f"{log} holds the log of an earlier call with other --rows or another --log-seed; "
            "give another --out, or delete the folder that holds it"
        )


def truth_in_words(folder: Path) -> str:
    """What a model can hope for on the rows of the log that are not trained on."""
    tasks = json.loads((folder / "log" / "truth.json").read_text())["tasks"]
    best = ", ".join(f"{task} {numbers['auc']:.4f}" for task, numbers in tasks.items())
    return f"On validation and test rows together, the true probabilities reach {best}.\n"


def run_tree(
    log: Path, *, storage_path: str, rows: int, epochs: int, hidden_sizes: Sequence[int]
) -> dict[str, Any]:
    """The run over a log, as a run's YAML holds it; the features are the demo's.

    Args:
        rows: of training.
    """
    demo = yaml.safe_load(DEMO_YAML.read_text())["data"]
    steps_per_epoch = _plan(rows).steps_per_epoch
    return {
        "run": {"name": "clicks", "storage_path": storage_path, "seed": 1},
        "data": {
            "train": str(log / "train"),
            "eval": str(_judging_file(log, 0)),
            "lanes": LANES,
            "features": demo["features"],
            "labels": demo["labels"],
        },
        "model": {"bottom_hidden_sizes": list(hidden_sizes)},
        "method": {"kind": "gradops", "alpha": 0.0},
        "optimizer": {
            "dense": {"kind": "adam", "learning_rate": 0.001},
            "tables": {"kind": "rowwise_adagrad", "learning_rate": 0.02},
        },
        "training": {
            "global_batch_size": BATCH_ROWS,
            "epochs": epochs,
            "evaluation_interval_steps": max(1, steps_per_epoch // EVALUATIONS_PER_EPOCH),
            "best_by": "mean_auc",
            "checkpoint_interval_steps": None,
            "checkpoints_kept": 1,
        },
        "cluster": {"num_workers": 0},
    }


def _plan(rows: int) -> Plan:
    return Plan([rows], lanes=LANES, global_batch_size=BATCH_ROWS, window_row_groups=1, seed=None)


def _judging_file(log: Path, number: int) -> Path:
    return log / "eval" / f"part-{number:05d}.parquet"


def _is_of(truth: Path, shape: dict[str, Any], relation: TaskRelation) -> bool:
    """Whether a log is the one that is asked for."""
    said = json.loads(truth.read_text())
    asked = json.loads(json.dumps(shape | ({} if relation == DEMO else asdict(relation))))
    return bool(asked == {key: value for key, value in said.items() if key != "tasks"})
