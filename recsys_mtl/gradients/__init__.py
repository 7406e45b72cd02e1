"""Task gradients [T, P] in, one update out: pure tensor math, no ranks, no files.

gram.py        the two passes over the gradients: their products K, and sum_i c_i g_i
gradops.py     GradOPS on K: weights and coefficients; `gradops` is the whole in one call
min_norm.py    the shortest convex combination, where GradOPS has nothing left to keep
reference.py   Algorithm 1 on the vectors themselves: slow, plain, the ground truth
"""

from recsys_mtl.gradients.gradops import (
    GradOPSCoefficients,
    GradOPSStep,
    gradops,
    gradops_coefficients,
    zero_sine_squared_for,
)
from recsys_mtl.gradients.gram import combine_gradients, gram_matrix
from recsys_mtl.gradients.min_norm import min_norm
from recsys_mtl.gradients.reference import gradops_reference

__all__ = [
    "GradOPSCoefficients",
    "GradOPSStep",
    "combine_gradients",
    "gradops",
    "gradops_coefficients",
    "gradops_reference",
    "gram_matrix",
    "min_norm",
    "zero_sine_squared_for",
]
