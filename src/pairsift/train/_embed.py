"""Features of whole image sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from pairsift.data import ImageSet, to_float
from pairsift.data.columns import with_class_names
from pairsift.data.tables import write_table


@torch.no_grad()
def embed(encoder: nn.Module, images: ImageSet, batch_size: int = 512, precision: str = "fp32") -> NDArray[np.float32]:
    """Encoder features h of un-augmented images, or of frames.

    Args:
        encoder: float images (B, 3, H, W) in [0, 1], or frames (B, W), -> (B, D); run in evaluation mode on its own
            device.
        images: N images, or a `FrameSet` of N frames; `temporal.by_row` makes means over sequences of what comes back.
        batch_size: images at once.
        precision: "fp32", "bf16" or "fp16" (autocast).

    Returns:
        (N, D) float32.

    Raises:
        ValueError: no images.

    Example:
        >>> from pairsift.data import load_images
        >>> from pairsift.train import ImageEncoder, build_encoder, embed
        >>> images = load_images("digits:test", per_class=10)
        >>> embed(ImageEncoder(build_encoder("resnet-small")), images).shape
        (100, 128)
    """
    if len(images) == 0:
        raise ValueError("there are no images to embed")
    device = next((p.device for p in encoder.parameters()), torch.device("cpu"))
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    training = encoder.training
    encoder.eval()
    out = []
    for start in range(0, len(images), batch_size):
        rows = np.arange(start, min(start + batch_size, len(images)))
        batch = torch.from_numpy(np.ascontiguousarray(images.images[rows])).to(device)
        batch = batch if images.vectors else to_float(batch)
        with torch.autocast(device.type, dtype, enabled=precision != "fp32"):
            out.append(encoder(batch).float().cpu().numpy())
    encoder.train(training)
    return np.concatenate(out)


def write_features(path: Path, features: NDArray[np.float32], images: ImageSet) -> None:
    """Write parquet: `row` (in the source), `features` (fixed-size list), and `label`, `path`, `mixed` where known.

    Names of the classes go into the schema, where Hugging Face `datasets` and `open_features` look for them.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
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
