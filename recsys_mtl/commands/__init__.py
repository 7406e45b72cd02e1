"""The commands of recsys-mtl, one file each: its arguments, and what it does with them.

init.py       write a run's YAML for a click log
check.py      validate a run's YAML and its data; train nothing
train.py      train, or go on with, a run
sweep.py      train a grid of settings with several seeds, compare them, choose one
recon.py      count conflicts layer by layer, and train a run with layers of the tasks' own
trace.py      print and draw what a run's steps came to
evaluate.py   judge a trained run by a log, alone or against another run
predict.py    score every row of a log with a trained run
export.py     write a trained run as a bundle that serves without Ray and TorchRec
verify.py     compare the probabilities that a server logged with a bundle's
settings.py   print every setting, or a JSON Schema of them

arguments.py  what several commands take; printing.py: how they print

Each file has `add_to`, which describes the command to argparse, and the function that runs it and
returns its exit status. What a command needs is imported when it runs, so that a misspelt option is
refused at once.
"""
