"""Treated losses for sentence-transformers' trainer, on columns of anchors, positives and hard negatives."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from typing_extensions import Unpack

from pairsift.integrations.grad_cache import CachedEmbeddings
from pairsift.losses import SemanticNegativeLoss, TwoTowerLoss
from pairsift.losses.treated import Options
from pairsift.pairs import GuideMask, Selector, SelfMask, WrappedSelector
from pairsift.pairs.guide_table import GuideTable
from pairsift.treatments import Treatment

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Ids of one process's examples end below the first of the next process.
_MOST_IDS = 2**40
# Texts tokenised at once, which are padded to the longest of them.
_AT_ONCE = 1024


class TreatedRankingLoss(nn.Module):
    """MultipleNegativesRankingLoss with treated difficult pairs: `SentenceTransformerTrainer(..., loss=loss)`.

    The first column holds anchors and the second their positives. All other texts of the batch, further columns
    included, are negatives. Pairs are ranked on the sentence embeddings, which are the features here: there is
    no projector that would be thrown away.

    A `GuideMask` brings features of its own. A batch's examples are found by their tokens, all columns of a row
    together, so fit it to the columns that are trained on: by `GuideMask.from_inspection(folder)` after an audit, or by
    `GuideMask.from_texts(model, anchors, positives)`. A `SelfMask` needs no fit. Evaluation data may hold other
    examples: a batch with unknown ones is masked by identity of tokens alone. Evaluation is never counted in the mask's
    report.

    MatryoshkaLoss, AdaptiveLayerLoss, Matryoshka2dLoss and SpladeLoss take it as their loss. Over `mini_batch_size`
    only MatryoshkaLoss does, and a guide mask works under all but SpladeLoss.

    Args:
        model: the model that is trained, a `SentenceTransformer` or a `SparseEncoder`. Embeddings are compared by
            cosine.
        temperature: tau, > 0; 0.05 is a scale of 20.
        selector: which pairs are difficult, a `RankBand`, a `GuideMask` or any selector; None selects nothing.
        treatment: of these pairs; None takes the selector's default, which treats nothing except for masks.
        symmetric: also take positives as anchors.
        mini_batch_size: texts embedded at once, > 0, each twice, with the gradients of the whole batch (GradCache,
            arXiv 2101.06983); None embeds the batch at once.
        **options: `select`, `seed`, `engine`, `tile`, `precision`, `gather_distributed`; see `losses.treated.Options`.

    Attributes:
        uses_gradient_cache: tells sentence-transformers that the backward pass embeds a batch again.

    Raises:
        TypeError: a `MultiVectorEncoder`, which has no embedding of a whole text.
        ValueError: a setting out of range, a treatment without a selector, or a guide mask without texts.
    """

    def __init__(
        self, model: SentenceTransformer, temperature: float = 0.05, selector: Selector | None = None,
        treatment: Treatment | None = None, symmetric: bool = False, mini_batch_size: int | None = None,
        **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__()
        if mini_batch_size is not None and (isinstance(mini_batch_size, bool) or mini_batch_size < 1):
            raise ValueError(f"mini_batch_size must be None or at least 1, got {mini_batch_size!r}")
        if any(each.__name__ == "MultiVectorEncoder" for each in type(model).__mro__):
            raise TypeError(
                "a MultiVectorEncoder gives an embedding for each token, and this loss compares one for each text: "
                "train it by MultiVectorMultipleNegativesRankingLoss, with DistinctBatchSampler as batch_sampler, "
                "which keeps likely false negatives apart"
            )
        self.model = model
        self.mini_batch_size = mini_batch_size
        self.uses_gradient_cache = mini_batch_size is not None
        self.loss = TwoTowerLoss(temperature, selector=selector, treatment=treatment, symmetric=symmetric, **options)
        inner = _innermost(self.loss.selector)
        self.mask = inner if isinstance(inner, GuideMask) else None
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
            ValueError: fewer than two columns, examples in training that the guide mask was not fitted to, or
                `mini_batch_size` under a loss that cannot be run over it.
        """
        columns = list(sentence_features)
        if len(columns) < 2:
            raise ValueError(f"the data must have columns for anchors and positives, got {len(columns)} column")
        ids = self._ids(columns)  # before the model, which may write into the tokens
        if self.mini_batch_size is None:
            # The tokens themselves, not a copy: AdaptiveLayerLoss hands embeddings from call to call in them.
            return self._value([self._embed(tokens) for tokens in columns], *ids)
        self._check_cached()
        if not torch.is_grad_enabled():
            return self.calculate_loss([[self._embed(dict(tokens))] for tokens in columns], *ids)
        cached = CachedEmbeddings(lambda part: self._embed(dict(part)), columns, self.mini_batch_size)
        value = self.calculate_loss([[column] for column in cached.columns], *ids)
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in cached.columns]
        return cached.loss(value, gradients)

    def calculate_loss(
        self, reps: Sequence[Sequence[Tensor]], rows: Tensor | None = None, selector: Selector | None = None
    ) -> Tensor:
        """Loss of embeddings, whose gradients are in their `grad` afterwards; MatryoshkaLoss calls it once a dimension.

        Args:
            reps: of each column, its embeddings in parts of (b, D).
            rows, selector: ids of the examples, and a selector that replaces the loss's own.

        Returns:
            Scalar without a graph.
        """
        value = self._value([torch.cat(list(parts)) for parts in reps], rows, selector)
        if torch.is_grad_enabled():
            value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """Loss of (B, D) embeddings of each column, as SpladeLoss calls it.

        Raises:
            ValueError: a guide mask, which finds examples by their tokens, or `mini_batch_size`.
        """
        if self.mask is not None:
            raise ValueError(
                "a guide mask finds examples by their tokens, and SpladeLoss hands over embeddings alone: leave the "
                "mask out, and let DistinctBatchSampler keep false negatives apart"
            )
        if self.mini_batch_size is not None:
            raise ValueError("SpladeLoss embeds whole batches: leave mini_batch_size out")
        return self._value(list(embeddings), self._numbers(len(embeddings[0])))

    def _embed(self, tokens: dict[str, Tensor]) -> Tensor:
        embedded: Tensor = self.model(tokens)["sentence_embedding"]
        return embedded

    def _ids(self, columns: list[dict[str, Tensor]]) -> tuple[Tensor | None, Selector | None]:
        """Ids of a batch's examples, and in evaluation the mask that replaces the mask of training."""
        mask = self.mask
        if mask is None or self.rows is None:
            return self._numbers(len(next(iter(columns[0].values())))), None
        if torch.is_grad_enabled() or self.rows.knows(columns):
            rows, ids = self.rows.of(columns), mask.table.index.ids
            rows = rows if ids is None else ids[rows]
            table, off = mask.table, mask.off_because
        else:
            keys = [token_keys(tokens).numpy() for tokens in columns]
            rows = torch.arange(len(keys[0]))
            # These texts are new, so they have no guide features. Only identical ones are masked.
            table, off = (
                GuideTable([torch.ones(len(rows), 1, dtype=torch.float32)] * len(keys), keys),
                "the examples are unknown",
            )
        if torch.is_grad_enabled():
            return rows, None
        return rows, _around(
            self.loss.selector, GuideMask(table, mask.margin, mask.cap, mask.difficult, off, mask.floor)
        )

    def _numbers(self, batch: int) -> Tensor | None:
        """(batch,) ids that tell the examples of a batch apart, of all processes together, for a `SelfMask`."""
        if not isinstance(_innermost(self.loss.selector), SelfMask):
            return None
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        return torch.arange(batch) + rank * _MOST_IDS

    def _check_cached(self) -> None:
        """Refuse losses around this one that embed differently, since the backward pass could not.

        Raises:
            ValueError: there is one.
        """
        model = getattr(self.model, "module", self.model)
        if hasattr(model.forward, "set_dim") or hasattr(model[0].forward, "layer_idx"):
            raise ValueError(
                "under mini_batch_size the backward pass embeds a batch again, which AdaptiveLayerLoss and "
                "Matryoshka2dLoss do not allow, and MatryoshkaLoss from sentence-transformers 6 on: leave "
                "mini_batch_size out"
            )

    def _value(self, embeddings: list[Tensor], rows: Tensor | None = None, selector: Selector | None = None) -> Tensor:
        """Loss of (B, D) embeddings of each column."""
        anchors, keys = embeddings[0], torch.cat(embeddings[1:])
        value: Tensor = self.loss(anchors, keys, anchors.detach(), keys.detach(), rows=rows, selector=selector)
        return value

    def get_config_dict(self) -> dict[str, Any]:
        """Settings for the model card."""
        loss = self.loss
        return {
            "temperature": float(torch.as_tensor(loss.temperature)), "selector": str(loss.selector),
            "treatment": str(loss.treatment), "symmetric": loss.symmetric, "select": loss.selection,
            "mini_batch_size": self.mini_batch_size,
        }  # fmt: skip


