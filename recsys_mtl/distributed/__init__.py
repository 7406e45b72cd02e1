"""What needs several workers: who they are, sums over them, tables cut over them.

context.py              rank, world size, device
collectives.py          sums and broadcasts
torchrec_inputs.py      tables and ids in TorchRec's types, which only this package knows
planning.py             which shard of which table lies on which worker
sharding.py             the embedding tables over the workers
embedding_gradients.py  the tasks' gradients of the tables, where their shards lie
traffic.py              how many bytes the tables' exchanges send
"""
