"""Treated losses for sentence-transformers' trainer: (anchor, positive) columns, hard or semantic negatives if any."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from typing_extensions import Unpack

from pairsift.integrations.grad_cache import CachedEmbeddings
from pairsift.integrations.token_rows import TokenRows
from pairsift.losses import SemanticNegativeLoss, TwoTowerLoss
from pairsift.losses.treated import Options
from pairsift.pairs import GuideMask, Selector
from pairsift.treatments import Treatment

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class TreatedRankingLoss(nn.Module):
    """MultipleNegativesRankingLoss with treated difficult pairs: `SentenceTransformerTrainer(..., loss=loss)`.

    Rows of the first column are anchors, those of the second their positives; all other texts of the batch, further
    columns included, are negatives. Pairs are ranked on the sentence embeddings, which are the features here: there is
    no projector that would be thrown away. A `GuideMask` brings features of its own: a batch's examples are looked up
    by their tokens, all columns of a row together, so fit it to the columns that are trained on
    (`GuideMask.from_texts(model, anchors, positives)`).

    Args:
        model: the model that is trained.
        temperature: tau, > 0; 0.05 is a scale of 20.
        band: which pairs are difficult, a `RankBand`, a `GuideMask` or any selector; None selects nothing.
        treatment: what happens to them; None treats nothing.
        symmetric: also take positives as anchors.
        mini_batch_size: texts embedded at once, > 0, each twice, with the gradients of the whole batch (GradCache,
            arXiv 2101.06983); None embeds the batch at once.
        **options: `select`, `seed`, `engine`, `tile`, `precision`, `gather`; see `losses.treated.Options`.

    Raises:
        ValueError: a setting out of range, a treatment without a band to apply it to, or a guide mask without texts.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        temperature: float = 0.05,
        band: Selector | None = None,
        treatment: Treatment | None = None,
        symmetric: bool = False,
        mini_batch_size: int | None = None,
        **options: Unpack[Options],
    ) -> None:
        super().__init__()
        if mini_batch_size is not None and (isinstance(mini_batch_size, bool) or mini_batch_size < 1):
            raise ValueError(f"mini_batch_size must be None or at least 1, got {mini_batch_size!r}")
        self.model = model
        self.mini_batch_size = mini_batch_size
        self.loss = TwoTowerLoss(temperature, band=band, treatment=treatment, symmetric=symmetric, **options)
        self.mask = band if isinstance(band, GuideMask) else None
        self.rows: TokenRows | None = None
        if self.mask is not None:
            if self.mask.table.texts is None:
                raise ValueError(
                    "a batch's examples are found by their texts, and the guide mask has none: fit it with texts=, or "
                    "make it by GuideMask.from_texts(model, anchors, positives)"
                )
            self.rows = TokenRows(model.preprocess, self.mask.table.texts)

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor | None = None) -> Tensor:
        """Loss of a batch, one dictionary of tokens a column.

        Raises:
            ValueError: fewer than two columns.
        """
        columns = list(sentence_features)
        if len(columns) < 2:
            raise ValueError(f"the data must have columns for anchors and positives, got {len(columns)} column")
        if self.mini_batch_size is None or not torch.is_grad_enabled():
            return self._value([self._embed(tokens) for tokens in columns], columns)
        cached = CachedEmbeddings(self._embed, columns, self.mini_batch_size)
        return cached.loss(self._value(cached.columns, columns))

    def _embed(self, tokens: dict[str, Tensor]) -> Tensor:
        embedded: Tensor = self.model(dict(tokens))["sentence_embedding"]
        return embedded

    def _value(self, embeddings: list[Tensor], columns: list[dict[str, Tensor]]) -> Tensor:
        """Loss of (B, D) embeddings of each column."""
        anchors, keys = embeddings[0], torch.cat(embeddings[1:])
        rows = None
        if self.mask is not None and self.rows is not None:
            rows, ids = self.rows.of(columns), self.mask.table.index.ids
            rows = rows if ids is None else ids[rows]
        value: Tensor = self.loss(anchors, keys, anchors.detach(), keys.detach(), rows=rows)
        return value

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        loss = self.loss
        return {
            "temperature": float(torch.as_tensor(loss.temperature)), "band": str(loss.band),
            "treatment": str(loss.treatment), "symmetric": loss.symmetric, "select": loss.selection,
            "mini_batch_size": self.mini_batch_size,
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
