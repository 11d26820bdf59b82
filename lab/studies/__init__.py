"""The studies that `python -m lab` knows, one a file, each with a `STUDY`."""
