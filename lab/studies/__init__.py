"""The studies of `python -m lab`. Each file has a `STUDY`."""
