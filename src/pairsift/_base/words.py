"""Counts in messages and pages."""


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: "1 row", "1,234 rows".

    Args:
        number: of things.
        one: the noun for one of them, and the words that agree with it ("row has").
        many: the same for several; None appends an s.
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"
