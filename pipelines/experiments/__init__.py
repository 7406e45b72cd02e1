"""Experiments from the paper, each one command that prints what it found."""
