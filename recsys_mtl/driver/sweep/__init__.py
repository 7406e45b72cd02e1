"""A sweep: several ways to train, each with several seeds, side by side.

run.py           `sweep`: from a run's YAML and its arms to a finished sweep
  arms.py        what is compared, and how settings with several values become arms
    arm_refusal.py  what is said of one that cannot be
  cells.py       one run per arm and seed, all checked before the first starts
  logs.py        the logs that they read, and whether earlier cells are still those asked for
  folder.py      the files of a sweep
  admission.py   which cells may train at the same time
  schedule.py    their processes, to the end of all
    cell_process.py  one of them
  progress.py    what a person sees meanwhile
outcomes.py      what a cell has come to
  answers.py     what a test log has said of it
  statistics.py  what arms come to over their seeds, and how they compare
  choice.py      which arm is the best under conditions
  record.py      sweep.json, and which test logs have been used
  report.py      tables on a terminal, and sweep.md
  figure.py      sweep.png; traces.py: what it needs of the runs
"""

from recsys_mtl.driver.sweep.arms import Arm
from recsys_mtl.driver.sweep.run import sweep

__all__ = ["Arm", "sweep"]
