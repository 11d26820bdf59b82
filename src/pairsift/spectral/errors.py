"""The error of a spectral map that cannot be fitted or used."""


class SpectralError(ValueError):
    """Features or settings that no spectral map can be fitted with; the message names the remedy."""
