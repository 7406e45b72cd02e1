"""Whole runs in one process, without Ray."""
