"""`treatment="auto"`: at every fit of the affinity, whether to treat, said in words and remembered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from torch import Tensor

from pairsift.same_class import ConfidentNegatives, Estimate, estimate
from pairsift.treatments import Decision, Treatment


class Decider:
    """Decides whether a run treats its pairs.

    Attributes:
        made: a row for every decision: epoch (from 1) that it holds from, on, treatment, reason, and what it was made
            of; plain values, kept in checkpoints and written to ``decisions.jsonl``.

    Args:
        say: told every decision.
        seed: of the rows that are looked at.
        guide: whether a guide judges pairs, and not the run itself.
    """

    def __init__(self, say: Callable[[str], None], seed: int, guide: bool = False) -> None:
        self.made: list[dict[str, Any]] = []
        self._say, self._seed, self._guide = say, seed, guide

    @property
    def treatment(self) -> Treatment:
        """By the last decision; neutral before the first."""
        return Treatment(**self.made[-1]["treatment"]) if self.made else Treatment()

    def judge(self, epoch: int, selector: ConfidentNegatives, features: Tensor) -> None:
        """Decide by the (N, D) features that the selector's affinity was just fitted to."""
        found = estimate(selector, features, seed=self._seed, guide=self._guide)
        self._keep(epoch, found.decide(), found)

    def stay_off(self, epoch: int, why: str) -> None:
        """Nothing can be told, so nothing is treated."""
        self._keep(epoch, Decision(Treatment(), f"stays off: {why}"), None)

    def _keep(self, epoch: int, decision: Decision, found: Estimate | None) -> None:
        self._say(f"epoch {epoch}: {decision.reason}")
        self.made.append(
            {
                "epoch": epoch,
                "on": decision.on,
                "treatment": asdict(decision.treatment),
                "reason": decision.reason,
                "estimate": None if found is None else asdict(found),
            }
        )
