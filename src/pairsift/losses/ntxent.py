"""InfoNCE over two views per image (NT-Xent) with treated difficult pairs: Eqs. 13 to 16 of arXiv 2501.01317."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from pairsift.losses.distributed import Processes
from pairsift.losses.tiled import Job, Tile, info_nce
from pairsift.losses.treated import Selection, TreatedLoss, check_pairs, check_views
from pairsift.pairs import GivenMasks, PairMasks, Precision, RankBand
from pairsift.treatments import Treatment

Reduction = Literal["mean", "none"]


class NTXentLoss(TreatedLoss):
    """NT-Xent (SimCLR, arXiv 2002.05709) whose difficult pairs are found by rank and treated (Algorithm 1).

    Every view is an anchor: its positive is the other view of the same image, and the denominator runs over all other
    views. Without `band` or `treatment` it is plain NT-Xent. Half precision inputs are computed in float32, also under
    autocast, so that small temperatures neither overflow nor lose digits; float64 stays float64.

    Args:
        temperature: tau, > 0.
        band: which ranks are difficult; None selects nothing.
        treatment: what happens to them; None treats nothing.
        reduction: "mean" over all anchors, or "none" for the (2N,) loss of each anchor, first views first.
        select: "band", or "random" to flag the same number of pairs per row at random (the control experiment).
        seed: seed of the random selection.
        tile: rows that are compared at once: memory grows with rows times views instead of views squared. "auto" is
            "dense", whole matrices, below 256 views (16,384 on GPUs), and 256 rows above (fewer beyond 65,536 views).
            Both give the same to rounding; only "dense" can be differentiated twice.
        precision: "bf16" selects pairs by products of bfloat16 features, which is faster and not exact; see
            `select_pairs`.
        gather: in a process group (DDP), let every process compare its own views with the views of all processes, and
            rank among them; the loss, and the gradients that DDP averages, are those of one process with the whole
            batch, also where processes hold different numbers of images. Every process must call the loss and its
            backward pass. False keeps every process to its own views, and gathers nothing.

    Raises:
        ValueError: a setting out of range, or a treatment without a band to apply it to.
    """

    def __init__(
        self,
        temperature: float = 0.5,
        band: RankBand | None = None,
        treatment: Treatment | None = None,
        reduction: Reduction = "mean",
        select: Selection = "band",
        seed: int = 0,
        tile: Tile = "auto",
        precision: Precision = "fp32",
        gather: bool = True,
    ) -> None:
        super().__init__(band, treatment, select, seed, tile, precision, gather)
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature must be finite and > 0, got {temperature}")
        if reduction not in get_args(Reduction):
            raise ValueError(f"reduction must be 'mean' or 'none', got {reduction!r}")
        self.temperature = temperature
        self.reduction = reduction

    def select(self, h0: Tensor, h1: Tensor) -> Tensor:
        """Flag the difficult pairs of a batch, as `forward` does.

        Args:
            h0, h1: (N, D) features of the first and the second views.

        Returns:
            (2N, 2N) bool over the views, first views first; in a process group (2N, M) for the M views of all
            processes, those of one after those of the other.

        Raises:
            ValueError: the loss has no band, or see `select_pairs`.
        """
        h = torch.cat([h0, h1])
        return self._gathered_masks(Processes(self.gather, h=h), h).whole()

    def forward(
        self, z0: Tensor, z1: Tensor, h0: Tensor | None = None, h1: Tensor | None = None, *,
        pairs: Tensor | None = None, treated: bool = True,
    ) -> Tensor:  # fmt: skip
        """Loss of a batch of N images in two views each.

        Args:
            z0, z1: (N, d) projections of the first and the second views.
            h0, h1: (N, D) encoder features of the same views, on which pairs are selected; without them the
                projections are used, with a warning. Pairs carry no gradient.
            pairs: a selection already made, of the shape that `select` gives; overrides h0 and h1.
            treated: False: this call treats nothing, as before the warm-up's end.

        Returns:
            Scalar, or (2N,) with reduction "none"; float32, or float64 for float64 projections. In a process group the
            mean is over all processes, and the losses one by one are those of this process's views.

        Raises:
            ValueError: shapes that do not fit, or non-finite features to select on.
        """
        check_views(z0, z1, h0, h1)
        treatment, n = self._active if treated else None, len(z0)
        with torch.autocast(z0.device.type, enabled=False):
            z, h = torch.cat([z0, z1]), None
            if treatment is not None and pairs is None:
                h = torch.cat(self._selection_features(z0, z1, h0, h1))
            processes = Processes(self.gather, z=z, h=h)
            z = F.normalize(z if z.dtype == torch.float64 else z.float(), dim=1)
            keys, own = processes.gather("z", z), processes.before("z")
            masks: PairMasks | None = None
            if h is not None:
                masks = self._gathered_masks(processes, h)
            elif pairs is not None:
                check_pairs(pairs, (2 * n, len(keys)))
                masks = GivenMasks(pairs)
            positives = torch.arange(2 * n, device=z.device).roll(n) + own
            job = Job(self._rows_per_tile(len(keys), z.device), masks, treatment, own, positives)
            if self.reduction == "none":
                return info_nce(z, keys, self.temperature, job)
            return processes.mean(info_nce(z, keys, self.temperature, job, weight=processes.weight("z")))

    def extra_repr(self) -> str:
        return (
            f"temperature={self.temperature}, band={self.band}, treatment={self.treatment}, select={self.selection!r}"
        )
