"""Treated NT-Xent with the call of pytorch-metric-learning, for its trainers and wrappers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from pairsift.integrations.hooks import FeatureHook
from pairsift.losses.labelled import LabelledNTXentLoss
from pairsift.losses.treated import Options
from pairsift.pairs import Selector
from pairsift.treatments import Treatment

if TYPE_CHECKING:
    _Base = nn.Module
else:
    try:  # the library's DistributedLossWrapper accepts only this base class
        from pytorch_metric_learning.losses import BaseMetricLossFunction as _Base
    except ImportError:
        _Base = nn.Module


class NTXentLoss(_Base):
    """`loss(embeddings, labels)` or `loss(embeddings, labels, ref_emb=..., ref_labels=...)`, with treated pairs.

    Untreated it equals pytorch-metric-learning's NTXentLoss. It works in SelfSupervisedLoss, CrossBatchMemory,
    MultipleLosses and DistributedLossWrapper. `indices_tuple` of a wrapper or miner sets the pairs that count, and
    triplets count as pairs; the selector says which of them are treated.

    Args:
        temperature: tau, > 0.
        selector, treatment, **options: see `TreatedLoss`. `gather_distributed` is False by default, because the
            library's own wrapper gathers.
        hook: fetches the features h of the embeddings, and then of ref_emb, from the model. Without it and without
            `features`, pairs are selected on the embeddings, with a warning.

    Raises:
        ValueError: a setting out of range, or a treatment without a selector.
    """

    def __init__(
        self, temperature: float = 0.07, selector: Selector | None = None, treatment: Treatment | None = None,
        hook: FeatureHook | None = None, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__()
        known = ("reducer", "distance", "embedding_regularizer", "embedding_reg_weight")
        if given := [name for name in known if name in options]:
            raise TypeError(
                f"NTXentLoss has no {given[0]!r}: it compares by cosine and gives the mean over positive pairs"
            )
        # Labels may count the rows of one process only; the library's wrapper passes the others as references.
        options.setdefault("gather_distributed", False)
        self.loss = LabelledNTXentLoss(temperature, selector, treatment, **options)
        self.hook = hook

    def forward(
        self, embeddings: Tensor, labels: Tensor | None = None, indices_tuple: Any = None,
        ref_emb: Tensor | None = None, ref_labels: Tensor | None = None, *,
        features: Tensor | None = None, ref_features: Tensor | None = None,
        rows: Tensor | None = None, ref_rows: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Mean loss over all positive pairs.

        Args:
            embeddings: (B, d) projections.
            labels: (B,) rows of one label belong together, and -1 is no label. None pairs row i with row i of ref_emb,
                unless indices_tuple names the pairs.
            indices_tuple: (anchors, positives, anchors, negatives), positions of rows and of reference rows: the pairs
                that count, a repeated one several times; or triplets (anchors, positives, negatives). None takes all
                pairs.
            ref_emb, ref_labels: (K, d) and (K,) reference rows; None compares the embeddings among themselves.
            features, ref_features: (B, D) and (K, D) encoder features, used instead of the hook's.
            rows, ref_rows: (B,) and (K,) ids of the examples, for selectors that need them.

        Returns:
            Scalar.

        Raises:
            ValueError: an indices_tuple of another form, shapes that do not fit, or no labels without ref_emb.
        """
        # The library leaves out a row's pair with itself where rows are their own references.
        if ref_emb is embeddings and ref_labels is labels:
            ref_emb = ref_labels = None
        if labels is None and indices_tuple is not None:
            labels = torch.zeros(len(embeddings), dtype=torch.int64, device=embeddings.device)
            ref_labels = None if ref_emb is None else labels.new_zeros(len(ref_emb))
        if labels is None:
            if ref_emb is None or len(ref_emb) != len(embeddings):
                raise ValueError("labels are needed, unless ref_emb has a row for each of the embeddings")
            labels = ref_labels = torch.arange(len(embeddings), device=embeddings.device)
        if self.hook is not None and features is None:
            views = [embeddings] if ref_emb is None else [embeddings, ref_emb]
            features, *others = self.hook.features(*views)
            ref_features = others[0] if others else None
        named = None
        if indices_tuple is not None:
            shape = len(embeddings), len(embeddings if ref_emb is None else ref_emb)
            named = _named_pairs(indices_tuple, shape, embeddings.device)
        value: Tensor = self.loss(
            embeddings, labels, features, ref_z=ref_emb, ref_labels=ref_labels, ref_h=ref_features,
            rows=rows, key_rows=ref_rows, named=named,
        )  # fmt: skip
        return value


def _named_pairs(indices: Sequence[Tensor], shape: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Two (B, K) matrices, how often an `indices_tuple` names each pair as a positive and as a negative."""
    if len(indices) == 3:
        indices = (indices[0], indices[1], indices[0], indices[2])
    if len(indices) != 4:
        raise ValueError(
            f"indices_tuple has {len(indices)} tensors: NT-Xent takes pairs (anchors, positives, anchors, negatives) "
            "or triplets (anchors, positives, negatives), as miners give them"
        )
    counts = torch.zeros(2, *shape, dtype=torch.int32, device=device)
    for each, anchors, others in zip(counts, indices[::2], indices[1::2], strict=True):
        named = anchors.to(device), others.to(device)
        each.index_put_(named, each.new_ones(()), accumulate=True)
    return (counts[0], counts[1]) if int(counts.max()) > 1 else (counts[0] > 0, counts[1] > 0)
