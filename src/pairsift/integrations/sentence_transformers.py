"""Treated losses for sentence-transformers' trainer: (anchor, positive) columns, hard or semantic negatives if any."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from pairsift.losses import SemanticNegativeLoss, TwoTowerLoss
from pairsift.losses.treated import Options
from pairsift.pairs import Selector
from pairsift.treatments import Treatment

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class TreatedRankingLoss(nn.Module):
    """MultipleNegativesRankingLoss with treated difficult pairs: `SentenceTransformerTrainer(..., loss=loss)`.

    Rows of the first column are anchors, those of the second their positives; all other texts of the batch, further
    columns included, are negatives. Pairs are ranked on the sentence embeddings, which are the features here: there is
    no projector that would be thrown away.

    Args:
        model: the model that is trained.
        temperature: tau, > 0; 0.05 is a scale of 20.
        band: which pairs are difficult, a `RankBand` or any selector; None selects nothing.
        treatment: what happens to them; None treats nothing.
        symmetric: also take positives as anchors.
        **options: `select`, `seed`, `engine`, `tile`, `precision`, `gather`; see `losses.treated.Options`.

    Raises:
        ValueError: a setting out of range, or a treatment without a band to apply it to.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        temperature: float = 0.05,
        band: Selector | None = None,
        treatment: Treatment | None = None,
        symmetric: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__()
        self.model = model
        self.loss = TwoTowerLoss(temperature, band=band, treatment=treatment, symmetric=symmetric, **options)

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """Loss of a batch, one dictionary of tokens a column.

        Raises:
            ValueError: fewer than two columns.
        """
        embeddings = [self.model(tokens)["sentence_embedding"] for tokens in sentence_features]
        if len(embeddings) < 2:
            raise ValueError(f"the data must have columns for anchors and positives, got {len(embeddings)} column")
        anchors, keys = embeddings[0], torch.cat(embeddings[1:])
        value: Tensor = self.loss(anchors, keys, anchors.detach(), keys.detach())
        return value

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        loss = self.loss
        return {
            "temperature": float(torch.as_tensor(loss.temperature)), "band": str(loss.band),
            "treatment": str(loss.treatment), "symmetric": loss.symmetric, "select": loss.selection,
        }  # fmt: skip


class SemanticRankingLoss(nn.Module):
    """`SemanticNegativeLoss` on the columns (anchor, synonym, antonym): `SentenceTransformerTrainer(..., loss=loss)`.

    Args:
        model: the model that is trained.
        loss: of the embeddings; None takes `SemanticNegativeLoss()`.
    """

    def __init__(self, model: SentenceTransformer, loss: SemanticNegativeLoss | None = None) -> None:
        super().__init__()
        self.model = model
        self.loss = SemanticNegativeLoss() if loss is None else loss

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """Loss of a batch, one dictionary of tokens a column.

        Raises:
            ValueError: other than three columns.
        """
        embeddings = [self.model(tokens)["sentence_embedding"] for tokens in sentence_features]
        if len(embeddings) != 3:
            raise ValueError(f"the data must have columns anchor, synonym and antonym, got {len(embeddings)} columns")
        value: Tensor = self.loss(*embeddings)
        return value

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        return {"loss": repr(self.loss)}
