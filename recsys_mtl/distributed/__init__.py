"""What needs several workers: who they are, sums over them, tables cut over them.

context.py          rank, world size, device
collectives.py      sums and broadcasts
torchrec_inputs.py  tables and ids in TorchRec's types, which only this package knows
sharding.py         the embedding tables over the workers
"""
