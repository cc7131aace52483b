"""Measures the models of this box: each in a process of its own, within a bounded time."""
