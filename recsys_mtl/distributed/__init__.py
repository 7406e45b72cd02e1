"""What needs several workers: who they are, sums over them, tables cut over them.

context.py      rank, world size, device
collectives.py  sums and broadcasts
sharding.py     the embedding tables over the workers
"""
