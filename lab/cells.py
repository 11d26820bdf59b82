"""Cells of tables: numbers, intervals over seeds and paired differences as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from pairsift.evaluate import t_interval

NONE = "no difference"
# Makes a cell from lists of values over seeds, or from keys. None is an empty cell.
Show = Callable[..., "str | None"]


def markdown(titles: Sequence[str], cells: Sequence[Sequence[str | None]]) -> str:
    """A table without the columns in which no row has a value."""
    used = [i for i, _ in enumerate(titles) if i == 0 or any(line[i] for line in cells)]
    table = [[titles[i] for i in used], ["---"] * len(used), *([line[i] or "" for i in used] for line in cells)]
    return "\n".join("| " + " | ".join(line) + " |" for line in table)


def mean(values: Sequence[float]) -> float:
    """Mean of at least one value."""
    return sum(values) / len(values)


def number(
    digits: int | None = None, unit: str = "", scale: float = 1, sign: str = "", rounded: int | None = None
) -> Show:
    """Shows the mean.

    Args:
        digits: digits after the point. None gives one below 10 and none above.
        unit: text after the number.
        scale: factor of the number.
        sign: "+" shows the sign of positive numbers.
        rounded: digits to round the mean to before it is scaled.
    """

    def show(values: Sequence[float]) -> str | None:
        if not values:
            return None
        value = scale * (mean(values) if rounded is None else round(mean(values), rounded))
        shown = (0 if abs(value) >= 10 else 1) if digits is None else digits
        return f"{value:{sign},.{shown}f}{unit}"

    return show


def interval(digits: int = 1, sign: str = "", scale: float = 1, rounded: bool = True, zero: bool = False) -> Show:
    """Shows mean ± half-width of the 95 % interval. An undefined half-width is left out.

    Args:
        digits: digits after the point.
        sign: "+" shows the sign of gains.
        scale: factor of the values.
        rounded: whether both numbers are rounded to two digits first.
        zero: whether a half-width of 0 is shown.
    """

    def show(values: Sequence[float]) -> str | None:
        if not values:
            return None
        both = ([each] for each in t_interval([scale * value for value in values]))
        return given_interval(digits, sign, 1, rounded, zero)(*both)

    return show


def given_interval(
    digits: int = 1, sign: str = "", scale: float = 1, rounded: bool = False, zero: bool = False
) -> Show:
    """Shows a given mean and half-width; see `interval`."""

    def show(means: Sequence[float], halves: Sequence[float]) -> str | None:
        if not means:
            return None
        both = [scale * each[0] if each else math.nan for each in (means, halves)]
        middle, half = (round(each, 2) if rounded else each for each in both)
        return f"{middle:{sign}.{digits}f}" + (
            "" if math.isnan(half) or not (half or zero) else f" ± {half:.{digits}f}"
        )

    return show


def difference(values: Sequence[float]) -> str | None:
    """Shows the mean of paired differences, with a note if the interval holds 0."""
    if not values:
        return None
    middle, half = t_interval(values)
    if math.isnan(half):
        return f"{middle:+.2f} (one seed)"
    told = f"{middle:+.2f} ± {half:.2f}"
    return told if abs(middle) > half else f"{NONE} ({told})"


def slashed(*shows: Show) -> Show:
    """Shows several measures with a slash between."""
    return lambda *values: " / ".join(filter(None, (show(each) for show, each in zip(shows, values, strict=True))))


def between(show: Show) -> Show:
    """Shows the first measure minus the second, paired by run."""
    return lambda a, b: show([x - y for x, y in zip(a, b, strict=True)])


def listed(digits: int) -> Show:
    """Shows the value of every seed."""
    return lambda values: ", ".join(f"{each:.{digits}f}" for each in values)


def bold(show: Show) -> Show:
    """Shows the same in bold."""
    return lambda *values: f"**{show(*values)}**"


def titled(titles: Mapping[str, str]) -> Show:
    """Shows a key by its title."""
    return lambda key: titles.get(key, key)
