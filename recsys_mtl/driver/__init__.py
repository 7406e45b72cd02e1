"""What runs on the driver: it starts a run, follows it, and writes what the run leaves behind.

launch.py       a configuration to a finished run
  earlier_run.py  what a run of the same name means for it
  refusals.py     what workers would refuse, said before they start
  first_values.py the run that it begins from, if any
runner.py       where the workers train: on Ray, or in this process
  ray_runner.py         on Ray; cluster.py: join one, or start one
    ray_train.py        the workers, by Ray Train, to the end of their work
    ray_host.py         a worker's surroundings: who it is, its checkpoints
    ray_exporter.py     the exporter, an actor
  local_runner.py       in this process, where Ray need not be installed
    local_host.py       the worker's surroundings
    local_checkpoints.py  its checkpoints, and the index of the committed ones
endpoint.py     the run's exporter: have it serve, let Prometheus find it, end it
preemption.py   SIGTERM: a checkpoint, then the end; interruption.py: Ctrl-C from within
lease.py        one driver for one run
progress.py     the line that a person sees of a run while it trains
result.py       what a run has come to
log_summary.py  what `check` says of a log
run_trace.py    what `trace` says of a run's steps
events.py       sentences on a terminal, elsewhere one JSON object per line
run_folder.py   the files of a run; storage.py: files and folders, wherever they lie
repeating.py    a function called again and again on a thread of its own

sweep/          many runs side by side: a grid of settings, each with several seeds

trained_run.py  a run that has trained, found by its URL
  committed.py          its committed checkpoints, whoever has trained them
  stored_checkpoint.py  one of them, read where it lies
evaluate.py     judges it by a log; predict.py: scores a log with it
  scoring.py            where that is done: local_scoring.py, ray_scoring.py
recon.py        searches for layers in which tasks conflict, trains a run with copies of them
  recon_scores.py       recon.json, and the choice by it; recon_tables.py: as a person sees it
export.py       writes it as a bundle; export_examples.py: with rows and the scores to expect
"""
