"""The errors of a spectral map that cannot be fitted or used."""


class SpectralError(ValueError):
    """Features or settings that no spectral map can be fitted with; the message names the remedy."""


class TooWideError(SpectralError):
    """A width that no solution has.

    Attributes:
        available: the largest width that there is.
    """

    def __init__(self, dimensions: int, available: int) -> None:
        super().__init__(
            f"`dimensions={dimensions}`, but the pairs share only {available} directions with a positive correlation: "
            "ask for at most so many, or leave `dimensions` out"
            if available
            else "the sides of the pairs share no direction with a positive correlation: look whether row i of one "
            "side belongs to row i of the other"
        )
        self.available = available
