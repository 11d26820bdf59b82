"""solo-learn's function form of the SimCLR loss, with treated pairs."""

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
    """Call it in place of `solo.losses.simclr.simclr_loss_func`; all views of an image share an index.

    Args:
        z: (B, d) projections of all views.
        indexes: (B,) the image that each view is of.
        temperature: tau, > 0.
        h: (B, D) encoder features of the same views (`torch.cat(out["feats"])`), on which pairs are selected.
        rows: (B,) ids of the examples that the views are of, for selectors that go by them; None takes `indexes`.
        selector: which pairs are difficult, a `RankBand` or any selector; None selects nothing.
        treatment: what happens to them; None treats nothing.
        **options: `select`, `seed`, `engine`, `tile`, `precision`, `gather_distributed`; see `losses.treated.Options`.

    Returns:
        Scalar.

    Raises:
        ValueError: a setting out of range, shapes that do not fit, or a treatment without a selector.
    """
    loss = LabelledNTXentLoss(temperature, selector, treatment, positives="summed", **options)
    value: Tensor = loss(z, indexes, h, rows=indexes if rows is None else rows)
    return value
