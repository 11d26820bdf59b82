"""Treatments of difficult pairs: edits of their logits by Eqs. 13 to 16 of arXiv 2501.01317."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from torch import Tensor

from pairsift._base.checks import take_renamed

Removal = Literal["neutral", "exclude"]

# Logit of an excluded pair. Unlike -inf it can be multiplied by 0, and a row without any other pair keeps a finite
# gradient.
EXCLUDED = -1e30
# Within these bounds, similarities divided by any allowed temperature stay far from EXCLUDED, and so do their squares
# in float32.
MIN_TEMPERATURE, MIN_SCALE, MAX_MARGIN = 1e-8, 1e-6, 1e6


@dataclass(frozen=True)
class Edit:
    """Turns the logit of a pair with mask m in [0, 1] into `(1 + m (factor - 1)) * logit + m * offset`.

    Attributes:
        factor: multiplies the logit (or product) of a selected pair.
        offset: added to it, finite; a scalar tensor carries a gradient.
        excludes: whether selected pairs leave the comparison. `offset` is then EXCLUDED, and positives are spared.
        same_class_weight: see `Treatment`.
    """

    factor: float
    offset: float | Tensor
    excludes: bool = False
    same_class_weight: float = 0.0

    @property
    def edits_selected(self) -> bool:
        """Whether the logits of selected pairs change at all."""
        return self.factor != 1 or isinstance(self.offset, Tensor) or self.offset != 0

    def apply(self, logits: Tensor, mask: Tensor | None, log_weights: Tensor | None = None) -> Tensor:
        """Edited logits, differentiable.

        Args:
            logits: (R, K) plain logits.
            mask: (R, K) numbers in [0, 1] of the logits' dtype, how far each pair is selected; None selects none.
            log_weights: (R, K) logarithms of the weights of all pairs; None weighs all pairs alike.
        """
        if mask is not None:
            logits = logits * (1 + mask * (self.factor - 1)) + mask * self.offset
        return logits if log_weights is None else logits + log_weights

    def apply_to_products(self, products: Tensor, mask: Tensor) -> Tensor:
        """`apply` for products that are squared and summed: an excluded product becomes 0."""
        return products * (1 - mask) if self.excludes else self.apply(products, mask)

    def apply_(self, logits: Tensor, mask: Tensor | None, log_weights: Tensor | None = None) -> None:
        """`apply` in place and without a graph."""
        self.backward_(logits, mask)
        if mask is not None and self.offset:
            logits.add_(mask, alpha=float(self.offset))
        if log_weights is not None:
            logits.add_(log_weights)

    def backward_(self, gradients: Tensor, mask: Tensor | None) -> None:
        """Turn gradients of edited logits into gradients of plain logits, in place."""
        if mask is not None and self.factor != 1:
            gradients.addcmul_(gradients, mask, value=self.factor - 1)


@dataclass(frozen=True, init=False)
class Treatment:
    """How the logit of a difficult pair (p = 1) is edited; other pairs keep `s / temperature`.

    | treatment       | logit of a difficult pair                           | Eq. |
    |-----------------|-----------------------------------------------------|-----|
    | removal neutral | 0: the pair stays in the denominator as exp(0)      | 13  |
    | removal exclude | -inf: the pair leaves the denominator               |     |
    | margin          | `(s + margin) / temperature`                        | 14  |
    | temperature     | `s / (temperature_scale * temperature)`             | 15  |
    | both (combined) | `(s + margin) / (temperature_scale * temperature)`  | 16  |

    Attributes:
        margin: sigma, added to the similarity of a difficult pair; >= 0, in units of cosine similarity.
        temperature_scale: rho, factor on the temperature of a difficult pair; > 0. The paper uses 0.6 to 0.7;
            a huge factor (1e9) makes the pair neutral.
        removal: None, "neutral" (Eq. 13) or "exclude" (never the positive of an anchor). It cannot be combined with a
            margin or a temperature scale.
        same_class_weight: power >= 0 of the weight P(different class) of every pair in the denominator, where the
            selector estimates it (`ConfidentNegatives`). 0 weighs all pairs alike; 1 leaves a pair out as far as it is
            probably of one class. The positive keeps its weight. Not in the paper.

    Raises:
        TypeError: a setting is not a number.
        ValueError: a setting is out of range, or removal is combined with another treatment.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> similarities, pairs = torch.tensor([[0.5, 0.2]]), torch.tensor([[False, True]])
        >>> ps.Treatment(margin=0.1, temperature_scale=0.6).logits(similarities, pairs, temperature=0.5)
        tensor([[1., 1.]])
    """

    margin: float = 0.0
    temperature_scale: float = 1.0
    removal: Removal | None = None
    same_class_weight: float = 0.0

    def __init__(
        self, margin: float = 0.0, temperature_scale: float = 1.0, removal: Removal | None = None,
        same_class_weight: float = 0.0, **old: float,
    ) -> None:  # fmt: skip
        numbers = {"margin": margin, "temperature_scale": temperature_scale, "same_class_weight": same_class_weight}
        numbers |= take_renamed("Treatment", old, {"class_mates": "same_class_weight"})
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"Treatment.{name} must be a number, got {value!r}")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "removal", removal)
        if not 0 <= margin <= MAX_MARGIN:
            bound = f"<= {MAX_MARGIN:g}" if margin > 0 else ">= 0"
            raise ValueError(f"margin must be finite and {bound}, got {margin}")
        if not (math.isfinite(temperature_scale) and temperature_scale >= MIN_SCALE):
            bound = f">= {MIN_SCALE:g}" if temperature_scale > 0 else "> 0"
            raise ValueError(f"temperature_scale must be finite and {bound}, got {temperature_scale}")
        if not (math.isfinite(self.same_class_weight) and self.same_class_weight >= 0):
            raise ValueError(f"same_class_weight must be finite and >= 0, got {self.same_class_weight}")
        if removal not in (None, *get_args(Removal)):
            raise ValueError(f"removal must be None, 'neutral' (Eq. 13) or 'exclude', got {removal!r}")
        if removal and (margin or temperature_scale != 1):
            raise ValueError(
                f"removal={removal!r} takes a pair's logit away, so margin={margin} and "
                f"temperature_scale={temperature_scale} cannot act on it: use one or the other"
            )

    @classmethod
    def auto(cls, estimate: SupportsDecide) -> Treatment:
        """The treatment that an estimate recommends; neutral where treating pairs would hurt.

        Args:
            estimate: result of `pairsift.same_class.estimate`; `estimate.decide().reason` explains the choice.

        Example:
            >>> import torch
            >>> import pairsift as ps
            >>> _ = torch.manual_seed(0)
            >>> features = torch.eye(8, 32).repeat_interleave(100, dim=0) + 0.2 * torch.randn(800, 32)
            >>> selector = ps.ConfidentNegatives(ps.Affinity.fit(features))
            >>> ps.Treatment.auto(ps.same_class.estimate(selector, features))
            Treatment(margin=0.03, temperature_scale=0.6, removal=None, same_class_weight=1.0)
            >>> noise = torch.randn(800, 32)
            >>> selector = ps.ConfidentNegatives(ps.Affinity.fit(noise))
            >>> ps.Treatment.auto(ps.same_class.estimate(selector, noise)).is_neutral
            True
        """
        return estimate.decide().treatment

    @property
    def is_neutral(self) -> bool:
        """Whether the treatment changes nothing."""
        return self.removal is None and self.margin == 0 and self.temperature_scale == 1 and self.same_class_weight == 0

    def edit(self, temperature: float | Tensor) -> Edit:
        """The edit of plain logits `s / temperature`.

        Args:
            temperature: tau, > 0; a scalar tensor carries a gradient to the offset.
        """
        if self.removal == "exclude":
            return Edit(1.0, EXCLUDED, True, self.same_class_weight)
        if self.removal == "neutral":
            return Edit(0.0, 0.0, False, self.same_class_weight)
        offset = self.margin / (self.temperature_scale * temperature)
        return Edit(1 / self.temperature_scale, offset, False, self.same_class_weight)

    def logits(self, similarities: Tensor, pairs: Tensor, temperature: float | Tensor) -> Tensor:
        """Treated logits (Eqs. 13 to 16), differentiable in the similarities.

        Args:
            similarities: (B, K) cosine similarities.
            pairs: (B, K) bool, the difficult ones.
            temperature: tau, > 0; a scalar tensor carries a gradient.

        Returns:
            (B, K) logits; -inf where a pair is excluded.
        """
        edit, plain = self.edit(temperature), similarities / temperature
        if edit.excludes:
            return plain.masked_fill(pairs, -math.inf)
        return edit.apply(plain, pairs.to(plain.dtype))


@dataclass(frozen=True)
class Decision:
    """A recommended treatment and the reason for it.

    Attributes:
        treatment: neutral where treating pairs would hurt.
        reason: the same in words, with the numbers behind it.
    """

    treatment: Treatment
    reason: str

    @property
    def on(self) -> bool:
        """Whether any pair is treated."""
        return not self.treatment.is_neutral


class SupportsDecide(Protocol):
    """An estimate that recommends a treatment, such as `pairsift.same_class.Estimate`."""

    def decide(self) -> Decision:
        """The recommended treatment and the reason for it."""
        ...
