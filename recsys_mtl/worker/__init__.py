"""What one worker holds and does besides the step itself; it knows no Ray.

job.py            what the driver hands to every worker
state.py          model, tables, optimizers, and how they are built
shared_update.py  the gradients of what the tasks share, and their combination
optimizers.py     dense optimizer and learning-rate schedule
reporting.py      from step records to trace, totals and exporter
checkpoint.py     save and restore
"""
