"""The error of pairs that cannot be inspected."""


class PairsError(ValueError):
    """Pairs that cannot be inspected as asked; the message says why and the remedy."""
