"""Class collapse: when supervised contrastive learning maps all examples of a class to one point (arXiv 2503.08203)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pairsift._base.extras import needs


def collapse_threshold(
    n_classes: int, per_class: float, temperature: float, *, margin: float = 0.0, scale: float = 1.0
) -> float:
    """The weight alpha of the self-supervised part up to which collapsed classes minimise the mixed loss.

    The loss is the outside form of `losses.MixedContrastiveLoss` with own views among the positives. The result holds
    for balanced classes that a batch contains whole in two views, unit embeddings and enough dimensions. With
    ``E = exp(((margin - 1 / (m - 1)) / scale - 1) / tau)`` the threshold is
    ``1 - (2n - 1) (1 - E / scale) / ((2n - 1) + 2n (m - 1) E)``. There the derivative of the loss by the share of
    variance within classes changes sign at share 0.

    Args:
        n_classes: m, number of classes, >= 2.
        per_class: n, images of a class, > 1. It may be a mean.
        temperature: tau, > 0.
        margin: added to the similarity of all pairs of different classes, finite.
        scale: factor on the temperature of all pairs of different classes, > 0.

    Returns:
        alpha* in (0, 1]. Classes collapse for alpha <= alpha*.

    Raises:
        ValueError: a number out of range.

    Example:
        >>> import pairsift as ps
        >>> [round(ps.theory.collapse_threshold(10, 5000, tau), 3) for tau in (0.2, 0.5, 1.0)]
        [0.037, 0.549, 0.831]
    """
    _check(n_classes, per_class, temperature, margin, scale)
    exponent = ((margin - 1 / (n_classes - 1)) / scale - 1) / temperature
    if exponent > math.log(scale):  # other classes push more than the own class even when it is a point
        return 1.0
    pushed, own = math.exp(exponent), 2 * per_class - 1
    return 1 - own * (1 - pushed / scale) / (own + 2 * per_class * (n_classes - 1) * pushed)


def collapse_temperature(alpha: float, n_classes: int, per_class: float) -> float:
    """The temperature from which on classes collapse at the weight alpha. It inverts `collapse_threshold`.

    Args:
        alpha: weight of the self-supervised part, in [0, 1].
        n_classes: m, number of classes, >= 2.
        per_class: n, images of a class, > 1.

    Returns:
        tau* >= 0. Classes collapse for tau >= tau*. It is 0 for alpha = 0 and inf for alpha = 1.

    Raises:
        ValueError: a number out of range.

    Example:
        >>> import pairsift as ps
        >>> round(ps.theory.collapse_temperature(0.5, 10, 26), 2)
        0.46
    """
    _check(n_classes, per_class)
    _check_alpha(alpha)
    if alpha in (0, 1):
        return math.inf if alpha else 0.0
    m, n = n_classes, per_class
    pushed = alpha * (2 * n - 1) / (2 * n * m - 1 - 2 * n * (m - 1) * alpha)
    return -m / ((m - 1) * math.log(pushed))


def within_class_share(
    alpha: float, n_classes: int, per_class: float, temperature: float, *, margin: float = 0.0, scale: float = 1.0
) -> float:
    """The share of variance within classes that minimises the mixed loss, q*.

    Along `ssem` the loss is convex in q. Its minimiser is 0 up to `collapse_threshold`. Above, it solves
    ``(1 - alpha) / (2n - 1) = (exp(s_in / tau) - exp(o) / scale) / Z`` with ``s_in = 1 - q n / (n - 1)``,
    ``o = (margin - (1 - q) / (m - 1)) / (scale tau)`` and Z the denominator of an anchor.

    Args:
        alpha: weight of the self-supervised part, in [0, 1].
        n_classes, per_class, temperature, margin, scale: see `collapse_threshold`.

    Returns:
        q* in [0, 1].

    Raises:
        ValueError: a number out of range.

    Example:
        >>> import pairsift as ps
        >>> [round(ps.theory.within_class_share(alpha, 3, 4, 0.5), 4) for alpha in (0.1, 0.3, 1.0)]
        [0.0, 0.1709, 0.8182]
    """
    _check(n_classes, per_class, temperature, margin, scale)
    _check_alpha(alpha)
    m, n = n_classes, per_class

    def slope(q: float) -> float:
        """The derivative of the loss by q, up to a positive factor."""
        same = (1 - q * n / (n - 1)) / temperature
        other = (margin - (1 - q) / (m - 1)) / (scale * temperature)
        top = max(1 / temperature, same, other)
        own, inside, outside = (math.exp(each - top) for each in (1 / temperature, same, other))
        total = own + 2 * (n - 1) * inside + 2 * n * (m - 1) * outside
        return (outside / scale - inside) / total + (1 - alpha) / (2 * n - 1)

    if slope(0.0) >= 0:
        return 0.0
    if slope(1.0) <= 0:
        return 1.0
    with needs("theory", "the share of variance within classes"):
        from scipy.optimize import brentq
    return float(brentq(slope, 0.0, 1.0, xtol=1e-14))


def ssem(n_classes: int, per_class: int, q: float, dimensions: int | None = None) -> NDArray[np.float64]:
    """The simplex-to-simplex embedding: class means form a simplex, and so do the images of each class about its mean.

    Rows have unit length. The similarity of two rows of one class is ``1 - q n / (n - 1)``, and that of rows of two
    classes is ``-(1 - q) / (m - 1)``.

    Args:
        n_classes: m, number of classes, >= 2.
        per_class: n, images of a class, >= 2.
        q: share of the variance within classes, in [0, 1].
        dimensions: of the embedding, >= m n - 1. None takes m n - 1.

    Returns:
        (m n, dimensions) float64, ordered by class.

    Raises:
        ValueError: a number out of range, or too few dimensions.

    Example:
        >>> import pairsift as ps
        >>> u = ps.theory.ssem(3, 4, q=0.3)
        >>> u.shape, (u @ u.T)[0, [0, 1, 4]].round(3).tolist()
        ((12, 11), [1.0, 0.6, -0.35])
    """
    _check(n_classes, per_class)
    m, n = n_classes, per_class
    if int(n) != n:
        raise ValueError(f"per_class must be a whole number of images, got {per_class}")
    if not 0 <= q <= 1:
        raise ValueError(f"q must be in [0, 1], got {q}")
    needed = m * int(n) - 1
    if dimensions is not None and dimensions < needed:
        raise ValueError(f"{m} classes of {n:g} images need {needed} dimensions (m n - 1), got {dimensions}")
    out = np.zeros((m * int(n), needed if dimensions is None else dimensions))
    out[:, : m - 1] = math.sqrt(1 - q) * np.repeat(_simplex(m), n, axis=0)
    inner = math.sqrt(q) * _simplex(int(n))
    for each in range(m):
        first = m - 1 + each * (n - 1)
        out[each * n : (each + 1) * n, first : first + n - 1] = inner
    return out


def _simplex(n: int) -> NDArray[np.float64]:
    """(n, n - 1) unit rows with similarity -1 / (n - 1) to each other."""
    contrasts = np.zeros((n, n - 1))
    for k in range(1, n):
        contrasts[:k, k - 1], contrasts[k, k - 1] = 1, -k
        contrasts[:, k - 1] /= math.sqrt(k * (k + 1))
    return contrasts * math.sqrt(n / (n - 1))


def _check(n_classes: int, per_class: float, temperature: float = 1.0, margin: float = 0.0, scale: float = 1.0) -> None:
    if n_classes < 2:
        raise ValueError(f"n_classes must be >= 2, got {n_classes}: one class has no others to be apart from")
    if not (math.isfinite(per_class) and per_class > 1):
        raise ValueError(f"per_class must be finite and > 1, got {per_class}: a class of one image cannot collapse")
    for name, value in (("temperature", temperature), ("scale", scale)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be finite and > 0, got {value}")
    if not math.isfinite(margin):
        raise ValueError(f"margin must be finite, got {margin}")


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1] (0 supervised, 1 self-supervised), got {alpha}")
