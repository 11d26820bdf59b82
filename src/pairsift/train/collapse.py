"""Whether the images of a class fall on one point: what to expect before a run with labels, and what is seen in it."""

from __future__ import annotations

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pairsift.data import DataError, ImageSet
from pairsift.theory.collapse import collapse_threshold
from pairsift.train.config import TrainConfig


def check_labels(config: TrainConfig, images: ImageSet) -> None:
    """Refuse images that `method="mixed"` cannot learn from, and warn where its settings collapse classes.

    The classes of a batch are counted as if they were of one size.

    Args:
        config: of the run; other methods are not looked at.
        images: the training images; labels of -1 are unknown.

    Raises:
        DataError: no labels.

    Warns:
        UserWarning: `alpha` is at or below the threshold of `theory.collapse_threshold` for a mean batch.
    """
    if config.method != "mixed":
        return
    if images.labels is None:
        raise DataError(
            "mixed learns from labels; these images have none: name their `label_column`, or use `method='simclr'`"
        )
    known = images.labels[images.labels >= 0]
    classes = len(np.unique(known))
    per_class = config.batch_size * len(known) / len(images) / max(classes, 1)
    if classes < 2 or per_class <= 1:
        return
    threshold = collapse_threshold(classes, per_class, config.temperature)
    if config.alpha <= threshold:
        warnings.warn(
            f"alpha={config.alpha:g} lets the images of a class fall on one point: with {classes} classes of "
            f"{per_class:.3g} images a batch and temperature={config.temperature:g} they stay apart above "
            f"alpha={threshold:.3g} (arXiv 2503.08203); raise alpha, or lower the temperature",
            stacklevel=3,
        )


@torch.no_grad()
def within_class_share(z: Tensor, labels: Tensor) -> float:
    """Share of the variance of unit rows that lies within classes: 0 where every class is a point.

    Args:
        z: (B, d) projections, of any length.
        labels: (B,) classes; rows of -1 are left out.

    Returns:
        A number in [0, 1]; nan where fewer than two rows are labelled, or where all are one point.
    """
    known = labels >= 0
    u, (groups, place) = F.normalize(z[known].float(), dim=1), torch.unique(labels[known], return_inverse=True)
    if len(u) < 2:
        return float("nan")
    sizes = torch.bincount(place, minlength=len(groups))[:, None]
    means = u.new_zeros(len(groups), u.shape[1]).index_add(0, place, u) / sizes
    within, total = (u - means[place]).square().sum(), (u - u.mean(dim=0)).square().sum()
    return float(within / total)
