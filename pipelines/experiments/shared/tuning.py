"""Methods with what is tuned of each, all with the same number of trials."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipelines.experiments.shared.method_arms import UNIFORM, loss_weights
from recsys_mtl.driver.sweep import Arm

TRIALS = 12
RATE = "optimizer.dense.learning_rate"
FEW_RATES = (1 / 3, 1.0, 3.0)
"""Times the run's own learning rate, for methods with a knob beside it."""
MANY_RATES = tuple(3.0 ** ((place - 5) / 3) for place in range(TRIALS))
"""0.16 to 9 times the run's own, for methods without one; the run's own among them."""
ALPHAS = (0, -1, -2, -3)
REFRESH = "gradients.refresh_interval_steps=8"
EXACT, REFRESHED, STATIC = "gradops", "gradops_refresh_8", "static_weights"


@dataclass(frozen=True)
class Family:
    """A method and its trials."""

    name: str
    trials: tuple[Arm, ...]


def families(label_columns: Mapping[str, str], learning_rate: float) -> list[Family]:
    """All methods, each with TRIALS trials.

    Args:
        label_columns: task to the column of its label.
        learning_rate: the run's own, of the dense optimizer.
    """
    knobs: dict[str, list[Sequence[str]]] = {
        UNIFORM.name: [UNIFORM.overrides],
        STATIC: [loss_weights(w, label_columns) for w in _weightings(list(label_columns))],
        "gradnorm": [_method(f"gradnorm, alpha: {alpha}") for alpha in (0.5, 1.0, 1.5, 2.0)],
        "pcgrad": [_method("pcgrad")],
        "mgda_ub": [(*_method("mgda"), "gradients.space=representation")],
        "cagrad": [_method(f"cagrad, c: {c}") for c in (0.2, 0.4, 0.6, 0.8)],
        EXACT: [_method(f"gradops, alpha: {alpha}") for alpha in ALPHAS],
        REFRESHED: [(*_method(f"gradops, alpha: {alpha}"), REFRESH) for alpha in ALPHAS],
    }
    return [Family(name, tuple(_trials(name, k, learning_rate))) for name, k in knobs.items()]


def _trials(name: str, knobs: Sequence[Sequence[str]], learning_rate: float) -> Iterator[Arm]:
    """Yield every value of the knob with every learning rate."""
    rates = MANY_RATES if len(knobs) == 1 else FEW_RATES
    assert len(knobs) * len(rates) == TRIALS, "the budget is equal"
    for place, overrides in enumerate(knobs):
        for times in rates:
            rate = float(f"{times * learning_rate:.3g}")
            yield Arm(f"{name}_{place + 1}_rate_{rate:g}", (*overrides, f"{RATE}={rate!r}"))


def _weightings(tasks: Sequence[str]) -> list[dict[str, float]]:
    """Each task twice as heavy as the others, and the first two: four weightings of three."""
    heavy = [{task} for task in tasks] + [set(tasks[:2])]
    made = [{task: 2.0 if task in those else 1.0 for task in tasks} for those in heavy]
    return [{t: round(len(tasks) * w / sum(of.values()), 6) for t, w in of.items()} for of in made]


def _method(settings: str) -> tuple[str]:
    return (f"method={{kind: {settings}}}",)
