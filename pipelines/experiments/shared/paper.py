"""The figures that the GradOPS paper reports, to stand beside what is measured here.

Source: Zhu et al., "Gradient Deconfliction via Orthogonal Projections onto Subspaces For Multi-task
Learning", WSDM 2025. Test AUC by arm and task. Of delta-m, in percent, less is better; MR is the
mean rank over the tasks among the table's methods.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Published(NamedTuple):
    """One line of a table of the paper."""

    scores: tuple[float, ...]
    """[T] AUC, in the order of the table's tasks."""
    average: float
    delta_m: float | None = None
    """None where the table has no such column."""
    mean_rank: float | None = None


CENSUS_TASKS = ("income", "marital", "education")
CENSUS_TABLE_1: Mapping[str, Published] = {
    "single_task": Published((0.9454, 0.9817, 0.8875), 0.9382, 0.00, 4.33),
    "uniform": Published((0.9407, 0.9763, 0.8829), 0.9333, 0.52, 14.00),
    "gradnorm": Published((0.9435, 0.9829, 0.8873), 0.9379, 0.03, 6.00),
    "pcgrad": Published((0.9428, 0.9812, 0.8856), 0.9365, 0.18, 11.67),
    "gradvac": Published((0.9436, 0.9798, 0.8856), 0.9363, 0.20, 10.67),
    "mgda_ub": Published((0.9460, 0.9833, 0.8870), 0.9388, -0.06, 3.00),
    "cagrad": Published((0.9444, 0.9820, 0.8863), 0.9376, 0.07, 7.00),
    "imtl_g": Published((0.9443, 0.9826, 0.8864), 0.9378, 0.05, 6.33),
    "gradops_0": Published((0.9436, 0.9817, 0.8861), 0.9371, 0.12, 9.33),
    "gradops_2": Published((0.9432, 0.9769, 0.8864), 0.9355, 0.28, 10.67),
    "gradops_-1": Published((0.9443, 0.9832, 0.8866), 0.9380, 0.02, 5.67),
    "gradops_-2": Published((0.9453, 0.9837, 0.8871), 0.9387, -0.05, 3.33),
    "gradops_-3": Published((0.9459, 0.9854, 0.8876), 0.9396, -0.15, 1.33),
}
"""Its ranks count RotoGrad (.9430, .9816, .8854), which is not among the methods here."""

CENSUS_TABLE_4: Mapping[str, Published] = {
    "dw_-1": Published((0.9433, 0.9796, 0.8830), 0.9353),
    "dw_-2": Published((0.9432, 0.9779, 0.8814), 0.9342),
    "dw_-3": Published((0.9423, 0.9783, 0.8804), 0.9337),
    "pcgrad_dw_-1": Published((0.9451, 0.9849, 0.8852), 0.9384),
    "pcgrad_dw_-2": Published((0.9449, 0.9838, 0.8850), 0.9378),
    "pcgrad_dw_-3": Published((0.9446, 0.9839, 0.8830), 0.9372),
}

CLICK_TASKS = ("purchase", "cart", "wish")
TAOBAO_TABLE_3: Mapping[str, Published] = {
    "single_task": Published((0.8149, 0.7616, 0.8095), 0.7953, 0.00, 7.33),
    "uniform": Published((0.8178, 0.7606, 0.8087), 0.7957, -0.04, 9.00),
    "gradnorm": Published((0.8188, 0.7609, 0.8084), 0.7960, -0.08, 6.67),
    "pcgrad": Published((0.8175, 0.7609, 0.8089), 0.7958, -0.05, 8.67),
    "gradvac": Published((0.8182, 0.7609, 0.8087), 0.7959, -0.07, 8.33),
    "imtl_g": Published((0.8181, 0.7602, 0.8097), 0.7960, -0.08, 8.00),
    "gradops_0": Published((0.8190, 0.7620, 0.8095), 0.7968, -0.19, 3.33),
    "gradops_1": Published((0.8186, 0.7620, 0.8067), 0.7958, -0.05, 6.67),
    "gradops_2": Published((0.8199, 0.7625, 0.8073), 0.7966, -0.15, 4.33),
    "gradops_-0.5": Published((0.8185, 0.7618, 0.8101), 0.7968, -0.18, 4.00),
    "gradops_-1": Published((0.8187, 0.7616, 0.8099), 0.7967, -0.17, 4.33),
    "gradops_-2": Published((0.8178, 0.7604, 0.8117), 0.7966, -0.16, 7.33),
}
"""Taobao's own log, which is private: 1.7 billion rows."""
