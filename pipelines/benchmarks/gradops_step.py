"""What GradOPS costs from task gradients [T, P] to the update [P], on the CPU.

    python -m pipelines.benchmarks.gradops_step --threads 1 --json gradops_step.json

`floor` is two plain passes over the same float32 memory, `G.sum()` and
`torch.mv(G.t(), c, out=update)`; ratios are to it. `gradops` is the Gram matrix, the coefficients
and the combination; `torchjd_*` are TorchJD's aggregators, whose Gram is float32. Each method's
update is first compared with one from the method's definition in plain float64; where one is
wrong, the run ends with status 1 and names it, before anything of that size is timed.

TorchJD's methods are held to their definition on the float32 Gram they start from: at 20 million
columns that Gram is off by up to 6e-3 of |g_i||g_j|, and with it IMTL-G's update by 3e-3. How far
each update is from the method's definition on the exact Gram is printed above the times.
"""

# T tasks, P shared parameters

import argparse
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.benchmarks.measure import (
    Row,
    add_common_arguments,
    positive_int,
    print_rows,
    summarise,
    time_interleaved,
    write_json,
)
from pipelines.benchmarks.weights import (
    WeightsOf,
    gradops_weights,
    imtl_g_weights,
    pcgrad_weights,
    plain_gram,
    relative_error,
    upgrad_weights,
)
from recsys_mtl.gradients import combine_gradients, gradops_coefficients, gram_matrix

ALPHA = 0.5
PERMUTATION_SEED = 0
METHODS = ("gradops", "torchjd_pcgrad", "torchjd_imtl_g", "torchjd_upgrad")


@dataclass(frozen=True)
class Contender:
    """A method on given gradients [T, P], and what its update is to be."""

    run: Callable[[], Tensor]
    """Returns the update [P]."""
    weights_of: WeightsOf
    tolerance: float
    """How far the update may be off, relative to its norm."""
    float32_gram: bool = False
    """The method starts from a float32 Gram, and is held to its definition on that one."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; status 1 where a method is wrong, 2 where an argument cannot be met."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.benchmarks.gradops_step",
        description="Time GradOPS on task gradients against two plain passes and TorchJD.",
    )
    parser.add_argument("--tasks", type=positive_int, nargs="+", default=[2, 3, 8, 16])
    parser.add_argument(
        "--parameters", type=positive_int, nargs="+", default=[1_400_000, 20_000_000]
    )
    parser.add_argument("--methods", choices=METHODS, nargs="+", default=METHODS)
    add_common_arguments(parser, rounds=15)
    options = parser.parse_args(arguments)
    missing = _missing_packages(options.methods)
    if missing:
        parser.error(
            f"the package {missing[0]} is not installed, which {missing[1]} needs; install "
            "torchjd[quadprog_projector] or leave the method out of --methods"
        )
    torch.set_num_threads(options.threads)
    seed = torch.seed()
    print("seed", seed)
    rows: list[Row] = []
    for num_parameters in options.parameters:
        for num_tasks in options.tasks:
            torch.manual_seed(seed)  # the check of the size before left its own
            measured = _measure(num_tasks, num_parameters, options.methods, options.rounds)
            print_rows(
                f"T = {num_tasks}, P = {num_parameters:,}; threads: {options.threads}", measured
            )
            rows += measured
    if options.json is not None:
        write_json(options.json, options.threads, rows)


def conflicting_gradients(num_tasks: int, num_parameters: int) -> Tensor:
    """[T, P] float32 of tasks that mostly agree, the second opposing the first (cosine -0.29)."""
    gradients = torch.randn(num_tasks, num_parameters)
    gradients += 0.5 * torch.randn(num_parameters)
    if num_tasks > 1:
        gradients[1] -= 0.5 * gradients[0]
    return gradients


def contenders_for(gradients: Tensor, methods: Sequence[str]) -> dict[str, Contender]:
    """The floor and the methods asked for, in that order."""
    update = torch.empty_like(gradients[0])
    coefficients = torch.rand(len(gradients)) + 0.5

    def floor() -> Tensor:
        gradients.sum()
        return torch.mv(gradients.t(), coefficients, out=update)

    def gradops() -> Tensor:
        gram = gram_matrix(gradients)
        step = gradops_coefficients(gram, alpha=ALPHA)
        return combine_gradients(gradients, step.coefficients, out=update)

    contenders = {"floor": Contender(floor, lambda _: coefficients.double(), tolerance=1e-5)}
    for name in methods:
        if name == "gradops":
            contenders[name] = Contender(gradops, gradops_weights(ALPHA), tolerance=1e-6)
        else:
            contenders[name] = _torchjd_contender(name, gradients)
    return contenders


def wrong_methods(gradients: Tensor, contenders: dict[str, Contender]) -> list[str]:
    """Those whose update is not what it is to be, each with its error; prints all errors."""
    exact = plain_gram(gradients)
    rounded = (gradients @ gradients.T).double()
    wrong, distances = [], []
    for name, contender in contenders.items():
        torch.manual_seed(PERMUTATION_SEED)
        update = contender.run()
        error, distance = (
            _error(contender, update, gram, gradients)
            for gram in (rounded if contender.float32_gram else exact, exact)
        )
        distances.append(f"{name} {distance:.1e}")
        if not error <= contender.tolerance:
            wrong.append(f"{name} (relative error {error:.1e}, at most {contender.tolerance:.0e})")
    print("off the definition on the exact Gram by", ", ".join(distances))
    return wrong


def _error(contender: Contender, update: Tensor, gram: Tensor, gradients: Tensor) -> float:
    torch.manual_seed(PERMUTATION_SEED)  # PCGrad draws its orders from torch's generator
    return relative_error(update, contender.weights_of(gram), gradients)


def _measure(num_tasks: int, num_parameters: int, methods: Sequence[str], rounds: int) -> list[Row]:
    gradients = conflicting_gradients(num_tasks, num_parameters)
    contenders = contenders_for(gradients, methods)
    wrong = wrong_methods(gradients, contenders)
    if wrong:
        raise SystemExit(
            f"wrong update at T = {num_tasks}, P = {num_parameters}: {', '.join(wrong)}; "
            "nothing of this size was timed."
        )
    calls = {name: contender.run for name, contender in contenders.items()}
    return summarise(
        time_interleaved(calls, rounds=rounds),
        baseline="floor",
        num_tasks=num_tasks,
        num_parameters=num_parameters,
    )


def _torchjd_contender(name: str, gradients: Tensor) -> Contender:
    from torchjd.aggregation import IMTLG, Aggregator, PCGrad, UPGrad  # only here is it needed

    aggregator: Aggregator
    match name:
        case "torchjd_pcgrad":
            aggregator, weights_of = PCGrad(), pcgrad_weights
        case "torchjd_imtl_g":
            aggregator, weights_of = IMTLG(), imtl_g_weights
        case "torchjd_upgrad":
            aggregator, weights_of = UPGrad(), upgrad_weights
        case _:
            raise AssertionError(name)
    return Contender(lambda: aggregator(gradients), weights_of, tolerance=1e-5, float32_gram=True)


def _missing_packages(methods: Sequence[str]) -> tuple[str, str] | None:
    """The first package that is not there, and the method that needs it."""
    for method in methods:
        needed = ["torchjd"] if method.startswith("torchjd") else []
        needed += ["qpsolvers", "quadprog"] if method == "torchjd_upgrad" else []
        for package in needed:
            if importlib.util.find_spec(package) is None:
                return package, method
    return None


if __name__ == "__main__":
    main()
