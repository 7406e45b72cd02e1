"""Task gradients [T, P] in, one update out: pure tensor math, no ranks, no files.

gram.py              the two passes over the gradients: their products K, and sum_i c_i g_i
methods/             every method, from what is known of the tasks to their weights
combination.py       norms, clipping, combinations of any shape
task_coefficients.py any of the methods in one call, for anyone's loop
step.py              `gradops`: the whole of GradOPS in one call
min_norm.py          the shortest convex combination: MGDA, and GradOPS's last resort
least_squares.py     non-negative least squares: the active set by which it is found
elimination.py       which gradients are independent, and what the others are made of
conflicts.py         pairs of gradients whose cosine is below a threshold
backend.py           plain torch or Triton kernels: what a device and the number of tasks allow
kernels/             the same functions in Triton, and clip and Adam in the pass that combines
operations.py        the functions of either, as one choice
cpu_loops.py         the two passes on a CPU, compiled
table_products.py    gradients and products of embedding tables, grouped by row
reference.py         Algorithm 1 on the vectors themselves: slow, plain, the ground truth
"""

from recsys_mtl.gradients.backend import Backend, BackendChoice, resolve_backend
from recsys_mtl.gradients.gram import combine_gradients, gram_matrix
from recsys_mtl.gradients.methods.gradops import (
    GradOPSCoefficients,
    gradops_coefficients,
    zero_sine_squared_for,
)
from recsys_mtl.gradients.min_norm import min_norm
from recsys_mtl.gradients.reference import gradops_reference
from recsys_mtl.gradients.step import GradOPSStep, gradops
from recsys_mtl.gradients.task_coefficients import GramMethod, task_coefficients

__all__ = [
    "Backend",
    "BackendChoice",
    "GradOPSCoefficients",
    "GradOPSStep",
    "GramMethod",
    "combine_gradients",
    "gradops",
    "gradops_coefficients",
    "gradops_reference",
    "gram_matrix",
    "min_norm",
    "resolve_backend",
    "task_coefficients",
    "zero_sine_squared_for",
]
