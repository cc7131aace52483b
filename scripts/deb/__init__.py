"""Builds the Debian packages; see docs/package.md."""
