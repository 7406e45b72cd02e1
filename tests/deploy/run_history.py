"""What Prometheus would hold of a run, written by hand: every family, from start to end."""

import math
import random
from collections import defaultdict
from collections.abc import Iterator

TASKS = ("purchase", "cart", "wish")
LAYERS = ("bottom.layers.0", "bottom.layers.1", "bottom.layers.2", "tables.item_id")
SCRAPE_SECONDS = 15
MINUTES = 36
PHASES = {
    "data_wait": 0.01,
    "forward": 0.06,
    "backward": 0.14,
    "communication": 0.04,
    "deconflict": 0.02,
    "optimizer": 0.03,
}
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
STEPS_PER_SCRAPE, ROWS_PER_STEP = 50, 2048
LAST_STEP = MINUTES * 4 * STEPS_PER_SCRAPE
RESTART_MINUTE = 17
"""A worker is lost; until the steps since the checkpoint are trained again, counters wait."""

Sample = tuple[str, dict[str, str], float]
"""Name, labels but `run`, value."""


def openmetrics(run: str, start: float, seed: int = 1) -> str:
    """The history as OpenMetrics text with timestamps, for `promtool tsdb create-blocks-from`."""
    random.seed(seed)
    series: dict[str, list[str]] = defaultdict(list)
    for scrape in range(MINUTES * 4 + 3):
        at = start + scrape * SCRAPE_SECONDS
        for name, labels, value in _page(scrape, start):
            spelled = ",".join(f'{k}="{v}"' for k, v in {"run": run, **labels}.items())
            line = f"{name}{{{spelled}}} {'NaN' if math.isnan(value) else value} {at}"
            series[_family(name)].append(line)
    lines = []
    for family, samples in series.items():
        kind = "counter" if family != samples[0].split("{")[0] else "gauge"
        kind = "histogram" if family.endswith("phase_seconds") else kind
        lines += [f"# TYPE {family} {kind}", *samples]
    return "\n".join([*lines, "# EOF", ""])


def _family(name: str) -> str:
    if name.startswith("recsys_mtl_step_phase_seconds"):
        return "recsys_mtl_step_phase_seconds"
    return name.removesuffix("_total")


def _page(scrape: int, start: float) -> Iterator[Sample]:
    """One scrape, `scrape` times 15 s after the start."""
    minutes, now = scrape / 4, start + scrape * SCRAPE_SECONDS
    ended = minutes > MINUTES
    for state in ("running", "finished", "failed", "preempted"):
        is_so = state == ("finished" if ended else "running")
        yield "recsys_mtl_run_state", {"state": state}, float(is_so)
    info = {"method": "gradops", "scope": "all", "device": "cpu", "version": "0.1.0"}
    yield "recsys_mtl_run_info", info, 1
    yield "recsys_mtl_run_alpha", {}, -0.5
    yield "recsys_mtl_run_workers", {}, 2
    yield "recsys_mtl_run_start_timestamp_seconds", {}, start
    yield "recsys_mtl_worker_restarts_total", {}, float(minutes >= RESTART_MINUTE)
    if ended:
        yield "recsys_mtl_run_end_timestamp_seconds", {}, start + MINUTES * 60
    yield "recsys_mtl_updated_timestamp_seconds", {}, min(now, start + MINUTES * 60)
    if scrape == 0:  # before the first log interval
        return
    waits = RESTART_MINUTE <= minutes < RESTART_MINUTE + 2
    done = min(scrape, MINUTES * 4)
    trained = RESTART_MINUTE * 4 if waits else done
    yield from _of_tasks(done / 4, minutes)
    yield from _totals(trained * STEPS_PER_SCRAPE)
    rate = STEPS_PER_SCRAPE * ROWS_PER_STEP / SCRAPE_SECONDS
    yield "recsys_mtl_rows_per_second", {}, rate * random.uniform(0.9, 1.05)
    yield from _checkpoints(minutes, start)


