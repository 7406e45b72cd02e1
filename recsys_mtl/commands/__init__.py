"""The commands of recsys-mtl, one file each: its arguments, and what it does with them.

check.py      validate a run's YAML and its data; train nothing
init.py       write a run's YAML for a click log
settings.py   print every setting, or a JSON Schema of them
trace.py      print and draw what a run's steps came to
train.py      train, or go on with, a run

Each file has `add_to`, which describes the command to argparse, and the function that runs it and
returns its exit status. What a command needs is imported when it runs, so that a misspelt option is
refused at once.
"""
