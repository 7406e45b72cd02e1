"""Parquet click logs to batches.

schema.py       which Arrow types a feature or label column may have
event_times.py  when rows happened, and when the log ends
manifest.py     the sorted list of files and row groups, from footers
plan.py         which row is trained at which step by which lane: a pure function
ids.py          the row of a table that an id has
numbers.py      Arrow columns to float64
dense_inputs.py numbers, and small vocabularies one-hot: what the body reads beside embeddings;
                outside_vocabulary.py: rows of a log whose values a vocabulary lacks
labels.py       Arrow columns to what each row tells each task, and how much it counts
features.py     Arrow columns to ids, numbers and masks: whole rows
keys.py         any column's values as 64-bit keys of groups; key_names.py: what keys stand for
batch.py        rows of several lanes to one ClickBatch of tensors
row_groups.py   one row group, read patiently; background.py: ahead, on a thread
stream.py       batches from any step on; file_stream.py: whole files in their order
"""
