"""Models that learn from semantic negatives: their batches, token head and objective (arXiv 2107.00440)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pairsift.losses import SemanticNegativeLoss
from pairsift.text.semantic import View, ViewMaker

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Pooling = Literal["cls", "mean"]
# What labels say where nothing is asked, as in PyTorch's cross-entropy.
IGNORED = -100


class ReplacedTokenHead(nn.Module):
    """Predicts for each token whether it was replaced, by a linear layer (arXiv 2107.00440).

    Args:
        width: of the hidden states.
        classes: 2 for replaced or not, by a sigmoid and binary cross-entropy, as printed; 3 for original, replaced in a
            synonym version, replaced in an antonym version, by cross-entropy, as in the authors' code.

    Raises:
        ValueError: other classes.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> head, states = ps.text.ReplacedTokenHead(16), torch.randn(2, 5, 16)
        >>> labels = torch.tensor([[0, 1, 0, 0, -100], [0, 0, 0, 1, 1]])
        >>> head(states).shape, head.loss(states, labels).shape
        (torch.Size([2, 5]), torch.Size([]))
    """

    def __init__(self, width: int, classes: int = 2) -> None:
        super().__init__()
        if classes not in (2, 3):
            raise ValueError(
                f"classes must be 2 (replaced or not) or 3 (original, synonym, antonym version), got {classes}"
            )
        self.classes = classes
        self.linear = nn.Linear(width, 1 if classes == 2 else 3)

    def forward(self, states: Tensor) -> Tensor:
        """Logits of hidden states (B, T, width): (B, T), or (B, T, 3) with three classes."""
        logits: Tensor = self.linear(states)
        return logits.squeeze(-1) if self.classes == 2 else logits

    def loss(self, states: Tensor, labels: Tensor) -> Tensor:
        """Mean loss over tokens.

        Args:
            states: (B, T, width).
            labels: (B, T) from 0 to `classes` - 1; -100 where a token does not count.

        Returns:
            Scalar; 0 where no token counts.
        """
        asked = labels != IGNORED
        logits, wanted = self(states)[asked].float(), labels[asked]
        if self.classes == 2:
            total = F.binary_cross_entropy_with_logits(logits, wanted.float(), reduction="sum")
        else:
            total = F.cross_entropy(logits, wanted, reduction="sum")
        return total / asked.sum().clamp_min(1)


class LearnedWeights(nn.Module):
    """Weighs several losses as the authors' code does: `sum_i e^{-s_i} L_i + max(s_i, 0)`, with s learned from 0.

    At the best s a loss L counts as L up to 1 and as 1 + log L above. Large losses are damped, and none is raised.

    Args:
        losses: number of losses.
    """

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.log_scales = nn.Parameter(torch.zeros(losses))

    def forward(self, losses: Sequence[Tensor]) -> Tensor:
        """The weighted sum, a scalar, of (losses,) scalars."""
        values = torch.stack(list(losses))
        return ((-self.log_scales).exp() * values + self.log_scales.clamp_min(0)).sum()


class ThreePartModel(nn.Module):
    """Computes `L = l1 MLM + l2 RTD + l3 CTS` of a batch of a `SemanticCollator`; train it by `transformers.Trainer`.

    One pass masks and contrasts the texts, another takes their versions. The trainer needs
    `remove_unused_columns=False`. Training changes `backbone`; save it by `model.backbone.base_model`.

    Args:
        backbone: a model with a masked-language head, `AutoModelForMaskedLM.from_pretrained(...)`.
        contrast: the loss of texts and their versions; None takes `SemanticNegativeLoss()`.
        weights: l1, l2, l3, each >= 0; a part with weight 0 is not computed. None learns them (`LearnedWeights`).
        pooling: "cls" takes the first token of a text, "mean" the mean over its tokens.
        classes: of the `ReplacedTokenHead`.

    Raises:
        ValueError: weights that are not three numbers >= 0, an unknown pooling, or other classes.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        contrast: SemanticNegativeLoss | None = None,
        weights: Sequence[float] | None = (1.0, 1.0, 1.0),
        pooling: Pooling = "cls",
        classes: int = 2,
    ) -> None:
        super().__init__()
        if weights is not None and (len(weights) != 3 or min(weights) < 0 or not any(weights)):
            raise ValueError(f"weights must be three numbers >= 0, not all 0, or None to learn them, got {weights}")
        if pooling not in get_args(Pooling):
            raise ValueError(f"pooling must be 'cls' or 'mean', got {pooling!r}")
        self.backbone = backbone
        self.contrast = SemanticNegativeLoss() if contrast is None else contrast
        self.head = ReplacedTokenHead(backbone.config.hidden_size, classes)
        self.weights = None if weights is None else tuple(weights)
        self.learned = LearnedWeights(3) if weights is None else None
        self.pooling = pooling
        self.register_load_state_dict_post_hook(_forget_tied)  # type: ignore[no-untyped-call]

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The module's state with each tied weight under one name, as the trainer's checkpoints need it."""
        state = super().state_dict(*args, **kwargs)
        for name in _tied(state):
            del state[name]
        return state

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, mlm_labels: Tensor, replaced_labels: Tensor, present: Tensor,
        token_type_ids: Tensor | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Losses of N texts and their versions.

        Args:
            input_ids, attention_mask, token_type_ids: (3N, T) tokens of the texts, then of their synonym versions, then
                of their antonym versions.
            mlm_labels: (N, T) the original tokens where texts are masked; -100 elsewhere.
            replaced_labels: (2N, T) which tokens of the versions were replaced; -100 where they do not count.
            present: (N,) bool, texts that have an antonym version.

        Returns:
            "loss", and the parts computed: "mlm", "rtd", "cts".
        """
        n = len(present)
        tokens = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            tokens["token_type_ids"] = token_type_ids
        wanted = (1.0, 1.0, 1.0) if self.weights is None else self.weights
        parts: dict[str, Tensor] = {}
        if wanted[0]:
            originals = {name: each[:n] for name, each in tokens.items()}
            output = self.backbone(**originals, labels=mlm_labels, output_hidden_states=True)
            # The mean over no masked token is no number.
            parts["mlm"] = output.loss if bool((mlm_labels != IGNORED).any()) else output.logits.sum() * 0.0
            states = [output.hidden_states[-1]]
            if wanted[1] or wanted[2]:
                versions = {name: each[n:] for name, each in tokens.items()}
                states.append(self.backbone.base_model(**versions).last_hidden_state)
            hidden = torch.cat(states)
        else:
            hidden = self.backbone.base_model(**tokens).last_hidden_state
        if wanted[1]:
            parts["rtd"] = self.head.loss(hidden[n:], replaced_labels)
        if wanted[2]:
            pooled = self._pooled(hidden, attention_mask)
            parts["cts"] = self.contrast(pooled[:n], pooled[n : 2 * n], pooled[2 * n :], present=present)
        if self.learned is not None:
            loss = self.learned([parts[name] for name in ("mlm", "rtd", "cts")])
        else:
            named = zip(("mlm", "rtd", "cts"), wanted, strict=True)
            loss = torch.stack([weight * parts[name] for name, weight in named if weight]).sum()
        return {"loss": loss, **{name: each.detach() for name, each in parts.items()}}

    def _pooled(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """(B, width) of (B, T, width)."""
        if self.pooling == "cls":
            return hidden[:, 0]
        weights = mask[:, :, None].to(hidden.dtype)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1)


