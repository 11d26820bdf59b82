"""The studies that `pairsift study` knows, one a file, each with a `STUDY`."""
