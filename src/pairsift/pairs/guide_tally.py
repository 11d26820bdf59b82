"""What a guide mask did: pairs seen and masked, and how right it was where labels are known."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class GuideReport:
    """Counts over all batches so far; the own pairs of anchors are never counted.

    Attributes:
        pairs: of an anchor and a candidate that were seen; both directions of a symmetric loss count.
        guide: pairs masked by the guide.
        identity: pairs masked because the texts are the same.
        rows: anchors that were seen.
        rows_off: anchors whose guide mask would have exceeded the cap, and was left off.
        labelled: pairs of which both labels are known.
        same: those of one label.
        masked: masked ones of `labelled`.
        hits: masked ones of `same`.
    """

    pairs: int
    guide: int
    identity: int
    rows: int
    rows_off: int
    labelled: int
    same: int
    masked: int
    hits: int

    @property
    def precision(self) -> float:
        """Share of masked pairs that are of one label, in [0, 1]; nan where none is masked or labels are unknown."""
        return self.hits / self.masked if self.masked else float("nan")

    @property
    def recall(self) -> float:
        """Share of pairs of one label that are masked, in [0, 1]; nan where there are none or labels are unknown."""
        return self.hits / self.same if self.same else float("nan")

    def __str__(self) -> str:
        share = 100 * (self.guide + self.identity) / self.pairs if self.pairs else 0.0
        words = (
            f"{self.pairs} pairs seen, {share:.2f} % masked: {self.guide} by the guide, {self.identity} as identical; "
            f"the cap left {self.rows_off} of {self.rows} rows alone"
        )
        if self.labelled:
            words += f"; {100 * self.precision:.1f} % of the masked are of one label, "
            words += f"and {100 * self.recall:.1f} % of such pairs are masked"
        return words


class Tally:
    """The counts of a `GuideReport`, kept on the device of the masks so that no step waits for them."""

    def __init__(self) -> None:
        self._counts: Tensor = torch.zeros(len(fields(GuideReport)), dtype=torch.int64)

    def add(self, counts: list[int | Tensor]) -> None:
        """Add counts, in the order of `GuideReport`."""
        device = next((each.device for each in counts if isinstance(each, Tensor)), self._counts.device)
        new = torch.stack([torch.as_tensor(each, dtype=torch.int64, device=device) for each in counts])
        self._counts = self._counts.to(device) + new

    def report(self) -> GuideReport:
        """The counts so far."""
        return GuideReport(*self._counts.tolist())

    def get_state(self) -> dict[str, Any]:
        """What a resumed run needs to go on counting."""
        return {"counts": self._counts.tolist()}

    def set_state(self, state: dict[str, Any]) -> None:
        """See `get_state`."""
        self._counts = torch.tensor(state["counts"], dtype=torch.int64)
