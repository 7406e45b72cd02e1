"""Experiments, each one command that writes or prints what it found.

The papers', over sweeps of runs; RESULTS.md has what was obtained:
  census_table1.py, census_table4.py, census_figure4.py, census_figure7.py, census_figure8.py
  census_contrasts.py  three differences decided on beforehand
  clicks_table3.py     the GradOPS paper's Table 3 on a synthetic log
  clicks_conflict.py   a grid of logs, from tasks that agree to tasks that pull apart
  recon_table.py       Recon, its claims and its controls
  fair_trade.py        equal tuning, equal compute, cost at equal quality
  pareto_2d.py         the GradOPS paper's Figure 2
  shared/              what they are made of
The product's own choices: cheaper_modes.py, day_to_day.py, gate_coverage.py.
"""
