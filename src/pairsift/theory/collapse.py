"""When supervised contrastive learning lets all examples of a class fall on one point (arXiv 2503.08203)."""

from __future__ import annotations

import math


def collapse_threshold(
    n_classes: int, per_class: float, temperature: float, *, margin: float = 0.0, scale: float = 1.0
) -> float:
    """The weight alpha of the self-supervised part up to which the mixed loss is least where classes are points.

    Of `losses.MixedContrastiveLoss` in its outside form, own views among the positives, for balanced classes seen whole
    in two views, unit embeddings and enough dimensions. With ``E = exp(((margin - 1 / (m - 1)) / scale - 1) / tau)``
    it is ``1 - (2n - 1) (1 - E / scale) / ((2n - 1) + 2n (m - 1) E)``: the derivative of the loss by the share of
    variance within classes, at share 0, changes sign there.

    Args:
        n_classes: m, classes; >= 2.
        per_class: n, images of a class; > 1, a mean say.
        temperature: tau, > 0.
        margin: added to the similarity of all pairs of different classes; finite.
        scale: factor on the temperature of all pairs of different classes; > 0.

    Returns:
        alpha* in (0, 1]; classes collapse for alpha <= alpha*.

    Raises:
        ValueError: a number out of range.

    Example:
        >>> import pairsift as ps
        >>> [round(ps.theory.collapse_threshold(10, 5000, tau), 3) for tau in (0.2, 0.5, 1.0)]
        [0.037, 0.549, 0.831]
    """
    if n_classes < 2:
        raise ValueError(f"n_classes must be >= 2, got {n_classes}: one class has no others to be apart from")
    if not (math.isfinite(per_class) and per_class > 1):
        raise ValueError(f"per_class must be finite and > 1, got {per_class}: a class of one image cannot collapse")
    for name, value in (("temperature", temperature), ("scale", scale)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be finite and > 0, got {value}")
    if not math.isfinite(margin):
        raise ValueError(f"margin must be finite, got {margin}")
    exponent = ((margin - 1 / (n_classes - 1)) / scale - 1) / temperature
    if exponent > math.log(scale):  # other classes push more than the own one already where it is a point
        return 1.0
    pushed, own = math.exp(exponent), 2 * per_class - 1
    return 1 - own * (1 - pushed / scale) / (own + 2 * per_class * (n_classes - 1) * pushed)
