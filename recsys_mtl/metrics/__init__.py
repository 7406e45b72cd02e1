"""What a run measures of itself.

columns.py      the list of a step's numbers that everything below and the exporter read
record.py       one step's tensors, its row of numbers, and the totals over a run
trace.py        the rows of all steps, as Parquet
figure.py       the trace as a picture; recon_figure.py: the layers in which tasks conflict
auc.py          AUC, log-loss and calibration as sums over rows
window.py       the same over the recent training steps
scored_rows.py  scored rows on disk, cut by their group, for what needs whole groups
group_auc.py    GAUC: AUC inside groups, weighted by their impressions
slices.py       what a whole log is measured by, for each value of one column
placements.py   where a logit stands among all negatives and positives of a log on disk
bootstrap.py    how far the difference of two models' AUC scatters, drawing groups
gate.py         the verdict whether a model may take another's place
comparison.py   differences, ranks and trade-offs of several trained models, by their scores
phases.py       the phases that a step spends its time in
"""
