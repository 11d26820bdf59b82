"""Pair policies: which pairs a run selects, from which features, and whether it treats them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pairsift.data import DataError, FeatureSource, ImageSet, open_features
from pairsift.data.columns import NO_LABELS
from pairsift.losses.engine import Processes
from pairsift.pairs import Selector
from pairsift.same_class import Affinity, AffinityError, ConfidentNegatives, Estimate, estimate, patch_features
from pairsift.spectral import SpectralError
from pairsift.temporal import FrameSet, TemporalPairs, TemporalWindow
from pairsift.train.config import UNJUDGED, TrainConfig
from pairsift.train.exact import exact_guide
from pairsift.treatments import Decision, Treatment

EXACT = Path("exact")
"""Patches and a spectral map of random views of the training images; see `pairsift.spectral.PatchEncoder`."""
PATCHES = Path("patches")
"""The guide without a file: features of small patches, which are learned from the training images alone."""

# Rows of the sample that describes a fit: as many as the views of a usual batch.
_SAMPLE = 512
# Rows of a guide that are read at a time.
_BLOCK = 8192

Say = Callable[[str], None]


class PairPolicy(nn.Module):
    """Selects and treats pairs with more knowledge about their classes than the features of a batch.

    A subclass sets `selector`, and overrides the methods that it needs.

    Attributes:
        selector: selects the pairs. It identifies examples by their positions in the training set.
    """

    selector: Selector

    @property
    def ready(self) -> bool:
        """Whether the policy can select pairs yet. Until then the loss does not treat any."""
        return True

    def estimated(self, pairs: Tensor, rows: Tensor) -> float | None:
        """Estimate the purity of selected pairs without labels, as the mean of P(different class) over them.

        Args:
            pairs: (B, K) bool, the selected pairs of the views of this process with those of all processes.
            rows: (B,) positions of the views' images in the training set.

        Returns:
            The purity in [0, 1], or None where it is unknown.
        """
        return None

    def treatment(self, configured: Treatment | None) -> Treatment | None:
        """The treatment from now on: the configured one, unless the policy decides."""
        return configured

    @property
    def decisions(self) -> list[dict[str, Any]]:
        """All decisions so far as rows of plain values; see `AutoTreatment`."""
        return []

    def start_epoch(self, epoch: int) -> None:
        """Prepare for the first step of an epoch, counted from 0."""

    def observe(self, h: Tensor, rows: Tensor) -> None:
        """Read the features of a step: (2B, D) of both views, first views first, of the B images at `rows`."""


class AutoTreatment:
    """Decides whether a run treats its pairs, for `treatment="auto"`.

    Args:
        say: gets a line about every decision.
        seed: seed of the rows that a decision is based on.
        guide: whether a guide estimates the classes of pairs, instead of the run's own features.

    Attributes:
        decisions: one row per decision, with the epoch (from 1) from which on it holds, `on`, the treatment, the reason
            and the estimate. The values are plain, so checkpoints and ``decisions.jsonl`` can hold them.
    """

    def __init__(self, say: Say, seed: int, guide: bool = False) -> None:
        self.decisions: list[dict[str, Any]] = []
        self._say, self._seed, self._guide = say, seed, guide

    @property
    def treatment(self) -> Treatment:
        """The treatment of the last decision. It is neutral before the first decision."""
        return Treatment(**self.decisions[-1]["treatment"]) if self.decisions else Treatment()

    def decide(self, epoch: int, selector: ConfidentNegatives, features: Tensor) -> None:
        """Decide from the features (N, D) that the selector's affinity was just fitted to."""
        found = estimate(selector, features, seed=self._seed, guide=self._guide)
        self._keep(epoch, found.decide(), found)

    def stay_off(self, epoch: int, why: str) -> None:
        """Decide not to treat any pairs, for a reason."""
        self._keep(epoch, Decision(Treatment(), f"stays off: {why}"), None)

    def _keep(self, epoch: int, decision: Decision, found: Estimate | None) -> None:
        self._say(f"epoch {epoch}: {decision.reason}")
        self.decisions.append(
            {
                "epoch": epoch,
                "on": decision.on,
                "treatment": asdict(decision.treatment),
                "reason": decision.reason,
                "estimate": None if found is None else asdict(found),
            }
        )


