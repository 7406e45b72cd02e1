"""What an experiment reads of a run that counts its tasks' conflicts."""

import argparse
from pathlib import Path

from pipelines.experiments.shared.clicks_setting import clicks_setting
from pipelines.experiments.shared.command import Asked
from pipelines.experiments.shared.conflict_counts import counting, counts_of
from pipelines.experiments.shared.networks import inputs_of, parameters
from recsys_mtl.config.file import load_config
from recsys_mtl.driver.launch import launch
from recsys_mtl.metrics.trace import read_trace


def test_scores_are_of_the_first_quarter_and_counts_of_all_steps(tmp_path: Path) -> None:
    options = argparse.Namespace(rows=500, log_seed=1, epochs=None)
    asked = Asked("name", options, tmp_path, [1], "")
    setting = clicks_setting(asked, tmp_path, hidden_sizes=(16, 8))
    overrides = ("training.global_batch_size=64", "training.max_steps=8", counting(0.0))
    config = load_config(setting.run_yaml, ("method={kind: uniform}", *overrides))
    result = launch(config)

    url = f"{config.run.storage_path}/{config.run.name}"
    found = counts_of({"url": url})
    trace = read_trace(f"{url}/trace").to_pandas()
    layers = ["bottom.layers.0", "bottom.layers.1"]
    assert list(found.scores) == layers  # and no tables, which keep their rows to themselves
    for layer in layers:
        per_step = trace[f"conflicting_pairs_{layer}"]
        assert len(per_step) == 8
        assert found.scores[layer] == per_step[:2].sum()
        assert found.conflicting[layer] == per_step.sum()
        assert found.compared[layer] == 8 * 3
    assert sum(found.conflicting.values()) > 0

    counted = result["parameters"]
    inputs = inputs_of(counted["shared"], (16, 8))
    wanted = counted["shared"] + counted["task_specific"]
    assert parameters((16, 8), (), inputs, 3) == wanted
