"""solo-learn's SimCLR loss function, with treated pairs."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import Unpack

from pairsift.losses.labelled import LabelledNTXentLoss
from pairsift.losses.treated import Options
from pairsift.pairs import Selector
from pairsift.treatments import Treatment


def simclr_loss_func(
    z: Tensor, indexes: Tensor, temperature: float = 0.1, *,
    h: Tensor | None = None, rows: Tensor | None = None, selector: Selector | None = None,
    treatment: Treatment | None = None, **options: Unpack[Options],
) -> Tensor:  # fmt: skip
    """Replaces `solo.losses.simclr.simclr_loss_func`.

    Args:
        z: (B, d) projections of all views.
        indexes: (B,) image of each view.
        temperature: tau, > 0.
        h: (B, D) encoder features of the same views (`torch.cat(out["feats"])`), on which pairs are selected.
        rows: (B,) ids of the views' examples, for selectors that need them; None takes `indexes`.
        selector, treatment, **options: see `TreatedLoss`.

    Returns:
        Scalar.

    Raises:
        ValueError: a setting out of range, shapes that do not fit, or a treatment without a selector.
    """
    loss = LabelledNTXentLoss(temperature, selector, treatment, positives="summed", **options)
    value: Tensor = loss(z, indexes, h, rows=indexes if rows is None else rows)
    return value
