"""Encoders that map images to features, the projector, and the features of whole sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from pairsift._base.checks import take_renamed
from pairsift.data import ImageSet, to_float
from pairsift.data.columns import with_class_names
from pairsift.data.tables import write_table
from pairsift.spectral import PatchEncoder


@contextmanager
def float32_by_default() -> Iterator[None]:
    """Create new tensors and parameters in float32 inside the block, whatever torch's default dtype is."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (arXiv 1512.03385).

    Args:
        n_in, n_out: channels before and after.
        stride: of the first convolution; where it is not 1, the shortcut is a convolution of the same stride.
    """

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(n_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in, H, W) -> (B, n_out, H / stride, W / stride), rounded up."""
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y)) + self.shortcut(x)
        return F.relu(y, inplace=True)


class ResNet(nn.Module):
    """ResNet for small images: 3x3 stem without max-pool, stages of basic blocks, global average pooling.

    Args:
        widths: channels of each stage; the last is the feature dimension.
        blocks: blocks in each stage.
        stem_stride: stride of the stem; stages after the first halve the resolution.
    """

    def __init__(self, widths: Sequence[int], blocks: Sequence[int], stem_stride: int = 1) -> None:
        super().__init__()
        stem = nn.Conv2d(3, widths[0], 3, stem_stride, padding=1, bias=False)
        layers: list[nn.Module] = [stem, nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
        n_in = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
            for block in range(depth):
                layers.append(BasicBlock(n_in, width, stride=2 if stage > 0 and block == 0 else 1))
                n_in = width
        self.layers = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, widths[-1])."""
        features: Tensor = self.layers(images)
        return features.mean(dim=(2, 3))


class Projector(nn.Sequential):
    """The MLP g between features h and projections z, which is not used after training (Algorithm 1).

    Args:
        n_features: width of h, (B, n_features).
        n_hidden: width of the hidden layer.
        n_out: width of z, (B, n_out).
    """

    def __init__(self, n_features: int, n_hidden: int, n_out: int) -> None:
        super().__init__(
            nn.Linear(n_features, n_hidden, bias=False),
            nn.BatchNorm1d(n_hidden),
            nn.ReLU(inplace=True),
            nn.Linear(n_hidden, n_out),
        )


class MLP(nn.Sequential):
    """An MLP of three layers on flattened rows.

    Args:
        width: D numbers per row, (B, D) or (B, ...).
        n_hidden: width of the two hidden layers.
        n_out: dimension of the features.
    """

    def __init__(self, width: int, n_hidden: int = 256, n_out: int = 128) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in in (width, n_hidden):
            layers += [nn.Linear(n_in, n_hidden, bias=False), nn.BatchNorm1d(n_hidden), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Linear(n_hidden, n_out))


class ImageEncoder(nn.Module):
    """A backbone with the input normalisation of its training, so that both are saved and loaded together.

    Args:
        backbone: maps float images (B, 3, H, W) to features (B, D).
        mean, std: per-channel statistics of the training images in [0, 1], three values each.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: nn.Module, mean: Sequence[float] = (0.5, 0.5, 0.5), std: Sequence[float] = (0.25, 0.25, 0.25)
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Float images (B, 3, H, W) in [0, 1] -> features h (B, D)."""
        images = ((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        features: Tensor = self.backbone(images)
        return features


class FrameEncoder(ImageEncoder):
    """An `ImageEncoder` for frames that are vectors.

    Args:
        backbone: maps (B, D) to features.
        mean, std: statistics of the training frames, D values each.
    """

    def __init__(self, backbone: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        nn.Module.__init__(self)
        self.backbone = backbone
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        """Frames (B, D) -> features h (B, n_features)."""
        features: Tensor = self.backbone((images - self.mean) / self.std)
        return features


def with_statistics(backbone: nn.Module, mean: Sequence[float], std: Sequence[float], vectors: bool) -> ImageEncoder:
    """Put the normalisation of images, or of vectors, in front of a backbone."""
    return (FrameEncoder if vectors else ImageEncoder)(backbone, mean, std)


_BUILTIN: dict[str, Callable[[], nn.Module]] = {
    "resnet-small": lambda: ResNet((32, 64, 128), (2, 2, 2), stem_stride=2),
    "resnet18": lambda: ResNet((64, 128, 256, 512), (2, 2, 2, 2)),
}


@float32_by_default()
def build_encoder(name: str) -> nn.Module:
    """Build a backbone by name, with new float32 weights.

    Names are ``resnet-small`` (widths 32-64-128, 26 M multiply-adds at 32 px, 128 features), ``resnet18`` (the CIFAR
    form with 3x3 stem, no max-pool and 512 features), ``mlp:D`` (three layers on D numbers, 128 features), and
    ``timm:NAME`` and ``torchvision:NAME`` (without pretrained weights) where those packages are installed.

    Raises:
        ValueError: the name is unknown, or its package is missing or does not import.

    Example:
        >>> import torch
        >>> from pairsift.train import ImageEncoder, build_encoder
        >>> encoder = ImageEncoder(build_encoder("resnet-small"))
        >>> encoder(torch.rand(4, 3, 32, 32)).shape  # images in [0, 1]
        torch.Size([4, 128])
    """
    if name in _BUILTIN:
        return _BUILTIN[name]()
    library, _, model = name.partition(":")
    if library == "patches":
        return PatchEncoder.named(name)
    if library == "mlp" and model.isdecimal():
        return MLP(int(model))
    if library not in ("timm", "torchvision") or not model:
        raise ValueError(f"unknown encoder {name!r}: use {', '.join(_BUILTIN)}, mlp, timm:NAME or torchvision:NAME")
    try:
        return _from_timm(model) if library == "timm" else _from_torchvision(model)
    except (ImportError, OSError, RuntimeError) as error:  # a wheel built for another torch: OSError or RuntimeError
        raise ValueError(
            f"encoder {name!r} needs a {library} that works with the installed torch: pip install 'pairsift[vision]' "
            f"({type(error).__name__}: {error})"
        ) from error


def n_features(encoder: nn.Module, image_shape: Sequence[int]) -> int:
    """The feature dimension D of an encoder, from encoding two blank images.

    Args:
        encoder: maps (B, C, H, W) to (B, D).
        image_shape: C, H, W; or D of frames that are vectors.

    Raises:
        ValueError: the encoder does not return a (B, D) tensor.
    """
    training = encoder.training
    with torch.no_grad():
        features = encoder.eval()(_weight(encoder).new_zeros(2, *image_shape))
    encoder.train(training)
    if not (isinstance(features, Tensor) and features.dim() == 2 and len(features) == 2):
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(f"an encoder must map images (B, C, H, W) to features (B, D); two images gave {got}")
    return features.shape[1]


@torch.no_grad()
def embed(
    encoder: nn.Module, images: ImageSet, batch_size: int = 512, precision: str = "fp32",
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Compute the features h of un-augmented images, or of frames.

    Args:
        encoder: float images (B, 3, H, W) in [0, 1], or frames (B, W), -> (B, D). It runs in evaluation mode on its own
            device.
        images: N images, or a `FrameSet` of N frames. `temporal.by_row` averages the result over sequences.
        batch_size: images per forward pass.
        precision: "fp32", "bf16" or "fp16" (autocast).
        progress: called with the number of finished images and N.

    Returns:
        (N, D) float32.

    Raises:
        ValueError: there are no images.

    Example:
        >>> from pairsift.data import load_images
        >>> from pairsift.train import ImageEncoder, build_encoder, embed
        >>> images = load_images("digits:test", per_class=10)
        >>> embed(ImageEncoder(build_encoder("resnet-small")), images).shape
        (100, 128)
    """
    if len(images) == 0:
        raise ValueError("there are no images to embed")
    weight = _weight(encoder)
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    training = encoder.training
    encoder.eval()
    out = []
    for start in range(0, len(images), batch_size):
        rows = np.arange(start, min(start + batch_size, len(images)))
        batch = torch.from_numpy(np.ascontiguousarray(images.images[rows])).to(weight.device)
        batch = (batch if images.vectors else to_float(batch)).to(weight.dtype)
        with torch.autocast(batch.device.type, dtype, enabled=precision != "fp32"):
            out.append(encoder(batch).float().cpu().numpy())
        if progress is not None:
            progress(int(rows[-1]) + 1, len(images))
    encoder.train(training)
    return np.concatenate(out)


