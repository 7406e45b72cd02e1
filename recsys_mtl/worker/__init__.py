"""What one worker holds and does; it knows a host, and no Ray.

job.py               what the driver hands to every worker
host.py              what a worker asks of whoever runs it
build.py             from the configuration to a worker; methods.py: its method; body.py: its body
model.py             tables and body, and the forward through them: all that scoring needs
state.py             what training holds besides: optimizers, and the room for gradients
step_mode.py         what one step computes
counted_layers.py    the layers and tables in which a search counts conflicts
counts.py            labels, rows and wishes to stop, over all workers
shared_gradients.py  the gradients of what the tasks share, and their combination
evidence.py          what the method is told of a step; weighing.py: what it answers
optimizers.py        dense optimizer; learning_rate.py: warm-up and schedule
recording.py         from what a step computed to its record
reporting.py         from step records to trace, totals and snapshots
best.py              the best evaluation so far, and whether to end early
evaluation.py        a whole log, scored while a run trains
checkpoint.py        save and restore a run; checkpoint_metadata.py: what one says in plain numbers
named_tensors.py     tensors by name, and partial loads
warm_start.py        first values from another run; renaming.py: names there; inherited.py: what in
                     it means the same; same_meaning.py: refuses what no longer does
trained_model.py     a model as its checkpoint holds it
scoring.py           what is done with one: log_evaluation.py and scored_rows_by_key.py judge it,
                     prediction.py and predicted_files.py score a log with it
"""
