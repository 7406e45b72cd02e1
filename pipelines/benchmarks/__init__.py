"""What the methods cost, each measured only after its result was found right.

measure.py        interleaved timing, the printed table, the JSON file
gradops_step.py   from task gradients [T, P] to the update [P], against two plain passes
"""
