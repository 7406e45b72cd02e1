"""One method of weighing tasks per file, as functions of plain numbers and tensors.

contract.py  what a method is given, and what it gives back
uniform.py   the plain sum of the losses
gradops.py   GradOPS: off the span of the others; no update goes against a task
pcgrad.py    PCGrad: off one conflicting gradient after the other, in a drawn order
gradnorm.py  GradNorm: learnt weights that bring gradient norms together
"""
