"""What runs on the driver: it starts a run, follows it, and writes what the run leaves behind.

launch.py      a configuration to a finished run
ray_train.py   the workers, by Ray Train, to the end of training
cluster.py     the Ray cluster: join one, or start one
endpoint.py    the run's exporter: start it, let Prometheus find it, end it
preemption.py  SIGTERM: a checkpoint, then the end
lease.py       one driver for one run
progress.py    what a person sees of a run while it trains
events.py      sentences on a terminal, elsewhere one JSON object per line
run_folder.py  the files of a run; storage.py: small files, wherever they lie
repeating.py   a function called again and again on a thread of its own
"""