def _innermost(selector: Selector | None) -> Selector | None:
    """The selector inside of wrappers, such as `RandomPairs`."""
    while isinstance(selector, WrappedSelector):
        selector = selector.selector
    return selector


def _around(selector: Selector | None, inner: Selector) -> Selector:
    """A copy of the wrappers of a selector around another one."""
    if not isinstance(selector, WrappedSelector):
        return inner
    wrapper = copy.copy(selector)
    wrapper.selector = _around(selector.selector, inner)
    return wrapper


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


class TokenRows:
    """Finds the positions of examples by the tokens of their texts.

    Args:
        preprocess: texts to a dictionary of tokens, as the model in training makes them.
        columns: N texts of each column.

    Raises:
        ValueError: a tokeniser that gives no `input_ids`.
    """

    def __init__(self, preprocess: Callable[[list[str]], dict[str, Any]], columns: Sequence[Sequence[str]]) -> None:
        self._rows: dict[bytes, int] = {}
        self._columns = len(columns)
        for start in range(0, len(columns[0]), _AT_ONCE):
            tokens = [preprocess(list(column[start : start + _AT_ONCE])) for column in columns]
            for row, key in enumerate(_examples(tokens), start):
                self._rows.setdefault(key, row)

    def of(self, columns: Sequence[dict[str, Any]]) -> Tensor:
        """(B,) positions of a batch's examples.

        Raises:
            ValueError: another number of columns than the examples have, or texts that none of them has.
        """
        if len(columns) != self._columns:
            raise ValueError(f"the guide mask was fitted to {self._columns} columns, and the batch has {len(columns)}")
        keys = _examples(columns)
        missing = sum(key not in self._rows for key in keys)
        if missing:
            raise ValueError(
                f"{missing} of {len(keys)} examples of the batch are not among those of the guide mask: fit it to "
                "the columns that are trained on, in their order, with the prompts that the trainer puts before them"
            )
        return torch.tensor([self._rows[key] for key in keys])

    def knows(self, columns: Sequence[dict[str, Any]]) -> bool:
        """Whether `of` finds every example of a batch."""
        return len(columns) == self._columns and all(key in self._rows for key in _examples(columns))


def token_keys(tokens: dict[str, Any]) -> Tensor:
    """(B,) int64 in [0, 2^53), equal where the tokens of texts are.

    Raises:
        ValueError: tokens without `input_ids` or `attention_mask`.
    """
    return torch.tensor([int.from_bytes(each[:8], "big") >> 11 for each in _hashes(tokens)])


def _examples(columns: Sequence[dict[str, Any]]) -> list[bytes]:
    """One key an example, of all its texts."""
    hashed = [_hashes(tokens) for tokens in columns]
    return [b"".join(parts) for parts in zip(*hashed, strict=True)]


def _hashes(tokens: dict[str, Any]) -> list[bytes]:
    if "input_ids" not in tokens or "attention_mask" not in tokens:
        raise ValueError(
            f"texts are found by input_ids and attention_mask, and the tokens hold {sorted(tokens)}: pad batches "
            "(no flattened inputs), and use a transformer"
        )
    ids, lengths = tokens["input_ids"].cpu(), tokens["attention_mask"].cpu().bool()
    return [
        hashlib.blake2b(row[real].to(torch.int32).numpy().tobytes(), digest_size=10).digest()
        for row, real in zip(ids, lengths, strict=True)
    ]
