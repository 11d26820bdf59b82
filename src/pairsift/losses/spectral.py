"""The spectral contrastive loss (arXiv 2106.04156) with treated difficult pairs: Eqs. 31 and 40 of arXiv 2501.01317."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pairsift.losses.distributed import Processes
from pairsift.losses.tiled import Job, Tile, squares
from pairsift.losses.treated import Selection, TreatedLoss, check_pairs, check_views
from pairsift.pairs import GivenMasks, PairMasks, Precision, RankBand
from pairsift.treatments import Treatment


class SpectralLoss(TreatedLoss):
    """`(1 / mu) (-2 mean_i <z_i, z'_i> + mean_{i != j} <z_i, z'_j>^2)`, rows scaled to sqrt(mu) where longer.

    The first views are anchors, the second views their positives and negatives. Pairs are ranked per first view among
    all second views. On a difficult pair the margin is added inside of the square (Eq. 31), and the temperature divides
    the product, also that of a positive that lies in the band (Eq. 40); neutral removal makes the product 0, excluding
    takes the pair out of the mean and never takes a positive.

    The loss of a finite population is the same with `positives` and `weights`: all vertices as both views, the
    probabilities of positive pairs and of vertices. It then equals `theory.population.margin_loss` and
    `temperature_loss`, as long as mu is large enough to scale no row.

    Args:
        mu: squared length of the longest row, > 0; the paper of the loss takes 1 for CIFAR and 10 for ImageNet. A
            baseline is fair only with mu tuned.
        band: which ranks are difficult; None selects nothing.
        treatment: what happens to them; None treats nothing. The margin counts in units of mu, so that one margin means
            the same at every mu.
        select: "band", or "random" to flag the same number of pairs per row at random (the control experiment).
        seed: seed of the random selection.
        tile, precision, gather: see `NTXentLoss`; a population is never gathered and always whole matrices.

    Raises:
        ValueError: a setting out of range, or a treatment without a band to apply it to.
    """

    def __init__(
        self,
        mu: float = 1.0,
        band: RankBand | None = None,
        treatment: Treatment | None = None,
        select: Selection = "band",
        seed: int = 0,
        tile: Tile = "auto",
        precision: Precision = "fp32",
        gather: bool = True,
    ) -> None:
        super().__init__(band, treatment, select, seed, tile, precision, gather)
        if not (math.isfinite(mu) and mu > 0):
            raise ValueError(f"mu must be finite and > 0, got {mu}")
        self.mu = mu

    def select(self, h0: Tensor, h1: Tensor) -> Tensor:
        """Flag the difficult pairs of a batch, as `forward` does.

        Args:
            h0, h1: (N, D) features of the first and the second views.

        Returns:
            (N, N) bool, first views by second views; in a process group (N, M) for the M second views of all processes.

        Raises:
            ValueError: the loss has no band, or see `select_pairs`.
        """
        return self._masks(h0, Processes(self.gather, h=h1).gather("h", h1.detach())).whole()

    def forward(
        self, z0: Tensor, z1: Tensor, h0: Tensor | None = None, h1: Tensor | None = None, *,
        pairs: Tensor | None = None, positives: Tensor | None = None, weights: Tensor | None = None,
        treated: bool = True,
    ) -> Tensor:  # fmt: skip
        """Loss of a batch of N images in two views each, or of a population.

        Args:
            z0, z1: (N, d) projections of the first and the second views; for a population the same twice.
            h0, h1: (N, D) encoder features of the same views, on which pairs are selected; without them the
                projections are used, with a warning. Pairs carry no gradient.
            pairs: a selection already made, of the shape that `select` gives; overrides h0 and h1.
            positives: (N, N) probabilities of positive pairs, summing to 1; None takes each row with its other view.
            weights: (N,) probabilities of rows, summing to 1: negatives are then all N x N pairs, weighted by the
                product. None takes all pairs of different rows alike.
            treated: False: this call treats nothing, as before the warm-up's end.

        Returns:
            Scalar; float32, or float64 for float64 projections.

        Raises:
            ValueError: shapes that do not fit, a single image without weights, or non-finite features to select on.
        """
        check_views(z0, z1, h0, h1)
        _check_population(positives, weights, len(z0))
        treatment = self._active if treated else None
        with torch.autocast(z0.device.type, enabled=False):
            f0 = f1 = None
            if treatment is not None and pairs is None:
                f0, f1 = self._selection_features(z0, z1, h0, h1)
            processes = Processes(self.gather and positives is None and weights is None, z=z0, h=f1)
            if processes.total("z") == 1 and weights is None:
                raise ValueError("one image has no negatives: the spectral loss needs at least two")
            first, second = self._bounded(z0), self._bounded(z1)
            keys = processes.gather("z", second)
            masks: PairMasks | None = None
            if f0 is not None and f1 is not None:
                masks = self._masks(f0, processes.gather("h", f1.detach()))
            elif pairs is not None:
                check_pairs(pairs, (len(z0), len(keys)))
                masks = GivenMasks(pairs)
            own = torch.arange(len(z0), device=z0.device) + processes.before("z")
            job = Job(self._rows_per_tile(len(keys), z0.device), masks, treatment, positives=own)
            if positives is not None or weights is not None:
                return self._population(first @ second.T, job, positives, weights)
            by_tiles = self._sums if job.rows is None else self._tiled_sums
            attraction, repulsion, count = by_tiles(first, second, keys, job)
            # Where every pair is excluded nothing repels.
            repulsion = repulsion * (processes.size / processes.sum(count).clamp_min(1).to(repulsion.dtype))
            return processes.mean((repulsion - 2 * attraction * processes.weight("z")) / self.mu)

    def _population(self, products: Tensor, job: Job, positives: Tensor | None, weights: Tensor | None) -> Tensor:
        share = torch.ones_like(products) if weights is None else weights[:, None] * weights
        if weights is None:
            share.fill_diagonal_(0)
        attracted, repelled, share = self._treated(products, job, share)
        attraction = attracted.diagonal().mean() if positives is None else (positives * attracted).sum()
        repulsion = (share * repelled**2).sum() / share.sum().clamp_min(torch.finfo(share.dtype).tiny)
        return (repulsion - 2 * attraction) / self.mu

    def _sums(self, first: Tensor, second: Tensor, keys: Tensor, job: Job) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of the products that attract, of the squares that repel, and how many repel, by whole matrices."""
        assert job.positives is not None
        where = job.positives[:, None]
        products = first @ keys.T
        share = torch.ones_like(products).scatter_(1, where, 0)
        attracted, repelled, share = self._treated(products, job, share)
        return attracted.gather(1, where).sum(), (share * repelled**2).sum(), share.sum()

    def _tiled_sums(self, first: Tensor, second: Tensor, keys: Tensor, job: Job) -> tuple[Tensor, Tensor, Tensor]:
        """`_sums` by tiles."""
        repulsion, count, flagged = squares(first, keys, self.mu, job)
        attracted = (first * second).sum(dim=1)
        if job.treatment is not None and job.treatment.removal != "exclude":
            factor, _ = job.treatment.affine(1.0)
            attracted = attracted * (1 + flagged * (factor - 1))
        return attracted.sum(), repulsion, count

    def _treated(self, products: Tensor, job: Job, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Products that attract, products that repel, and the share of each pair, with difficult pairs treated."""
        if not job.treats or job.treatment is None or job.masks is None:
            return products, products, share
        pairs, treatment = job.masks.whole(), job.treatment
        if treatment.removal == "exclude":
            return products, products, share.masked_fill(pairs, 0)
        if treatment.removal == "neutral":
            removed = products.masked_fill(pairs, 0)
            return removed, removed, share
        scaled = torch.where(pairs, products / treatment.temperature_scale, products)
        offset = treatment.margin * self.mu / treatment.temperature_scale
        return scaled, torch.where(pairs, scaled + offset, scaled), share

    def _bounded(self, z: Tensor) -> Tensor:
        z = z if z.dtype == torch.float64 else z.float()
        lengths = z.norm(dim=1, keepdim=True).clamp_min(1e-30)
        bounded: Tensor = z * (math.sqrt(self.mu) / lengths).clamp_max(1)
        return bounded

    def extra_repr(self) -> str:
        return f"mu={self.mu}, band={self.band}, treatment={self.treatment}, select={self.selection!r}"


def _check_population(positives: Tensor | None, weights: Tensor | None, n: int) -> None:
    for name, given, shape in (("positives", positives, (n, n)), ("weights", weights, (n,))):
        if given is None:
            continue
        if given.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(given.shape)}")
        if not torch.isclose(given.sum(), given.new_ones(()), atol=1e-5):
            raise ValueError(f"{name} are probabilities and must sum to 1, got {float(given.sum()):.6g}")
