"""What happens to difficult pairs: the logit edits of Eqs. 13 to 16 of arXiv 2501.01317."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from torch import Tensor

from pairsift._base.checks import take_renamed

Removal = Literal["neutral", "exclude"]

# Takes a logit out of a log-sum-exp and, unlike -inf, can be multiplied by 0 and leaves a usable gradient where a whole
# row is taken out.
NOTHING = -1e30
# With margins up to the one and scales from the other on, similarities divided by any temperature that a loss takes
# stay far from NOTHING, and their squares in float32.
LEAST_TEMPERATURE, LEAST_SCALE, MOST_MARGIN = 1e-8, 1e-6, 1e6


@dataclass(frozen=True)
class Edit:
    """What a treatment does to a pair of difficulty m in [0, 1]: `(1 + m (factor - 1)) * logit + m * offset`.

    Attributes:
        factor: of the plain logit (or product) of a difficult pair.
        offset: added to it, finite; a scalar tensor carries a gradient.
        excludes: the pair leaves the comparison (`offset` is NOTHING then), and a positive is spared.
        same_class_weight: power of the weight that probable same-class pairs keep in the denominator.
    """

    factor: float
    offset: float | Tensor
    excludes: bool = False
    same_class_weight: float = 0.0

    @property
    def of_difficult(self) -> bool:
        """Whether difficult pairs are edited at all."""
        return self.factor != 1 or isinstance(self.offset, Tensor) or self.offset != 0

    def of(self, logits: Tensor, mask: Tensor | None, log_weights: Tensor | None = None) -> Tensor:
        """Edited logits, differentiable.

        Args:
            logits: (R, K) plain ones.
            mask: (R, K) difficulty, of the logits' dtype; None where no pair is difficult.
            log_weights: (R, K) logarithms of the weights of all pairs, difficult or not; None where they weigh alike.
        """
        if mask is not None:
            logits = logits * (1 + mask * (self.factor - 1)) + mask * self.offset
        return logits if log_weights is None else logits + log_weights

    def of_products(self, products: Tensor, mask: Tensor) -> Tensor:
        """`of` for products that are squared and summed: one that is excluded becomes 0."""
        return products * (1 - mask) if self.excludes else self.of(products, mask)

    def apply_(self, logits: Tensor, mask: Tensor | None, log_weights: Tensor | None = None) -> None:
        """`of`, in place and without a graph; see there."""
        self.chain_(logits, mask)
        if mask is not None and self.offset:
            logits.add_(mask, alpha=float(self.offset))
        if log_weights is not None:
            logits.add_(log_weights)

    def chain_(self, gradients: Tensor, mask: Tensor | None) -> None:
        """Turn gradients by edited logits into gradients by plain ones, in place."""
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
        removal: None, "neutral" (the paper's Eq. 13) or "exclude" (the other natural reading; the positive of an
            anchor is never excluded). Removal stands alone: a removed pair has no logit left to shift or scale.
        same_class_weight: power >= 0 with which P(different class) weighs every pair in the denominator, where the
            selector estimates it (`ConfidentNegatives`): 0 leaves all weights at 1, 1 leaves a pair out as far as it is
            probably of one class. The paper has no such weight. The positive is never weakened.

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
        same_class_weight = take_renamed("Treatment", old, {"class_mates": "same_class_weight"}).get(
            "same_class_weight", same_class_weight
        )
        for name, given in (
            ("margin", margin), ("temperature_scale", temperature_scale), ("removal", removal),
            ("same_class_weight", same_class_weight),
        ):  # fmt: skip
            object.__setattr__(self, name, given)
        for name in ("margin", "temperature_scale", "same_class_weight"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"Treatment.{name} must be a number, got {value!r}")
        if not 0 <= self.margin <= MOST_MARGIN:
            low = f"<= {MOST_MARGIN:g}" if self.margin > 0 else ">= 0"
            raise ValueError(f"margin must be finite and {low}, got {self.margin}")
        if not (math.isfinite(self.temperature_scale) and self.temperature_scale >= LEAST_SCALE):
            low = f">= {LEAST_SCALE:g}" if self.temperature_scale > 0 else "> 0"
            raise ValueError(f"temperature_scale must be finite and {low}, got {self.temperature_scale}")
        if not (math.isfinite(self.same_class_weight) and self.same_class_weight >= 0):
            raise ValueError(f"same_class_weight must be finite and >= 0, got {self.same_class_weight}")
        if self.removal not in (None, *get_args(Removal)):
            raise ValueError(f"removal must be None, 'neutral' (Eq. 13) or 'exclude', got {self.removal!r}")
        if self.removal and (self.margin or self.temperature_scale != 1):
            raise ValueError(
                f"removal={self.removal!r} takes a pair's logit away, so margin={self.margin} and "
                f"temperature_scale={self.temperature_scale} cannot act on it: use one or the other"
            )

    @classmethod
    def auto(cls, estimate: Decides) -> Treatment:
        """The treatment that an estimate of which pairs are of one class calls for; neutral where it would hurt.

        Args:
            estimate: `pairsift.same_class.estimate(selector, features)`, or anything else that decides; the words for
                what it decided are `estimate.decide().reason`.

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
        """Whether the treatment changes nothing (margin 0, scale 1, no removal, all same-class pairs kept)."""
        return self.removal is None and self.margin == 0 and self.temperature_scale == 1 and self.same_class_weight == 0

    def edit(self, temperature: float | Tensor) -> Edit:
        """The edit of plain logits `s / temperature`.

        Args:
            temperature: tau, > 0, in whose units the margin is; a scalar tensor carries a gradient to the offset.
        """
        if self.removal == "exclude":
            return Edit(1.0, NOTHING, True, self.same_class_weight)
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
        return edit.of(plain, pairs.to(plain.dtype))


@dataclass(frozen=True)
class Decision:
    """A treatment, neutral where treating would hurt, and why.

    Attributes:
        treatment: what to do with difficult pairs and same-class pairs.
        reason: the same in words, and what speaks for it.
    """

    treatment: Treatment
    reason: str

    @property
    def on(self) -> bool:
        """Whether anything is treated."""
        return not self.treatment.is_neutral

    @property
    def same_class_weight(self) -> float:
        """The power with which same-class pairs weigh, 0 where they are left alone."""
        return self.treatment.same_class_weight


class Decides(Protocol):
    """What `Treatment.auto` asks."""

    def decide(self) -> Decision:
        """The treatment that is called for, and why."""
        ...
