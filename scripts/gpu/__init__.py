"""Measures full-size graphs on an NVIDIA GPU; see docs/gpu.md."""