def _tied(state: Mapping[str, Any]) -> list[str]:
    """Names of tensors that have the memory of one named before."""
    first: dict[int, str] = {}
    return [name for name, each in state.items() if first.setdefault(each.data_ptr(), name) != name and each.numel()]


def _forget_tied(module: nn.Module, keys: Any) -> None:
    """Count a tied weight that was loaded under one name as not missing under the other."""
    for name in _tied(nn.Module.state_dict(module)):
        if name in keys.missing_keys:
            keys.missing_keys.remove(name)


# Batches

# (text, where characters were replaced) of a version; None where there is none.
_Version = tuple[str, list[tuple[int, int]]]


class SemanticCollator:
    """Makes the batches of a `ThreePartModel`: `transformers.Trainer(..., data_collator=SemanticCollator(tokenizer))`.

    A row is a text, or a mapping with "text". Where it also has "synonym" and "antonym" and the columns of their
    changes, as `pairsift text-views` writes them, these versions are used. Otherwise they are made here, the same for a
    text each time. A text without a synonym version is its own synonym version (dropout tells them apart). `present`
    says which texts have an antonym version.

    Args:
        tokenizer: a fast tokenizer, since it gives the places of its pieces in the text.
        masked: share of a text's tokens that are masked for MLM, in [0, 1): 80 % by the mask, 10 % by a random token.
        max_length: tokens of a text at most.
        classes: labels of replaced tokens: 2, or 3 to tell synonym (1) from antonym versions (2).
        **views: `synonyms`, `antonyms`, `random_share`, `seed`, `relations`, `thesaurus`; see `semantic_views`. The
            seed is also that of the masks.

    Raises:
        ValueError: a slow tokenizer, one without a mask token, or a setting out of range.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        masked: float = 0.15,
        max_length: int = 128,
        classes: int = 2,
        **views: Any,
    ) -> None:
        from transformers import DataCollatorForLanguageModeling

        if not tokenizer.is_fast:
            raise ValueError(f"{type(tokenizer).__name__} is a slow tokenizer, which does not say where pieces stand")
        if not 0 <= masked < 1:
            raise ValueError(f"masked must be a share of the tokens in [0, 1), got {masked}")
        if classes not in (2, 3):
            raise ValueError(f"classes must be 2 or 3, got {classes}")
        self.tokenizer, self.max_length, self.classes = tokenizer, max_length, classes
        self.maker = ViewMaker(**views)
        # The library refuses a share of 0, which here means no masks.
        self._masks = None
        if masked:
            self._masks = DataCollatorForLanguageModeling(tokenizer, mlm_probability=masked, seed=self.maker.seed)

    def __call__(self, rows: Sequence[str | Mapping[str, Any]]) -> dict[str, Tensor]:
        """The batch of N rows; see `ThreePartModel.forward`.

        Raises:
            ValueError: a row without a text.
        """
        versions = [self._versions(row) for row in rows]
        originals = [text for text, _, _ in versions]
        synonyms = [(text, []) if synonym is None else synonym for text, synonym, _ in versions]
        antonyms = [(text, []) if antonym is None else antonym for text, _, antonym in versions]
        # The fast tokenizer answers with offsets and special tokens beside its usual names.
        batch = self.tokenizer(
            [*originals, *(text for text, _ in (*synonyms, *antonyms))], padding=True, truncation=True,
            max_length=self.max_length, return_offsets_mapping=True, return_special_tokens_mask=True,
            return_tensors="pt",
        )  # fmt: skip
        places = batch.pop("offset_mapping").numpy()
        special = batch.pop("special_tokens_mask").bool()
        n = len(rows)
        present = torch.tensor([antonym is not None for _, _, antonym in versions])
        replaced = torch.full_like(batch["input_ids"][n:], IGNORED)
        for at, (text, spans) in enumerate((*synonyms, *antonyms)):
            if at < n or present[at - n]:
                label = 2 if self.classes == 3 and at >= n else 1
                flags = torch.from_numpy(_overlaps(len(text), spans, places[n + at])).long() * label
                replaced[at] = flags.where(~special[n + at], IGNORED)
        labels = torch.full_like(batch["input_ids"][:n], IGNORED)
        if self._masks is not None:
            masked, labels = self._masks.torch_mask_tokens(batch["input_ids"][:n].clone(), special[:n].clone())
            batch["input_ids"][:n] = masked
        return {**batch, "mlm_labels": labels, "replaced_labels": replaced, "present": present}

    def _versions(self, row: str | Mapping[str, Any]) -> tuple[str, _Version | None, _Version | None]:
        if isinstance(row, str):
            row = {"text": row}
        if not isinstance(row.get("text"), str):
            raise ValueError(f"a row must be a text or have one under 'text', got {sorted(row)}")
        if {"synonym", "antonym", "synonym_changes", "antonym_changes"} <= row.keys():
            return row["text"], _stored(row, "synonym"), _stored(row, "antonym")
        views = self.maker.views(row["text"])
        return row["text"], _made(views.synonym), _made(views.antonym)


def _made(view: View | None) -> _Version | None:
    return None if view is None else (view.text, [(change.start, change.stop) for change in view.changes])


def _stored(row: Mapping[str, Any], name: str) -> _Version | None:
    if row[name] is None:
        return None
    return row[name], [(change["start"], change["stop"]) for change in row[f"{name}_changes"]]


def _overlaps(length: int, spans: list[tuple[int, int]], places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(T,) whether a piece at (start, stop) holds a replaced character."""
    marks = np.zeros(length + 1, dtype=np.int64)
    for start, stop in spans:
        marks[start + 1 : stop + 1] = 1
    before = marks.cumsum()
    held: np.ndarray[Any, Any] = before[places[:, 1]] > before[places[:, 0]]
    return held
