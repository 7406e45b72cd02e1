"""What runs on the driver: it starts a run, follows it, and writes what the run leaves behind.

launch.py       a configuration to a finished run
runner.py       where the workers train: on Ray, or in this process
  ray_runner.py         on Ray; cluster.py: join one, or start one
    ray_train.py        the workers, by Ray Train, to the end of training
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
events.py       sentences on a terminal, elsewhere one JSON object per line
committed.py    the checkpoints that are committed, whoever has trained them
run_folder.py   the files of a run; storage.py: files and folders, wherever they lie
repeating.py    a function called again and again on a thread of its own
"""
