"""The error of data that cannot be used."""


class DataError(ValueError):
    """Data that cannot be used as they are; the message names the fault and the remedy."""
