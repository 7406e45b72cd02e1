"""The model: from pooled embeddings and dense inputs to one loss per task.

bodies/         one network per file, all by one contract
forward.py      one forward of a body, cut where the tasks part, and the backwards above the cut
trunk.py        the part below the cut, with its backwards
ownership.py    which parameters lie below the cut and which above, held to autograd
flat_memory.py  parameters and gradients as flat memory, layer by layer
embeddings.py   the tables' initial rows
dropout.py      masks that do not depend on the number of workers; random.py: their generators
losses.py       masked binary cross-entropy as a share of the global mean
"""