def _of_tasks(trained_minutes: float, minutes: float) -> Iterator[Sample]:
    for i, task in enumerate(TASKS):
        learnt = 1 - math.exp(-trained_minutes / (4 + 3 * i))
        noise = random.gauss(0, 0.003)
        numbers = {
            "auc": 0.55 + (0.3 - 0.05 * i) * learnt + noise,
            "loss": (0.6 - 0.2 * i) * (1 - 0.5 * learnt) + noise,
            "calibration": 1 + 0.5 * (1 - learnt) * (-1) ** i + 3 * noise,
        }
        for name, value in numbers.items():
            one_class = task == "wish" and 5 < minutes < 6
            label = {"task": task, "split": "train_window"}
            yield f"recsys_mtl_task_{name}", label, math.nan if one_class else value
            if minutes >= 9:  # the value stands until the next evaluation
                step = 1 - math.exp(-(trained_minutes // 9) * 9 / (4 + 3 * i))
                value = {"auc": 0.53 + (0.3 - 0.05 * i) * step, "calibration": 1.02}.get(
                    name, (0.62 - 0.2 * i) * (1 - 0.48 * step)
                )
                yield f"recsys_mtl_task_{name}", {"task": task, "split": "eval"}, value
        yield "recsys_mtl_task_weight", {"task": task}, (1.4, 1.0, 0.6)[i] + 10 * noise
        yield "recsys_mtl_task_coefficient", {"task": task}, (1.6, 1.1, 0.9)[i] + 10 * noise
        yield "recsys_mtl_task_contribution", {"task": task}, 0.2 - 0.05 * i + noise
        yield "recsys_mtl_task_gradient_norm", {"task": task}, 10.0 ** -(i + learnt) + abs(noise)
        yield "recsys_mtl_task_share_kept", {"task": task}, min(1.0, 0.97 - 0.1 * i + 10 * noise)
        for other in TASKS[i + 1 :]:
            cosine = 0.6 * math.sin(trained_minutes / 4 + i + len(other)) + 10 * noise
            labels = {"task": task, "other_task": other}
            yield "recsys_mtl_gradient_cosine", labels, max(-1.0, min(1.0, cosine))


def _totals(steps: int) -> Iterator[Sample]:
    yield "recsys_mtl_last_step", {}, LAST_STEP
    totals = {
        "steps": steps,
        "rows": steps * ROWS_PER_STEP,
        "null_values": steps * 300,
        "outside_vocabulary_values": steps * 20,
        "compared_steps": steps,
        "conflicting_steps": int(steps * 0.55 + 0.02 * steps * math.sin(steps / 900)),
        "min_norm_steps": steps // 50,
        "skipped_steps": 2 if steps > 4000 else 0,
        "audited_steps": steps // 100,
        "opposing_steps": steps // 1500,
        "checkpoints": steps // 1000,
    }
    for name, value in totals.items():
        yield f"recsys_mtl_{name}_total", {}, value
    for i, layer in enumerate(LAYERS):
        of_layer = {"layer": layer}
        yield "recsys_mtl_layer_conflicting_pairs_total", of_layer, steps * (i + 1) // 5
        yield "recsys_mtl_layer_compared_pairs_total", of_layer, 3 * steps
    for reason in ("unreadable", "label"):
        labels = {"reason": reason}
        yield (
            "recsys_mtl_rejected_rows_total",
            labels,
            90 * (steps // 700) if reason == "label" else 0,
        )
    for phase, mean in PHASES.items():
        # Half of the steps take half as long as the mean, the others half as long again.
        for bound in (*BOUNDS, math.inf):
            at_most = steps * ((bound >= mean / 2) + (bound >= 1.5 * mean)) / 2
            labels = {"phase": phase, "le": "+Inf" if math.isinf(bound) else str(bound)}
            yield "recsys_mtl_step_phase_seconds_bucket", labels, int(at_most)
        yield "recsys_mtl_step_phase_seconds_sum", {"phase": phase}, steps * mean
        yield "recsys_mtl_step_phase_seconds_count", {"phase": phase}, steps


def _checkpoints(minutes: float, start: float) -> Iterator[Sample]:
    newest = min(int(minutes // 5) * 5, MINUTES)
    if newest:
        yield "recsys_mtl_checkpoint_timestamp_seconds", {}, start + newest * 60
        yield "recsys_mtl_checkpoint_duration_seconds", {}, 4 + newest / 20
        yield "recsys_mtl_checkpoint_size_bytes", {}, 84e6 + newest * 1e3
