"""Parquet click logs to batches.

schema.py    which Arrow types a feature or label column may have
manifest.py  the sorted list of files and row groups, from footers only
plan.py      which row is trained at which step by which lane: a pure function
ids.py       the row of a table that an id has
features.py  Arrow columns to ids, numbers and masks
batch.py     rows of several lanes to one ClickBatch of tensors
stream.py    all of it on a background thread, from any step on
"""
