"""Measures the time of views: ours, PIL image by image, kornia, and the share of a training step.

    python -m lab.benchmarks.input [--batch 256] [--threads 1] [--output lab/benchmarks/results/input.jsonl]

One JSON line: median milliseconds of two SimCLR views of a batch of 32-pixel images (CIFAR-10 from PAIRSIFT_DATA, or
noise), and of a bf16 training step of the small encoder on them.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageEnhance

from lab.benchmarks._common import emit, environment, median_ms, ratio
from lab.benchmarks.step import training_step
from pairsift.data import SimCLRViews, load_images, make_views

TARGETS = {"pil_over_ours": 4.0, "ours_over_step": 0.1}


def pil_view(image: Image.Image, draw: random.Random) -> Image.Image:
    """One SimCLR view of one image: crop 0.2-1, flip, jitter 0.4/0.4/0.4/0.1 with probability 0.8, grey 0.2."""
    side = image.width
    for _ in range(10):
        area = side * side * draw.uniform(0.2, 1.0)
        aspect = math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= side and 0 < height <= side:
            left, top = draw.randint(0, side - width), draw.randint(0, side - height)
            image = image.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
            break
    if draw.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if draw.random() < 0.8:
        enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color, None)
        for enhancer in draw.sample(enhancers, 4):
            if enhancer is not None:
                image = enhancer(image).enhance(draw.uniform(0.6, 1.4))
            else:
                hue, saturation, value = image.convert("HSV").split()
                shift = round(255 * draw.uniform(-0.1, 0.1))
                hue = hue.point([(level + shift) % 256 for level in range(256)])
                image = Image.merge("HSV", (hue, saturation, value)).convert("RGB")
    if draw.random() < 0.2:
        image = image.convert("L").convert("RGB")
    return image


def to_tensor(image: Image.Image) -> torch.Tensor:
    """The image as a float tensor (3, H, W) in [0, 1], as the last step of a data loader."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255)


def kornia_policy() -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The same policy in kornia, or None if it cannot be imported."""
    try:
        import kornia.augmentation as kornia
    except ImportError as error:
        print(f"kornia cannot be imported, its fields are null: {error}", file=sys.stderr)
        return None
    return kornia.AugmentationSequential(
        kornia.RandomResizedCrop((32, 32), scale=(0.2, 1.0)),
        kornia.RandomHorizontalFlip(),
        kornia.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        kornia.RandomGrayscale(p=0.2),
    )


def batch_of_images(n: int) -> tuple[str, torch.Tensor]:
    """The name of the images, and the images (n, 3, 32, 32), uint8."""
    if "PAIRSIFT_DATA" in os.environ:
        root = Path(os.environ["PAIRSIFT_DATA"])
        for file in (root / "data/cifar10/train.parquet", root / "cifar10/train.parquet"):
            if file.exists():
                return "cifar10", torch.from_numpy(load_images(str(file), per_class=n).images[:n])
        print("PAIRSIFT_DATA holds no cifar10/train.parquet: measured on noise", file=sys.stderr)
    return "noise", torch.randint(0, 256, (n, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    source, images = batch_of_images(options.batch)
    pil_images = [Image.fromarray(image.transpose(1, 2, 0)) for image in images.numpy()]
    draw = random.Random(0)
    in_kornia = kornia_policy()

    def pil() -> tuple[torch.Tensor, ...]:
        return tuple(torch.stack([to_tensor(pil_view(image, draw)) for image in pil_images]) for _ in range(2))

    contenders = {
        "ours": lambda: make_views(images, SimCLRViews(), 0),
        "pil": pil,
        "step": training_step("simclr", False, options.batch, "resnet-small", 128),
    }
    if in_kornia is not None:
        contenders["kornia"] = lambda: make_views(images, in_kornia, 0)
    ms = median_ms(contenders, options.runs)
    row: dict[str, Any] = {"benchmark": "input", "images": source, "views": 2 * options.batch}
    row |= {f"{name}_ms": round(ms[name], 2) if name in ms else None for name in ("ours", "pil", "kornia", "step")}
    for name in ("ours", "pil", "kornia"):
        row[f"{name}_views_per_second"] = round(2e3 * options.batch / ms[name]) if name in ms else None
    row |= {"pil_over_ours": ratio(ms["pil"], ms["ours"]), "kornia_over_ours": ratio(ms.get("kornia"), ms["ours"])}
    # Against the step without its views: the stricter of the two readings of "share of a step".
    row |= {"ours_over_step": ratio(ms["ours"], ms["step"]), "targets": TARGETS}
    row["targets_met"] = {
        "pil_over_ours": row["pil_over_ours"] >= TARGETS["pil_over_ours"],
        "ours_over_step": row["ours_over_step"] <= TARGETS["ours_over_step"],
    }
    emit([row | environment(options.threads)], options.output)


if __name__ == "__main__":
    main()
