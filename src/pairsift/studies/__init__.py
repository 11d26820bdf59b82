"""Experiments on the public API only."""
