"""Inference lanes, live streams and the event hub."""
