"""The model: embedding tables, shared bottom, one head a task, losses.

embeddings.py     the tables and their initial rows
shared_bottom.py  bottom and heads, from pooled embeddings to logits
losses.py         masked binary cross-entropy as a share of the global mean
"""
