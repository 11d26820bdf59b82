"""What a run knows about which pairs are of one class, and which pairs it therefore calls difficult."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pairsift.data import DataError, ImageSet
from pairsift.losses.engine import Processes
from pairsift.pairs import Selector
from pairsift.same_class import Affinity, AffinityError, ConfidentNegatives
from pairsift.temporal import FrameSet, TemporalPairs, TemporalWindow
from pairsift.train.bank import Bank
from pairsift.train.config import UNJUDGED, TrainConfig
from pairsift.train.deciding import Decider
from pairsift.train.guide import guide_features
from pairsift.treatments import Treatment

# Rows of the sample on which a fit is described: as many as the views of a usual batch.
_SAMPLE = 512

Say = Callable[[str], None]


class Evidence(nn.Module):
    """What is known about the classes of pairs while a run goes on, beyond the features of a batch.

    Attributes:
        selector: which pairs are selected; it knows examples by their positions in the training set.
    """

    selector: Selector

    @property
    def ready(self) -> bool:
        """Whether anything is known yet; until then the loss is the plain one."""
        return True

    def estimated(self, pairs: Tensor, rows: Tensor) -> float | None:
        """Purity of flagged pairs as far as it can be told without labels: the mean of P(different class) over them.

        Args:
            pairs: (B, K) bool, flagged pairs of the views of this process with those of all.
            rows: (B,) positions in the training set of what the views are of.

        Returns:
            In [0, 1]; None where it cannot be told.
        """
        return None

    def treatment(self, configured: Treatment | None) -> Treatment | None:
        """What to do with pairs from now on: as configured, unless what is known decides."""
        return configured

    @property
    def decisions(self) -> list[dict[str, Any]]:
        """What was decided so far, plain values, a row each; see `Decider`."""
        return []

    def start_epoch(self, epoch: int) -> None:
        """Before the first step of an epoch, counted from 0."""

    def observe(self, h: Tensor, rows: Tensor) -> None:
        """After a step: (2B, D) features of both views, first views first, of the B images at `rows`."""


class AffinityEvidence(Evidence):
    """Confident negatives by an `Affinity`, of a guide's features, which is there from the first step.

    Args:
        config: confidence and share of the flagged pairs.
        features: (N, D) of the training images, by the guide; None leaves the affinity to a subclass.
        say: told what was found.

    Raises:
        AffinityError: nothing can be told from these features.
    """

    selector: ConfidentNegatives

    def __init__(self, config: TrainConfig, features: NDArray[np.float32] | None, say: Say) -> None:
        super().__init__()
        self._seed, self._say = config.seed, say
        guided = features is not None
        self._decider = Decider(say, config.seed, guided) if config.treatment == "auto" else None
        self.selector = ConfidentNegatives(None, config.confidence, config.flagged_share)
        if features is not None:
            self._fit(torch.from_numpy(features), 0, "guide")

    @property
    def ready(self) -> bool:
        return self.selector.affinity is not None

    def treatment(self, configured: Treatment | None) -> Treatment | None:
        return configured if self._decider is None else self._decider.treatment

    @property
    def decisions(self) -> list[dict[str, Any]]:
        return [] if self._decider is None else self._decider.made

    @torch.no_grad()
    def estimated(self, pairs: Tensor, rows: Tensor) -> float | None:
        codes = self._affinity.codes_of(rows).contiguous()
        everyones = Processes(True, codes=codes).gather("codes", codes)  # also where this process flags nothing
        different = 1 - self._affinity.between(codes, everyones)
        flagged = int(pairs.sum())
        return float((different * pairs).sum()) / flagged if flagged else None

    @property
    def _affinity(self) -> Affinity:
        assert self.selector.affinity is not None
        return self.selector.affinity

    def _fit(self, features: Tensor, epoch: int, when: str) -> None:
        self.selector.affinity = Affinity.fit(features, seed=self._seed)
        self._describe(features, when)
        if self._decider is not None:
            self._decider.judge(epoch + 1, self.selector, features)

    def _describe(self, features: Tensor, when: str) -> None:
        rows = torch.randperm(len(features), generator=torch.Generator().manual_seed(self._seed))[:_SAMPLE]
        codes = self._affinity.codes_of(rows)
        same = self._affinity.between(codes, codes).fill_diagonal_(0).sum() / max(1, len(rows) * (len(rows) - 1))
        pairs = self.selector.masks(features[rows].float(), rows=rows).whole()
        purity = self.estimated(pairs, rows)
        found = "no pair is confidently of two classes" if purity is None else (
            f"{pairs.float().mean():.1%} are flagged, {purity:.1%} of these of different classes"
        )  # fmt: skip
        self._say(f"{when}: {float(same):.1%} of all pairs are judged to be of one class; {found}")


class BankEvidence(AffinityEvidence):
    """`AffinityEvidence` of the run's own features, averaged over its epochs, and fitted anew every few of them.

    Args:
        config: when to begin and how often to fit.
        n, width: images and their features, see `Bank`.
        say: told what every fit found, or why there is none.
    """

    def __init__(self, config: TrainConfig, n: int, width: int, say: Say) -> None:
        super().__init__(config, None, say)
        self.bank = Bank(n, width)
        self._first, self._every = config.affinity_start, config.refit_every
        self._trouble = ""

    def start_epoch(self, epoch: int) -> None:
        if epoch < self._first or (epoch - self._first) % self._every:
            return
        try:
            self._fit(self.bank.features(), epoch, f"epoch {epoch + 1}")
        except AffinityError as error:
            self.selector.affinity = None
            if self._decider is not None:
                self._decider.stay_off(epoch + 1, str(error))
            elif str(error) != self._trouble:
                self._trouble = str(error)
                self._say(f"epoch {epoch + 1}: pairs are not treated, because {error}")

    def observe(self, h: Tensor, rows: Tensor) -> None:
        self.bank.update(h, rows)

    def get_extra_state(self) -> Any:
        """The affinity in use, and what was decided by it: it was fitted on the bank of an earlier step, so the bank
        alone cannot give it back."""
        affinity = self.selector.affinity
        return {"affinity": None if affinity is None else affinity.codes, "decisions": self.decisions}

    def set_extra_state(self, state: Any) -> None:
        """See `get_extra_state`."""
        if self._decider is not None:
            self._decider.made = state["decisions"]
        codes = state["affinity"]
        if isinstance(codes, bytes):  # a safetensors file, as checkpoints once held it
            codes = safetensors.torch.load(codes)["codes"]
        self.selector.affinity = None if codes is None else Affinity(codes.cpu())


class TimeEvidence(Evidence):
    """When frames were taken: those of one sequence that are close in time are not called difficult.

    Args:
        config: the band, and the window.
        pairs: sequence and time of the N training frames.
    """

    selector: TemporalWindow

    def __init__(self, config: TrainConfig, pairs: TemporalPairs) -> None:
        super().__init__()
        self.selector = TemporalWindow(config.band(), config.window, pairs.sequences, pairs.times)


class NoEvidence(Evidence):
    """What `treatment="auto"` has to go by where no affinity judges pairs: nothing, so it stays off and says why.

    Args:
        config: the method, and the band of its pairs.
        say: told why.
    """

    def __init__(self, config: TrainConfig, say: Say) -> None:
        super().__init__()
        self.selector = config.band()
        self._decider = Decider(say, config.seed)
        self._decider.stay_off(
            1, f"method={config.method!r} cannot select by affinity, because {UNJUDGED[config.method]}"
        )

    @property
    def ready(self) -> bool:
        return False

    @property
    def decisions(self) -> list[dict[str, Any]]:
        return self._decider.made


def build_evidence(config: TrainConfig, images: ImageSet, width: int, say: Say) -> Evidence | None:
    """What the configuration asks for; None for selections that look at batches alone.

    Args:
        config: `select`, `guide` and what belongs to them.
        images: N training images.
        width: D features of each.
        say: told what is found.

    Raises:
        DataError: a guide that does not fit the images, see `guide_features`, or a bank larger than `memory_gb`.
        AffinityError: a guide from which nothing can be told.
    """
    if config.window and isinstance(images, FrameSet) and images.pairs is not None:
        return TimeEvidence(config, images.pairs)
    if config.select != "affinity":
        return None
    if config.method in UNJUDGED:
        return NoEvidence(config, say)
    if config.guide is not None:
        return AffinityEvidence(config, guide_features(config.guide, images, config.memory_gb, config.seed), say)
    need = len(images) * width * (2 + 4)  # in half precision, and once more in full while it is fitted
    if need > config.memory_gb * 1e9:
        raise DataError(
            f"a bank of {len(images):,} x {width:,} features takes {need / 1e9:.2g} GB, and "
            f"memory_gb={config.memory_gb:g} GB are allowed: raise `memory_gb`, or use an encoder with fewer "
            "features, or a `guide`"
        )
    return BankEvidence(config, len(images), width, say)
