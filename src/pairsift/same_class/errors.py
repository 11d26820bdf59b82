"""The error of an affinity that cannot be fitted."""


class AffinityError(ValueError):
    """Features from which no affinity can be fitted; the message says why and the remedy."""
