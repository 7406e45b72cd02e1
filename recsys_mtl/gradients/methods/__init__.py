"""One method of weighing tasks per file, as functions of plain numbers and tensors.

contract.py        what a method is given, and what it gives back
uniform.py         the plain sum of the losses
gradops.py         GradOPS: off the span of the others; no update goes against a task
gradops_static.py  the same projections under fixed weights
pcgrad.py          PCGrad: off one conflicting gradient after the other, in a drawn order
dw.py              GradOPS's weighting on the gradients as they are
pcgrad_dw.py       the same weighting on PCGrad's projections
gradvac.py         GradVac: turned towards the others, up to the usual cosine
mgda.py            MGDA: the shortest convex combination
cagrad.py          CAGrad: near the mean, best for the worst-off task
imtl_g.py          IMTL-G: equal products with every task's direction
upgrad.py          UPGrad: each gradient off all that it would oppose, then their mean
gradnorm.py        GradNorm: learnt weights that bring gradient norms together

README.md says what each promises, and settles what public implementations disagree on.
"""
