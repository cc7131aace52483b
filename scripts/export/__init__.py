"""Exports FunASR models: architectures, seeded weights, graphs, reports."""
