"""Scores of the embedded models through the agent's own pipeline (scripts/evaluate)."""
