"""The error of a scan that cannot be done."""


class ScanError(ValueError):
    """A scan that cannot be done as asked; the message says why and the remedy."""
