"""What the theory advises for measured levels."""

from __future__ import annotations

from dataclasses import dataclass

from pairsift.theory import bounds
from pairsift.theory.levels import Levels
from pairsift.treatments import Treatment


@dataclass(frozen=True)
class Advice:
    """The theory's own settings for measured levels, with the reasons in words.

    Attributes:
        margin: sigma = gamma - beta; 0 where gamma does not exceed beta.
        temperature_scale: rho = beta / gamma; None where the ratio has no meaning.
        high: posHigh = 1 / number of classes.
        removal_pays: whether Cor 4.1 says that removing difficult examples lowers the (printed) bound; None where it
            cannot be said.
        reasons: one sentence each.
    """

    margin: float
    temperature_scale: float | None
    high: float
    removal_pays: bool | None
    reasons: tuple[str, ...]

    def treatment(self) -> Treatment:
        """The combined treatment with these settings."""
        return Treatment(margin=self.margin, temperature_scale=self.temperature_scale or 1.0)


def advise(levels: Levels) -> Advice:
    """The theory's own settings: sigma = gamma - beta, rho = beta / gamma, posHigh = 1 / classes, and Cor 4.1.

    Args:
        levels: measured, with or without labels.

    Example:
        >>> import numpy as np
        >>> from pairsift.theory import advise, measure_levels
        >>> labels = np.arange(200) % 4
        >>> features = np.eye(8)[labels] + 0.2 * np.random.default_rng(0).standard_normal((200, 8))
        >>> advise(measure_levels(features, labels)).reasons[0].startswith("margin = gamma - beta")
        True
    """
    alpha, beta, gamma = levels.alpha.mean, levels.beta.mean, levels.gamma.mean
    high, gap, reasons = 1 / levels.n_classes, levels.gap, []
    if gap > 0:
        reasons.append(f"margin = gamma - beta = {gap:.4f}: lowers a difficult pair to where easy pairs are (Thm 4.3)")
    else:
        reasons.append(f"no margin: gamma {gamma:.4f} does not exceed beta {beta:.4f}, nothing is difficult here")
    scale = None
    if gap > 0 and beta > 0:
        scale = beta / gamma
        reasons.append(f"temperature_scale = beta / gamma = {scale:.3f} (Thm 4.5)")
    else:
        reasons.append(
            f"no temperature: beta / gamma means something for 0 < beta < gamma only, got {beta:.4f}, {gamma:.4f}"
        )
    reasons.append(f"high = 1 / {levels.n_classes} classes = {high:.4g}: same-class pairs fill so much of a row")
    if levels.difficult is None:
        reasons.append(
            "levels were measured by ranks, where gamma exceeds beta by construction: read the settings as upper ends"
        )
    pays, reason = _removal(levels)
    reasons.append(reason)
    if gamma >= alpha:
        reasons.append(
            f"gamma {gamma:.4f} >= alpha {alpha:.4f}: difficult pairs look more alike than same-class pairs, which the "
            "theory's graph excludes; features have not formed classes"
        )
    return Advice(max(0.0, gap), scale, high, pays, tuple(reasons))


def _removal(levels: Levels) -> tuple[bool | None, str]:
    try:
        condition = bounds.removal_pays(levels.graph())
    except ValueError as error:
        return None, f"whether removal pays cannot be said: {error}"
    relation = ">" if condition.holds else "<="
    return condition.holds, (
        f"removal {'pays' if condition.holds else 'does not pay'} by Cor 4.1: "
        f"gamma - beta = {condition.left:.4g} {relation} {condition.right:.4g}"
    )
