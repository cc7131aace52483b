"""Builds and runs the container files in chroots, where no container engine is at hand."""