class AffinityPolicy(PairPolicy):
    """Selects confident negatives by an `Affinity` that is fitted to the features of a guide before the first step.

    Args:
        config: gives the confidence and the share of selected pairs.
        features: (N, D) of the training images, by the guide. None leaves the fit to a subclass.
        say: gets a line about the fit.

    Raises:
        AffinityError: the features do not allow an estimate.
    """

    selector: ConfidentNegatives

    def __init__(self, config: TrainConfig, features: NDArray[np.float32] | None, say: Say) -> None:
        super().__init__()
        self._seed, self._say = config.seed, say
        self._auto = AutoTreatment(say, config.seed, features is not None) if config.treatment == "auto" else None
        self.selector = ConfidentNegatives(None, config.confidence, config.flagged_share)
        if features is not None:
            self._fit(torch.from_numpy(features), 0, "guide")

    @property
    def ready(self) -> bool:
        return self.selector.affinity is not None

    def treatment(self, configured: Treatment | None) -> Treatment | None:
        return configured if self._auto is None else self._auto.treatment

    @property
    def decisions(self) -> list[dict[str, Any]]:
        return [] if self._auto is None else self._auto.decisions

    @torch.no_grad()
    def estimated(self, pairs: Tensor, rows: Tensor) -> float | None:
        codes = self._affinity.codes_of(rows).contiguous()
        everyones = Processes(True, codes=codes).gather("codes", codes)  # also where this process selects no pair
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
        if self._auto is not None:
            self._auto.decide(epoch + 1, self.selector, features)

    def _describe(self, features: Tensor, when: str) -> None:
        rows = torch.randperm(len(features), generator=torch.Generator().manual_seed(self._seed))[:_SAMPLE]
        codes = self._affinity.codes_of(rows)
        same = self._affinity.between(codes, codes).fill_diagonal_(0).sum() / max(1, len(rows) * (len(rows) - 1))
        pairs = self.selector.masks(features[rows].float(), rows=rows).whole()
        purity = self.estimated(pairs, rows)
        found = "no pair is confidently of two classes" if purity is None else (
            f"{pairs.float().mean():.1%} are flagged, {purity:.1%} of these of different classes"
        )  # fmt: skip
        self._say(f"{when}: {float(same):.1%} of all pairs are estimated to be of one class; {found}")


class OwnFeaturesPolicy(AffinityPolicy):
    """An `AffinityPolicy` of the run's own features, averaged over epochs, with a new fit every few epochs.

    Args:
        config: gives the first epoch with a fit and the epochs between fits.
        n: number of images.
        width: dimensions of their features.
        say: gets a line about every fit, or about the reason for its absence.
    """

    def __init__(self, config: TrainConfig, n: int, width: int, say: Say) -> None:
        super().__init__(config, None, say)
        self.bank = FeatureBank(n, width)
        self._first, self._every = config.affinity_start, config.refit_every
        self._trouble = ""

    def start_epoch(self, epoch: int) -> None:
        if epoch < self._first or (epoch - self._first) % self._every:
            return
        try:
            self._fit(self.bank.features(), epoch, f"epoch {epoch + 1}")
        except AffinityError as error:
            self.selector.affinity = None
            if self._auto is not None:
                self._auto.stay_off(epoch + 1, str(error))
            elif str(error) != self._trouble:
                self._trouble = str(error)
                self._say(f"epoch {epoch + 1}: pairs are not treated, because {error}")

    def observe(self, h: Tensor, rows: Tensor) -> None:
        self.bank.update(h, rows)

    def get_extra_state(self) -> Any:
        """The affinity in use and the decisions. The bank has changed since the fit, so it cannot restore them."""
        affinity = self.selector.affinity
        return {"affinity": None if affinity is None else affinity.codes, "decisions": self.decisions}

    def set_extra_state(self, state: Any) -> None:
        """Restore the state of `get_extra_state`."""
        if self._auto is not None:
            self._auto.decisions = state["decisions"]
        codes = state["affinity"]
        if isinstance(codes, bytes):  # earlier checkpoints hold a safetensors file
            codes = safetensors.torch.load(codes)["codes"]
        self.selector.affinity = None if codes is None else Affinity(codes.cpu())


class FeatureBank(nn.Module):
    """A moving average of the unit features of N images over epochs and views. It is a buffer, so checkpoints hold it.

    The newest epoch has weight one half. A single view in the middle of training tells little about an image, and a
    mean tells more.

    Args:
        n: N images.
        width: D features of each. They are kept in half precision, 2 N D bytes.
    """

    rows: Tensor

    def __init__(self, n: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(n, width, dtype=torch.float16))

    @torch.no_grad()
    def update(self, h: Tensor, positions: Tensor) -> None:
        """Add the features of a batch.

        Args:
            h: (2B, D) of both views of B images, first views first.
            positions: (B,) positions of the images, each once.
        """
        first, second = F.normalize(h.detach().float(), dim=1).chunk(2)
        new = F.normalize(first + second, dim=1)
        # The row of an unseen image is zero, so its first mean is the new value.
        self.rows[positions] = F.normalize(0.5 * self.rows[positions].float() + 0.5 * new, dim=1).half()

    @torch.no_grad()
    def features(self) -> Tensor:
        """(N, D) float32 on the CPU. Images without a batch yet get the mean of the others, which is neutral."""
        rows = self.rows.float().cpu()
        unseen = rows.abs().amax(dim=1) == 0
        if bool(unseen.any()) and not bool(unseen.all()):
            rows[unseen] = rows[~unseen].mean(dim=0)
        return rows


class WindowPolicy(PairPolicy):
    """Never selects pairs of frames of one sequence that are close in time.

    Args:
        config: gives the band and the window.
        pairs: sequence and time of the N training frames.
    """

    selector: TemporalWindow

    def __init__(self, config: TrainConfig, pairs: TemporalPairs) -> None:
        super().__init__()
        self.selector = TemporalWindow(config.band(), config.window, pairs.sequences, pairs.times)


