"""GradOPS in Triton: the functions of `gradients` that touch the device, with their signatures.

gram.py        K = G G^T, in two stages without atomics
algebra.py     weights and coefficients from K, in one program
min_norm.py    the part of it that runs where GradOPS has nothing left to keep
combine.py     sum_i c_i g_i alone, or with clip and Adam in the same pass
launch.py      the host's part of each; the other files hold Triton alone

All multiply in float64 registers, as the torch functions do, and none waits for the device. They
have been run by Triton's interpreter and compiled ahead of time for sm_80, sm_90 and sm_100, but
never timed on a GPU.

Importing this package needs Triton. To run it on a CPU, set TRITON_INTERPRET=1 before that: Triton
reads it when a kernel is defined.
"""

from recsys_mtl.gradients.kernels.launch import (
    combine_gradients,
    combined_adam_step,
    gradops_coefficients,
    gram_matrix,
)

__all__ = ["combine_gradients", "combined_adam_step", "gradops_coefficients", "gram_matrix"]
