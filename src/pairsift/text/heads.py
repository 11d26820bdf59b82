"""Replaced-token detection, learned weights, and the three-part objective of arXiv 2107.00440 as one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pairsift.losses import SemanticNegativeLoss

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Pooling = Literal["cls", "mean"]
# What labels say where nothing is asked, as in PyTorch's cross-entropy.
IGNORED = -100


class ReplacedTokenHead(nn.Module):
    """Was this token replaced? A linear layer per token (arXiv 2107.00440).

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
        """The mean over tokens.

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
    """The weighting of several losses in the authors' code: `sum_i e^{-s_i} L_i + max(s_i, 0)`, s learned from 0.

    At its best s a loss L counts as L up to 1 and as 1 + log L above: large losses are damped, none is raised.

    Args:
        losses: how many.
    """

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.log_scales = nn.Parameter(torch.zeros(losses))

    def forward(self, losses: Sequence[Tensor]) -> Tensor:
        """The weighted sum, a scalar, of (losses,) scalars."""
        values = torch.stack(list(losses))
        return ((-self.log_scales).exp() * values + self.log_scales.clamp_min(0)).sum()


class ThreePartModel(nn.Module):
    """`L = l1 MLM + l2 RTD + l3 CTS` over batches of a `SemanticCollator`: `transformers.Trainer(ThreePartModel(...))`.

    Texts are masked for MLM and contrasted in one pass, their versions in another; the trainer needs
    `remove_unused_columns=False`. What is trained is `backbone`, which saves itself: `model.backbone.base_model`.

    Args:
        backbone: a model with a masked-language head, `AutoModelForMaskedLM.from_pretrained(...)`.
        contrast: the loss of texts and their versions; None takes `SemanticNegativeLoss()`.
        weights: l1, l2, l3, each >= 0; a part of weight 0 is not computed. None learns them (`LearnedWeights`).
        pooling: "cls" takes the first token of a text, "mean" the mean of all.
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
        """As of any module, each tied weight under one name only, as the trainer's checkpoints need it."""
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
            mlm_labels: (N, T) what masked tokens of the texts were; -100 elsewhere.
            replaced_labels: (2N, T) which tokens of the versions were replaced; -100 where it is not asked.
            present: (N,) bool, which texts have an antonym version.

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
    """What is loaded under one name is not missing under the other."""
    for name in _tied(nn.Module.state_dict(module)):
        if name in keys.missing_keys:
            keys.missing_keys.remove(name)