class UntreatedPolicy(PairPolicy):
    """`treatment="auto"` where pairs cannot be judged: it treats no pairs and gives the reason.

    Args:
        config: gives the band of its pairs.
        say: gets the reason.
        why: the reason.
    """

    def __init__(self, config: TrainConfig, say: Say, why: str) -> None:
        super().__init__()
        self.selector = config.band()
        self._auto = AutoTreatment(say, config.seed)
        self._auto.stay_off(1, why)

    @property
    def ready(self) -> bool:
        return False

    @property
    def decisions(self) -> list[dict[str, Any]]:
        return self._auto.decisions


def build_policy(config: TrainConfig, images: ImageSet, width: int, say: Say) -> PairPolicy | None:
    """Build the policy of a configuration, or None where the features of a batch alone select pairs.

    Args:
        config: gives `select`, `guide` and their settings.
        images: N training images.
        width: D features of each.
        say: gets a line about every fit and decision.

    Raises:
        DataError: a guide that does not fit the images (see `guide_features`), or a bank larger than `memory_gb`.
        AffinityError: a guide that does not allow an estimate.
    """
    if config.window and isinstance(images, FrameSet) and images.pairs is not None:
        return WindowPolicy(config, images.pairs)
    if config.select != "affinity":
        return None
    if config.method in UNJUDGED:
        why = f"method={config.method!r} cannot select by affinity, because {UNJUDGED[config.method]}"
        return UntreatedPolicy(config, say, why)
    if config.guide is not None:
        try:
            if config.guide == EXACT:
                features = exact_guide(config, images, say)
            else:
                features = guide_features(config.guide, images, config.memory_gb, config.seed)
            return AffinityPolicy(config, features, say)
        except (AffinityError, SpectralError) as error:
            if config.treatment != "auto" or config.guide not in (PATCHES, EXACT):
                raise
            return UntreatedPolicy(config, say, f"no guide can be made of these images: {error}")
    need = len(images) * width * (2 + 4)  # in half precision, and in full precision during a fit
    if need > config.memory_gb * 1e9:
        raise DataError(
            f"a bank of {len(images):,} x {width:,} features takes {need / 1e9:.2g} GB, and "
            f"memory_gb={config.memory_gb:g} GB are allowed: raise `memory_gb`, or use an encoder with fewer "
            "features, or a `guide`"
        )
    return OwnFeaturesPolicy(config, len(images), width, say)


def guide_features(file: Path, images: ImageSet, memory: float, seed: int = 0) -> NDArray[np.float32]:
    """Read or compute the features of a guide for the training images, in the order of the images.

    Args:
        file: "patches" computes `same_class.patch_features` of the images. Any other path is read by `open_features`.
            The file has a row for every image, in their order, or in any order with a column `row` that names the row
            of the image in its source.
        images: N training images.
        memory: GB that the features of a file may take.
        seed: seed of computed features.

    Returns:
        (N, D) float32, finite.

    Raises:
        DataError: the file cannot be read, belongs to other images, is not finite, or is larger than `memory`.
        AffinityError: the images do not allow patch features.
    """
    if file == PATCHES:
        return patch_features(images.images, seed=seed)
    source = open_features(str(file), NO_LABELS)
    n, width = source.shape
    if n != len(images):
        raise DataError(
            f"guide {file} has {n:,} rows, and there are {len(images):,} training images: it needs a row for each, so "
            "embed the same data with the same `per_class`, `drop` and `skip_corrupt`"
        )
    if 4 * n * width > memory * 1e9:
        raise DataError(
            f"guide {file} takes {4 * n * width / 1e9:.2g} GB ({n:,} x {width:,}), and memory_gb={memory:g} GB are "
            "allowed: raise `memory_gb`, or reduce the features to fewer dimensions"
        )
    features = np.empty((n, width), np.float32)
    for start, block in source.blocks(_BLOCK):
        wrong = ~np.isfinite(block).all(axis=1)
        if wrong.any():
            raise DataError(
                f"guide {file} row {start + int(wrong.argmax()):,} is not finite: look for a diverged encoder or an "
                "overflow in half precision"
            )
        features[start : start + len(block)] = block
    return features[_order(source, images, file)]


def _order(source: FeatureSource, images: ImageSet, file: Path) -> NDArray[np.int64]:
    """The position in the file of the features of each image."""
    positions = np.arange(len(images), dtype=np.int64)
    if np.array_equal(source.rows, positions) or len(images.rows) != len(images):
        return positions  # the file or the images have no row numbers
    missing = np.setdiff1d(images.rows, source.rows)
    if len(missing):
        raise DataError(
            f"guide {file} has no features of row {missing[0]:,} of the training images ({len(missing):,} such rows): "
            "embed the same data with the same `per_class`, `drop` and `skip_corrupt`"
        )
    order = np.argsort(source.rows, kind="stable")
    found: NDArray[np.int64] = order[np.searchsorted(source.rows[order], images.rows)]
    return found