def write_features(path: Path, features: NDArray[np.float32], images: ImageSet) -> None:
    """Write features as parquet: `row` (in the source), `features`, and where known `label`, `path` and `mixed`.

    The schema holds the class names in the form that Hugging Face `datasets` and `open_features` read.

    Args:
        path: file to write.
        features: (N, D), written as a fixed-size list.
        images: the N images of the features.

    Raises:
        OSError: the file cannot be written, and no part of it is left.
    """
    flat = pa.array(np.ascontiguousarray(features, dtype=np.float32).ravel())
    columns = {"row": pa.array(images.rows), "features": pa.FixedSizeListArray.from_arrays(flat, features.shape[1])}
    if images.labels is not None:
        columns["label"] = pa.array(images.labels)
    if images.paths is not None:
        columns["path"] = pa.array(list(images.paths))
    if images.mixed is not None:
        columns["mixed"] = pa.array(images.mixed)
    write_table(path, with_class_names(pa.table(columns), "label", images.class_names))


def encode_in_chunks(encoder: nn.Module, inputs: Tensor, mini_batch_size: int, **old: int) -> Tensor:
    """Encode all rows in parts, so that the backward pass holds the activations of one part at a time.

    Each part is encoded twice: first without keeping activations, and again when the gradient of its features is known,
    as in GradCache (arXiv 2101.06983). A loss over all rows therefore needs the encoder's memory of one part. Gradients
    equal those of encoding all rows together, with the same random draws in both passes. Batch norm is the exception,
    because it uses the statistics of a part. Its running statistics count every part once. The sizes of parts differ by
    at most one row.

    Args:
        encoder: (rows, ...) -> (rows, D).
        inputs: (B, ...).
        mini_batch_size: most rows of a part, > 0. A part gets one more where a single row would be left over, because
            a single row has no batch statistics.

    Returns:
        (B, D).

    Raises:
        ValueError: mini_batch_size <= 0.

    Example:
        >>> import torch
        >>> from pairsift.losses import NTXentLoss
        >>> from pairsift.train import encode_in_chunks
        >>> encoder = torch.nn.Linear(8, 4)
        >>> view0, view1 = torch.randn(64, 8), torch.randn(64, 8)
        >>> h = encode_in_chunks(encoder, torch.cat([view0, view1]), mini_batch_size=16)
        >>> h.shape
        torch.Size([128, 4])
        >>> NTXentLoss()(*h.chunk(2)).backward()  # compares all 128 views
        >>> encoder.weight.grad.shape
        torch.Size([4, 8])
    """
    take_renamed("encode_in_chunks", old, {}, {"chunk": "mini_batch_size"})
    if mini_batch_size <= 0:
        raise ValueError(f"mini_batch_size must be positive, got {mini_batch_size}")
    parts = -(-len(inputs) // mini_batch_size)
    if mini_batch_size > 1:
        parts = min(parts, max(1, len(inputs) // 2))
    encoded = [
        checkpoint(encoder, part, use_reentrant=False, context_fn=lambda: (nullcontext(), _without_statistics(encoder)))
        for part in torch.tensor_split(inputs, parts)
    ]
    return torch.cat(encoded)


@contextmanager
def _without_statistics(encoder: nn.Module) -> Iterator[None]:
    """Keep running statistics unchanged, because the second encoding of a part must not count it again."""
    norms = [module for module in encoder.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches


def _weight(encoder: nn.Module) -> Tensor:
    """A tensor with the device and the dtype of an encoder's weights, float32 on the CPU for an encoder without."""
    weight: Tensor = next(encoder.parameters(), torch.empty(0, dtype=torch.float32)).detach()
    return weight


def _from_timm(model: str) -> nn.Module:
    import timm

    encoder: nn.Module = timm.create_model(model, pretrained=False, num_classes=0)
    return encoder


def _from_torchvision(model: str) -> nn.Module:
    import torchvision

    encoder: nn.Module = torchvision.models.get_model(model, weights=None)
    for head in ("fc", "classifier", "head", "heads"):
        if hasattr(encoder, head):
            setattr(encoder, head, nn.Identity())
            return encoder
    raise ValueError(f"torchvision:{model} has no classification head that can be removed")
