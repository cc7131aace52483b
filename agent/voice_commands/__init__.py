"""Spoken commands: configured phrases found in recognised text. Pure: no input, no output."""
