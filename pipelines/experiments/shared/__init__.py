"""What several experiments are made of.

command.py          options, the report's files, the exit status
setting.py          what is trained on: a run and three sets of rows
  census_setting.py   Census-Income
  clicks_setting.py   the synthetic click log
  log_choice.py       either of them
method_arms.py      the methods, as arms of a sweep
tuning.py           the same with what is tuned of each
paper.py            the figures that the GradOPS paper reports
scores.py           AUCs by arm, seed and task, and what they come to
  markdown.py         as tables
  figures.py          as pictures
  score_report.py     a whole report that is one table of methods
conflict_counts.py  how often tasks conflicted in each layer of a run
networks.py         how many parameters a network has, and one with as many
recon_arms.py       networks with task-specific layers
recon_report.py     what is reported of them
"""
