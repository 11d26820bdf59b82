"""What every treated objective shares: settings, selection, its random control, and what they remember."""

from __future__ import annotations

import warnings
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pairsift.losses.distributed import Processes, own_rank
from pairsift.losses.tiled import Tile, check_tile, rows_per_tile
from pairsift.pairs import BandMasks, GivenMasks, PairMasks, Precision, RankBand, random_pairs
from pairsift.treatments import Treatment

Selection = Literal["band", "random"]


class TreatedLoss(nn.Module):
    """An objective with difficult pairs: which they are, and what happens to them.

    Args:
        band: which ranks are difficult; None selects nothing.
        treatment: what happens to them; None treats nothing.
        select: "band", or "random" to flag the same number of pairs per row at random (the control experiment).
        seed: seed of the random selection.
        tile: rows that are compared at once; see `NTXentLoss`.
        precision: of the products that pairs are selected by; see `select_pairs`.
        gather: whether the batch is spread over all processes of a process group; see `NTXentLoss`.

    Raises:
        ValueError: an unknown selection, tile or precision, or a treatment without a band to apply it to.
    """

    def __init__(
        self, band: RankBand | None, treatment: Treatment | None, select: Selection, seed: int, tile: Tile = "auto",
        precision: Precision = "fp32", gather: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        if treatment is not None and not treatment.is_neutral and band is None:
            raise ValueError(f"{treatment} needs a band that says which pairs it treats: pass band=RankBand(high, low)")
        if select not in get_args(Selection):
            raise ValueError(f"select must be 'band' or 'random', got {select!r}")
        self.band = band
        self.treatment = treatment
        self.selection = select
        if precision not in get_args(Precision):
            raise ValueError(f"precision must be 'fp32' or 'bf16', got {precision!r}")
        self.seed = seed
        self.tile = check_tile(tile)
        self.precision: Precision = precision
        self.gather = gather
        self._draws = 0
        self._warned = False

    @property
    def _active(self) -> Treatment | None:
        """The treatment, None where it changes nothing and no pair need be selected."""
        return None if self.treatment is None or self.treatment.is_neutral else self.treatment

    def _rows_per_tile(self, keys: int, device: torch.device) -> int | None:
        """Rows of a tile against so many keys, None for whole matrices."""
        return rows_per_tile(self.tile, keys, device)

    def _masks(self, features: Tensor, keys: Tensor | None = None, own: int | None = None) -> PairMasks:
        """The selection of anchors among keys (see `BandMasks`); one by band is made when it is needed, by tiles."""
        if self.band is None:
            raise ValueError("this loss has no band to select pairs with: pass band=RankBand(high, low)")
        masks = BandMasks(features, self.band, keys, own, self.precision)
        if self.selection == "band":
            return masks
        # A fresh stream per call, derived from (seed, draw): saved runs resume on the same draws.
        seed = self.seed * 1_000_003 + self._draws + own_rank() * 100_000_007
        self._draws += 1
        pairs = masks.whole()
        generator = torch.Generator(pairs.device).manual_seed(seed % 2**63)
        return GivenMasks(random_pairs(pairs, generator, own=0 if keys is None else own))

    def _gathered_masks(self, processes: Processes, features: Tensor) -> PairMasks:
        """The selection of this process's rows among the rows of all; `processes` knows the features as h."""
        if processes.size == 1:
            return self._masks(features)
        return self._masks(features, processes.gather("h", features.detach()), processes.before("h"))

    def _selection_features(
        self, z0: Tensor, z1: Tensor, h0: Tensor | None, h1: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if h0 is not None and h1 is not None:
            return h0, h1
        if not self._warned:
            self._warned = True
            warnings.warn(
                "pairs are selected on the projections z because no features h were given: the projector discards what "
                "tells classes apart, and the gain of the treatment shrinks or disappears (arXiv 2501.01317, Table 7: "
                "CIFAR-10 89.68 with h, 87.86 with z, 88.26 untreated). Call loss(z0, z1, h0, h1).",
                stacklevel=4,
            )
        return z0.detach(), z1.detach()

    def get_extra_state(self) -> Any:
        return {"draws": self._draws}

    def set_extra_state(self, state: Any) -> None:
        self._draws = state["draws"]


def check_alike(z0: Tensor, z1: Tensor, h0: Tensor | None, h1: Tensor | None) -> None:
    """Refuse projections, or features, of two dtypes, whole numbers, and tensors on several devices.

    Features may be of another dtype than projections: under autocast they often are.
    """
    for name, first, second in (("projections", z0, z1), ("features", h0, h1)):
        if first is None or second is None:
            continue
        if first.dtype != second.dtype or not first.is_floating_point():
            raise ValueError(
                f"both {name} must be floating point of one dtype, got {first.dtype} and {second.dtype}: make them "
                "under one autocast, or cast one of them"
            )
    devices = [str(each.device) for each in (z0, z1, h0, h1) if each is not None]
    if len(set(devices)) > 1:
        raise ValueError(f"all projections and features must be on one device, got {', '.join(devices)}")


def check_views(z0: Tensor, z1: Tensor, h0: Tensor | None, h1: Tensor | None) -> None:
    """Refuse shapes that do not fit: (N, d) twice, and (N, D) twice or not at all; see also `check_alike`."""
    if z0.dim() != 2 or z0.shape != z1.shape or 0 in z0.shape:
        raise ValueError(
            f"z0 and z1 must be non-empty (N, d) matrices of one shape, got {tuple(z0.shape)} and {tuple(z1.shape)}"
        )
    if (h0 is None) != (h1 is None):
        raise ValueError("pass the features of both views (h0 and h1) or of neither")
    if h0 is not None and h1 is not None and (h0.dim() != 2 or h0.shape != h1.shape or len(h0) != len(z0)):
        raise ValueError(
            f"h0 and h1 must be (N, D) with N = {len(z0)} as in z0, got {tuple(h0.shape)} and {tuple(h1.shape)}"
        )
    check_alike(z0, z1, h0, h1)


def check_pairs(pairs: Tensor, shape: tuple[int, int]) -> None:
    """Refuse a given selection of another type or shape."""
    if pairs.shape != shape or pairs.dtype != torch.bool:
        raise ValueError(f"pairs must be bool of shape {shape}, got {pairs.dtype} {tuple(pairs.shape)}")
