"""One network per file, all by one contract.

contract.py            what a body is: where tasks part, and which parameters they share
shared_bottom.py       linear layers that all tasks share; single ones may be task-specific
mixture_of_experts.py  MMoE: shared experts, and one gate per task
progressive_layered_extraction.py  PLE: levels of experts, shared ones and each task's
experts.py             experts of equal shape, in batched products
layers.py              parts that several bodies are made of
build.py               from the configuration to a body
"""
