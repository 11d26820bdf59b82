"""The three-part training of CLINE (arXiv 2107.00440) for `transformers.Trainer`: batches, token head, objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DataCollatorForLanguageModeling, PreTrainedModel, PreTrainedTokenizerBase

from pairsift.text.semantic import View, ViewMaker

# The label of tokens that do not count, as in PyTorch's cross-entropy.
IGNORED = -100


class ReplacedTokenHead(nn.Module):
    """Predicts for each token whether it was replaced, by a linear layer.

    Args:
        width: dimensions of the hidden states.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def loss(self, states: Tensor, labels: Tensor) -> Tensor:
        """The mean binary cross-entropy over tokens of (B, T, width) states with (B, T) labels; 0 where none counts."""
        asked = labels != IGNORED
        logits = self.linear(states).squeeze(-1)[asked].float()
        total = F.binary_cross_entropy_with_logits(logits, labels[asked].float(), reduction="sum")
        return total / asked.sum().clamp_min(1)


class ThreePartModel(nn.Module):
    """Computes `L = l1 MLM + l2 RTD + l3 CTS` of a batch of a `SemanticCollator`, with means over tokens as embeddings.

    One pass masks and contrasts the texts, and another one encodes their versions. The trainer needs
    `remove_unused_columns=False` and `save_strategy="no"`.

    Args:
        backbone: a model with a masked-language head, `AutoModelForMaskedLM.from_pretrained(...)`.
        contrast: the loss of embeddings (N, D) of texts, synonym versions and antonym versions, and `present` (N,).
        weights: l1, l2, l3, each >= 0. A part with weight 0 is not computed.
    """

    def __init__(self, backbone: PreTrainedModel, contrast: nn.Module, weights: tuple[float, float, float]) -> None:
        super().__init__()
        self.backbone, self.contrast, self.weights = backbone, contrast, weights
        self.head = ReplacedTokenHead(backbone.config.hidden_size)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, mlm_labels: Tensor, replaced_labels: Tensor, present: Tensor,
        token_type_ids: Tensor | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Compute the losses of N texts and their versions.

        Args:
            input_ids, attention_mask, token_type_ids: (3N, T) tokens of the texts, then of their synonym versions, then
                of their antonym versions.
            mlm_labels: (N, T) the original tokens at the masks, -100 elsewhere.
            replaced_labels: (2N, T) 1 for replaced tokens of the versions, -100 for tokens that do not count.
            present: (N,) bool, texts that have an antonym version.

        Returns:
            "loss", and the parts that were computed: "mlm", "rtd", "cts".
        """
        n, (mlm, rtd, cts) = len(present), self.weights
        tokens = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            tokens["token_type_ids"] = token_type_ids
        parts: dict[str, Tensor] = {}
        if mlm:
            originals = {name: each[:n] for name, each in tokens.items()}
            output = self.backbone(**originals, labels=mlm_labels, output_hidden_states=True)
            # The mean over no masked token is not a number.
            parts["mlm"] = output.loss if bool((mlm_labels != IGNORED).any()) else output.logits.sum() * 0.0
            versions = {name: each[n:] for name, each in tokens.items()}
            hidden = torch.cat([output.hidden_states[-1], self.backbone.base_model(**versions).last_hidden_state])
        else:
            hidden = self.backbone.base_model(**tokens).last_hidden_state
        if rtd:
            parts["rtd"] = self.head.loss(hidden[n:], replaced_labels)
        if cts:
            mask = attention_mask[:, :, None].to(hidden.dtype)
            pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1)
            parts["cts"] = self.contrast(pooled[:n], pooled[n : 2 * n], pooled[2 * n :], present=present)
        named = zip(("mlm", "rtd", "cts"), self.weights, strict=True)
        loss = torch.stack([weight * parts[name] for name, weight in named if weight]).sum()
        return {"loss": loss, **{name: each.detach() for name, each in parts.items()}}


class SemanticCollator:
    """Makes the batches of a `ThreePartModel` from texts, with the same versions of a text each time.

    A text without a synonym version is its own synonym version, and dropout tells the two apart.

    Args:
        tokenizer: a fast tokenizer, because it gives the places of its tokens in the text.
        masked: share of a text's tokens that are masked for MLM, in [0, 1).
        max_length: largest number of tokens of a text.
        **views: arguments of `semantic_views`. The seed is also that of the masks.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, masked: float = 0.15, max_length: int = 128, **views: Any
    ) -> None:
        self.tokenizer, self.max_length, self.maker = tokenizer, max_length, ViewMaker(**views)
        self._masks = None
        if masked:  # the library refuses a share of 0
            self._masks = DataCollatorForLanguageModeling(tokenizer, mlm_probability=masked, seed=self.maker.seed)

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """The batch of N texts; see `ThreePartModel.forward`."""
        n, views = len(texts), [self.maker.views(text) for text in texts]
        versions = [*(each.synonym for each in views), *(each.antonym for each in views)]
        filled = [
            View(text, (), ()) if each is None else each for text, each in zip([*texts] * 2, versions, strict=True)
        ]
        batch = self.tokenizer(
            [*texts, *(each.text for each in filled)], padding=True, truncation=True, max_length=self.max_length,
            return_offsets_mapping=True, return_special_tokens_mask=True, return_tensors="pt",
        )  # fmt: skip
        places, special = batch.pop("offset_mapping").numpy(), batch.pop("special_tokens_mask").bool()
        present = torch.tensor([each is not None for each in versions[n:]])
        replaced = torch.full_like(batch["input_ids"][n:], IGNORED)
        for at, view in enumerate(filled):
            if at < n or present[at - n]:
                flags = torch.from_numpy(_overlaps(view, places[n + at])).long()
                replaced[at] = flags.where(~special[n + at], IGNORED)
        labels = torch.full_like(batch["input_ids"][:n], IGNORED)
        if self._masks is not None:
            masked, labels = self._masks.torch_mask_tokens(batch["input_ids"][:n].clone(), special[:n].clone())
            batch["input_ids"][:n] = masked
        return {**batch, "mlm_labels": labels, "replaced_labels": replaced, "present": present}


def _overlaps(view: View, places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(T,) whether a token at (start, stop) holds a replaced character."""
    marks = np.zeros(len(view.text) + 1, dtype=np.int64)
    for change in view.changes:
        marks[change.start + 1 : change.stop + 1] = 1
    before = marks.cumsum()
    held: np.ndarray[Any, Any] = before[places[:, 1]] > before[places[:, 0]]
    return held
