"""One network per file, all by one contract.

contract.py  what a body is: where tasks part, and which parameters they share
"""
