"""The verified model store."""
