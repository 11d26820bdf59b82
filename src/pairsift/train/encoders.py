"""Encoders that map images to features, and the projector that the loss sees through."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
    """The MLP g between features h and projections z; thrown away after training (Algorithm 1).

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
    """Three layers on whatever a row holds, flat.

    Args:
        width: D numbers of a row, (B, D) or (B, ...) with as many.
        n_hidden: width of the two hidden layers.
        n_out: dimension of the features.
    """

    def __init__(self, width: int, n_hidden: int = 256, n_out: int = 128) -> None:
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in in (width, n_hidden):
            layers += [nn.Linear(n_in, n_hidden, bias=False), nn.BatchNorm1d(n_hidden), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Linear(n_hidden, n_out))


class ImageEncoder(nn.Module):
    """A backbone with the input normalisation it was trained with, so that both are saved and loaded as one.

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
    """The same for frames that are vectors.

    Args:
        backbone: maps (B, D) to features.
        mean, std: of the training frames, D values each.
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
    """A backbone behind the normalisation of images, or of vectors, by the statistics of the training set."""
    return (FrameEncoder if vectors else ImageEncoder)(backbone, mean, std)


_BUILTIN: dict[str, Callable[[], nn.Module]] = {
    "resnet-small": lambda: ResNet((32, 64, 128), (2, 2, 2), stem_stride=2),
    "resnet18": lambda: ResNet((64, 128, 256, 512), (2, 2, 2, 2)),
}


def build_encoder(name: str) -> nn.Module:
    """A backbone by name, freshly initialised.

    ``resnet-small`` (widths 32-64-128, 26 M multiply-adds at 32 px, 128 features); ``resnet18`` (the CIFAR form: 3x3
    stem, no max-pool, 512 features); ``mlp:D`` (three layers on D numbers, 128 features); ``timm:NAME`` and
    ``torchvision:NAME`` where those packages work, without weights.

    Raises:
        ValueError: unknown name, or a package that is missing or does not import.

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
    """Feature dimension D of an encoder, found by encoding two blank images.

    Args:
        encoder: maps (B, C, H, W) to (B, D).
        image_shape: C, H, W; or D of frames that are vectors.

    Raises:
        ValueError: the encoder does not return a (B, D) tensor.
    """
    training = encoder.training
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    with torch.no_grad():
        features = encoder.eval()(torch.zeros(2, *image_shape, device=device))
    encoder.train(training)
    if not (isinstance(features, Tensor) and features.dim() == 2 and len(features) == 2):
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(f"an encoder must map images (B, C, H, W) to features (B, D); two images gave {got}")
    return features.shape[1]


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
    raise ValueError(f"torchvision:{model} has no classification head that could be taken off")
