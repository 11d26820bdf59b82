"""`PatchEncoder`: an encoder of small images without gradient training, a layer of patches and a spectral map on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pairsift.neighbors import generator, kmeans, principal_axes, unit_rows
from pairsift.same_class.patches import PatchLayer, learned_layer, resized
from pairsift.spectral.checks import Log
from pairsift.spectral.errors import SpectralError, TooWideError
from pairsift.spectral.map import SpectralMap
from pairsift.spectral.moments import Array, Moments

# Images are pooled in a grid of so many cells a side.
_CELLS = 3
_SIZE, _PATCH = 32, 6
# The second layer: filters of the map it looks at, mean over cells of 3 x 3, principal components kept of a cell,
# cells of a patch's side, and the similarity that counts as none.
_INNER, _CELL, _KEPT, _SIDE, _LEAST = 256, 3, 64, 3, 0.05
_WHITENING = 0.1
# Images that layers and scales are learned from, patches drawn of each, and images that are encoded at once.
_IMAGES, _EACH, _BATCH = 10_000, 10, 128
# Ridges to choose from. Held-out views say nothing about what a probe can still use, so the width is not chosen.
_RIDGES, _WIDTH = (0.01, 0.03, 0.1), 512

Views = Callable[[Tensor], Tensor]
"""One random view of float images (B, 3, H, W) in [0, 1]."""


class SecondLayer(nn.Module):
    """Patches of the map that a first patch layer gives: whitened, and compared with their k-means centres.

    Args:
        filters: centres.
    """

    def __init__(self, filters: int) -> None:
        super().__init__()
        patch = _SIDE**2 * _KEPT
        self.register_buffer("inner", torch.zeros(_INNER, 3, _PATCH, _PATCH, dtype=torch.float32))
        self.register_buffer("offsets", torch.zeros(_INNER, dtype=torch.float32))
        self.register_buffer("centre", torch.zeros(_INNER, dtype=torch.float32))
        self.register_buffer("axes", torch.zeros(_INNER, _KEPT, dtype=torch.float32))
        self.register_buffer("patch_centre", torch.zeros(patch, dtype=torch.float32))
        self.register_buffer("whitening", torch.zeros(patch, patch, dtype=torch.float32))
        self.register_buffer("centres", torch.zeros(filters, patch, dtype=torch.float32))

    inner: Tensor
    offsets: Tensor
    centre: Tensor
    axes: Tensor
    patch_centre: Tensor
    whitening: Tensor
    centres: Tensor

    def cells(self, x: Tensor) -> Tensor:
        """(B, 256, 9, 9) square roots of the mean first map in cells of 3 x 3."""
        return F.avg_pool2d(PatchLayer(self.inner, self.offsets).maps(x), _CELL).sqrt_()

    def patches(self, cells: Tensor) -> Tensor:
        """(B, 49, 576) patches of 3 x 3 cells, in principal components."""
        reduced = (cells.flatten(2).transpose(1, 2) - self.centre) @ self.axes
        side = cells.shape[2]
        grid = reduced.transpose(1, 2).reshape(len(cells), _KEPT, side, side)
        patches: Tensor = F.unfold(grid, _SIDE).transpose(1, 2)
        return patches

    def forward(self, x: Tensor) -> Tensor:
        """(B, filters, 7, 7) rectified similarity of every patch of (B, 3, 32, 32) images to the centres."""
        patches = self.patches(self.cells(x))
        white = F.normalize((patches - self.patch_centre) @ self.whitening, dim=2)
        found = (white @ self.centres.T).sub_(_LEAST).clamp_min_(0)
        side = int(found.shape[1] ** 0.5)
        return found.transpose(1, 2).reshape(len(found), -1, side, side)

    def learn(self, images: Any, seed: int) -> None:
        """Set all filters from (N, 3, H, W) uint8 images, without labels."""
        rng = generator(seed + 1)
        first = learned_layer(images, _INNER, rng, seed + 1)
        self.inner.copy_(first.filters)
        self.offsets.copy_(first.offsets)
        at = np.sort(rng.choice(len(images), min(len(images), _IMAGES), replace=False))
        drawn = torch.from_numpy(rng.integers(0, 81, (len(at), _EACH)))
        cells = torch.cat([self.cells(resized(images[part])) for part in _parts(at)]).flatten(2).transpose(1, 2)
        seen = cells[torch.arange(len(at))[:, None], drawn].reshape(-1, _INNER)
        centre, _, vectors = principal_axes(seen.numpy())
        self.centre.copy_(torch.from_numpy(centre))
        self.axes.copy_(torch.from_numpy(np.ascontiguousarray(vectors[:, ::-1][:, :_KEPT], np.float32)))
        taken = torch.from_numpy(rng.integers(0, 49, (len(at), _EACH)))
        drawn_patches = []
        for start in range(0, len(at), _BATCH):
            part = cells[start : start + _BATCH].transpose(1, 2).reshape(-1, _INNER, 9, 9)
            where = taken[start : start + _BATCH]
            drawn_patches.append(self.patches(part)[torch.arange(len(part))[:, None], where])
        patches = torch.cat(drawn_patches).flatten(0, 1)
        centre, values, vectors = principal_axes(patches.numpy())
        whitening = (vectors / np.sqrt(values + _WHITENING * values.mean())) @ vectors.T
        self.patch_centre.copy_(torch.from_numpy(centre))
        self.whitening.copy_(torch.from_numpy(whitening.astype(np.float32)))
        white = unit_rows((patches.numpy() - centre) @ whitening.astype(np.float32))
        self.centres.copy_(torch.from_numpy(kmeans(white, len(self.centres), seed)))


class PatchEncoder(nn.Module):
    """Images to features: soft counts of learned patches in a grid of thirds, and a spectral map of them.

    The layer is of the kind of Coates, Lee and Ng (AISTATS 2011): k-means of whitened patches. What is new is the map
    on it, the exact minimiser of the spectral contrastive loss over random views; see `SpectralMap`.

    Args:
        filters: K of a layer.
        layers: 1 or 2 patch layers; features of both are joined.
        dimensions: k of the features h.
        mirrored: whether features of an image and of its mirror image are averaged.

    Example:
        >>> import torch
        >>> from pairsift.spectral import PatchEncoder
        >>> PatchEncoder(filters=50, dimensions=16)(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 16])
    """

    filters: Tensor
    offsets: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, filters: int = 400, layers: int = 1, dimensions: int = 512, mirrored: bool = True) -> None:
        super().__init__()
        if layers not in (1, 2):
            raise SpectralError(f"layers must be 1 or 2, got {layers!r}")
        self.mirrored, self.layers = mirrored, layers
        self.width = layers * filters * _CELLS**2
        self.register_buffer("filters", torch.zeros(filters, 3, _PATCH, _PATCH, dtype=torch.float32))
        self.register_buffer("offsets", torch.zeros(filters, dtype=torch.float32))
        self.register_buffer("scale", torch.ones(self.width, dtype=torch.float32))
        self.register_buffer("weight", torch.zeros(self.width, dimensions, dtype=torch.float32))
        self.register_buffer("bias", torch.zeros(dimensions, dtype=torch.float32))
        self.second = SecondLayer(filters) if layers == 2 else None

    @property
    def name(self) -> str:
        """What `named` builds an encoder of the same shape from."""
        return f"patches:{len(self.filters)}-{self.layers}-{self.weight.shape[1]}-{int(self.mirrored)}"

    @classmethod
    def named(cls, name: str) -> PatchEncoder:
        """An encoder with the shape that `name` says, not fitted.

        Raises:
            ValueError: no such name.
        """
        try:
            filters, layers, dimensions, mirrored = (int(each) for each in name.removeprefix("patches:").split("-"))
        except ValueError as error:
            raise ValueError(f"{name!r} names no patch encoder: filters-layers-dimensions-mirrored") from error
        return cls(filters, layers, dimensions, bool(mirrored))

    @torch.no_grad()
    def raw(self, images: Tensor) -> Tensor:
        """(B, 9 K layers) scaled soft counts of float images (B, 3, H, W) in [0, 1], not mirrored."""
        x = images * 255
        if x.shape[2:] != (_SIZE, _SIZE):
            x = F.interpolate(x, (_SIZE, _SIZE), mode="bilinear", antialias=True, align_corners=False)
        maps = [PatchLayer(self.filters, self.offsets).maps(x)]
        maps += [] if self.second is None else [self.second(x)]
        pooled = [F.adaptive_avg_pool2d(each, _CELLS).flatten(1) for each in maps]
        return torch.cat(pooled, dim=1) / self.scale

    def features(self, images: Tensor) -> Tensor:
        """(B, 9 K layers) what the map takes: `raw`, of an image and of its mirror image where `mirrored`."""
        features = self.raw(images)
        return (features + self.raw(images.flip(3))) / 2 if self.mirrored else features

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Float images (B, 3, H, W) in [0, 1] -> features h (B, k)."""
        return self.features(images) @ self.weight + self.bias

    @classmethod
    def fit(  # noqa: PLR0913 (settings are keywords)
        cls,
        images: Any,
        policy: Views,
        *,
        filters: int = 400,
        views: int = 4,
        layers: int = 1,
        dimensions: int = _WIDTH,
        power: float = 1.0,
        mirrored: bool = True,
        seed: int = 0,
        memory_gb: float = 4.0,
        device: str = "cpu",
        log: Log | None = None,
    ) -> tuple[PatchEncoder, SpectralMap]:  # fmt: skip
        """Learn the patch layers from images, and the map from random views of them.

        Args:
            images: (N, 3, H, W) uint8, N >= 200, an array or what gives one for an array of positions.
            policy: makes one random view of float images (B, 3, H, W) in [0, 1]; `data.SimCLRViews` say.
            filters: K of a layer.
            views: of each image, at least 2.
            layers: 1 or 2.
            dimensions: k of the features h, at most half of what the layers give; fewer where the views of few images
                share fewer directions.
            power: see `SpectralMap`.
            mirrored: see `PatchEncoder`.
            seed: of patches, clusters, views and held-out images.
            memory_gb: see `SpectralMap.fit`.
            device: where layers are computed.
            log: called with lines of text about what is found, and about the time left.

        Returns:
            The encoder, and its map with what held-out images said.

        Raises:
            SpectralError, AffinityError: too few images, images that are all alike, or settings out of range.
        """
        shape, kind = tuple(getattr(images, "shape", ())), getattr(images, "dtype", np.dtype(np.uint8))
        if len(shape) != 4 or shape[1] != 3 or kind != np.uint8:
            raise SpectralError(f"images must be (N, 3, H, W) uint8, got {kind} of shape {shape}")
        if len(images) < 200:
            raise SpectralError(f"{len(images)} images are too few to hold some out: at least 200 are needed")
        if isinstance(views, bool) or not isinstance(views, int) or views < 2:
            raise SpectralError(f"an image needs at least 2 views to make a positive pair, got views={views!r}")
        encoder = cls(filters, layers, 1, mirrored)
        encoder._learn(images, seed)
        encoder.to(device)
        stream = ImageViews(encoder, images, policy, views, seed)
        encoder.scale = encoder.scale * stream.spread()

        def fit(width: int) -> SpectralMap:
            return SpectralMap.fit(
                stream, dimensions=width, ridge=_RIDGES, power=power, criterion="loss", seed=seed, memory_gb=memory_gb,
                log=log,
            )  # fmt: skip

        try:
            fitted = fit(min(dimensions, encoder.width // 2))
        except TooWideError as error:  # few images share fewer directions
            fitted = fit(error.available)
        encoder.weight = torch.from_numpy(fitted.first_map.astype(np.float32))
        encoder.bias = torch.from_numpy((-fitted.first_mean @ fitted.first_map).astype(np.float32))
        return encoder.cpu(), fitted

    @torch.no_grad()
    def _learn(self, images: Any, seed: int) -> None:
        layer = learned_layer(images, len(self.filters), generator(seed), seed)
        self.filters.copy_(layer.filters)
        self.offsets.copy_(layer.offsets)
        if self.second is not None:
            self.second.learn(images, seed)


class ImageViews:
    """Random views of images as a `PairStream`: features are made when they are asked for, block by block.

    Args:
        encoder: whose layers are learned.
        images: (N, 3, H, W) uint8.
        policy: makes one random view.
        views: V of each image.
        seed: of the views; the same block of images always gets the same views.
    """

    def __init__(self, encoder: PatchEncoder, images: Any, policy: Views, views: int, seed: int) -> None:
        self._encoder, self._images, self._policy, self._seed = encoder, images, policy, seed
        self.views, self.rows = views, len(images)
        self.widths = (encoder.width, encoder.width)
        self.bytes_in_memory = 4 * self.rows * views * encoder.width

    def moments(self) -> Moments:
        """See `PairStream`."""
        return Moments(self.widths[0], None)

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Array, Array]]:
        """See `PairStream`; a block begins at a multiple of its own size."""
        stop = self.rows if stop is None else stop
        for at in range(start, stop, 4 * _BATCH):
            rows = np.arange(at, min(at + 4 * _BATCH, stop))
            x = np.concatenate(
                [self._seen(part, self.views) for part in np.split(rows, range(_BATCH, len(rows), _BATCH))]
            )
            yield at, x, x

    def taken(self, rows: NDArray[np.int64]) -> tuple[Array, Array]:
        """See `PairStream`; the views are those of the blocks, so whole batches are made again."""
        found = []
        for start in np.unique(rows // _BATCH * _BATCH):
            batch = np.arange(start, min(start + _BATCH, self.rows))
            found.append(self._seen(batch, self.views)[np.isin(batch, rows)])
        x = np.concatenate(found)
        return x, x

    def spread(self) -> Tensor:
        """(D,) standard deviations of the features of images, of at most 2,000 spread over the set."""
        rows = np.linspace(0, self.rows - 1, min(self.rows, 2000)).astype(np.int64)
        parts = [self._seen(part, 1) for part in np.split(rows, range(_BATCH, len(rows), _BATCH))]
        spread = torch.from_numpy(np.concatenate(parts)[:, 0].std(axis=0))
        return (torch.where(spread > 0, spread, 1) + 0.01 * spread.mean()).to(self._encoder.scale.device)

    def _seen(self, rows: NDArray[np.int64], views: int) -> Array:
        """(n, V, D) features of random views; one view is the image itself."""
        x = torch.from_numpy(np.ascontiguousarray(self._images[rows])).float() / 255
        if views == 1:
            return np.asarray(self._encoder.raw(x.to(self._encoder.scale.device)).cpu().numpy())[:, None]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash((self._seed, int(rows[0]), views)) & (2**62 - 1))
            made = [self._policy(x.clone()) for _ in range(views)]
        found = [self._encoder.raw(each.to(self._encoder.scale.device)).cpu().numpy() for each in made]
        return np.stack(found, axis=1)


def _parts(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return np.array_split(rows, -(-len(rows) // _BATCH))
