"""`method="exact"`: patch layers and a spectral map instead of training by gradient, saved as a run like any other."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairsift._base.files import replacing
from pairsift._base.process import Interrupted
from pairsift.data import ImageSet, ViewPolicy
from pairsift.spectral import PatchEncoder
from pairsift.train.config import ConfigError, TrainConfig
from pairsift.train.encoders import ImageEncoder, embed, write_features
from pairsift.train.run import Run

Say = Callable[[str], None]


def pretrain_exact(
    config: TrainConfig, images: ImageSet, views: ViewPolicy | None, device: str, say: Say
) -> tuple[Run, ImageEncoder, list[dict[str, Any]]]:  # fmt: skip
    """Fit a `PatchEncoder` to views of the images, and write the run.

    Args:
        config: of the run.
        images: N training images.
        views: makes one random view; None takes the configuration's.
        device: where layers are computed.
        say: called with lines of text about what is found.

    Returns:
        The run, its encoder, frozen, and one row of metrics.

    Raises:
        ConfigError: vectors instead of images.
        SpectralError, AffinityError: images that no encoder can be fitted to.
        Interrupted: stopped by Ctrl-C; resume fits anew, to the same result.
    """
    if images.vectors:
        raise ConfigError("method='exact' learns patches of images, and these are vectors: use another method")
    run = Run.start(config)
    if config.resume and run.encoder_file.is_file():
        say(f"{run.path} is finished")
        return run, run.load_encoder(), _read_metrics(run)
    if images.mixed is not None:
        with replacing(run.path / "mixed.csv") as temporary:
            np.savetxt(temporary, images.rows[images.mixed], fmt="%d", header="row", comments="")
    started = time.perf_counter()
    try:
        patches, fitted = PatchEncoder.fit(
            images.images, config.view_policy() if views is None else views, filters=config.filters,
            views=config.views, layers=config.layers, mirrored=config.flip > 0, seed=config.seed,
            memory_gb=config.memory_gb, device="cpu" if device == "auto" else device, log=say,
        )  # fmt: skip
    except KeyboardInterrupt:
        raise Interrupted(f"stopped before the map was solved: {run.path}") from None
    encoder = ImageEncoder(patches, (0.0,) * 3, (1.0,) * 3).eval().requires_grad_(False)
    held = fitted.held_out
    assert held is not None
    row = {
        "ridge": fitted.ridge, "dimensions": held.chosen.dimensions, "held_out_pairs": held.pairs,
        "held_out_loss": -held.chosen.score, "held_out_mrr": held.adapted.mrr, "loss": fitted.loss,
        "seconds": round(time.perf_counter() - started, 2),
    }  # fmt: skip
    with replacing(run.metrics_file) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(row))
        writer.writeheader()
        writer.writerow(row)
    fitted.save(run.path / "map.safetensors")
    run.save_encoder(encoder, {"encoder": patches.name, "n_features": str(fitted.dimensions), "pairsift": "1"})
    if config.save_features:
        write_features(run.features_file, embed(encoder, images), images)
    return run, encoder, [row]


def exact_guide(config: TrainConfig, images: ImageSet, say: Say) -> NDArray[np.float32]:
    """(N, 64) features of N images by a `PatchEncoder` that is fitted to views of them, to guide another run.

    Raises:
        SpectralError, AffinityError: images that no encoder can be fitted to.
    """
    patches, _ = PatchEncoder.fit(
        images.images, config.view_policy(), dimensions=64, power=0.5, mirrored=config.flip > 0, seed=config.seed,
        memory_gb=config.memory_gb, log=say,
    )  # fmt: skip
    return embed(patches.eval(), images)


def _read_metrics(run: Run) -> list[dict[str, Any]]:
    with run.metrics_file.open(newline="") as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
