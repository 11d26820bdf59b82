"""`pairsift.pretrain`, which trains an encoder by a configuration and writes a run directory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from pairsift._base.files import replacing
from pairsift._base.process import first_process
from pairsift.data import ImageSet, ViewPolicy
from pairsift.temporal import FrameSet, by_row
from pairsift.train.batches import order_of
from pairsift.train.collapse import check_labels
from pairsift.train.config import ConfigError, TrainConfig
from pairsift.train.encoders import (
    ImageEncoder,
    build_encoder,
    embed,
    float32_by_default,
    n_features,
    with_statistics,
    write_features,
)
from pairsift.train.evidence import Evidence, build_evidence
from pairsift.train.images import channel_statistics, default_views, short_sequences, training_images
from pairsift.train.methods import Objective
from pairsift.train.module import ContrastiveModule
from pairsift.train.run import Run, check_plain
from pairsift.train.trainer import accelerator, fit


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        run: its directory.
        encoder: the trained encoder, frozen, on the CPU.
        images: the training images, with the mixed images of `mix`.
        metrics: rows of ``metrics.csv``, one per epoch.
    """

    run: Run
    encoder: ImageEncoder
    images: ImageSet
    metrics: list[dict[str, Any]]


@float32_by_default()
def pretrain(
    config: TrainConfig,
    *,
    images: ImageSet | None = None,
    encoder: nn.Module | None = None,
    views: ViewPolicy | None = None,
    evidence: Evidence | None = None,
    objective: Objective | None = None,
    say: Callable[[str], None] | None = None,
) -> TrainResult:
    """Train an encoder with a (treated) contrastive loss: Algorithm 1.

    The first Ctrl-C stops after the current step and leaves a checkpoint; with `resume` the run continues from there
    to the result it would have had (bitwise on the same machine in CPU fp32).

    With several devices or nodes every process computes its share of each batch against all of it. Lightning starts the
    script that called this function once more for every further device; under torchrun or SLURM the processes are
    there already. The first one writes the run; the others return the same encoder.

    Args:
        config: all settings.
        images: the training images; None loads `config.data`.
        encoder: maps float images (B, 3, H, W) to features (B, D); None builds `config.encoder`.
        views: makes one random view of float images (B, 3, H, W) in [0, 1], a kornia pipeline say; None takes the
            SimCLR policy with the configuration's settings.
        evidence: knows about the classes of pairs what the configuration's `guide` or bank would; needs
            `select="affinity"`.
        objective: compares (N, d) projections of the first views with those of the second, and gives a scalar: one of
            `losses.baselines` say. It takes the place of the configuration's loss, which must be untreated SimCLR, and
            of its temperature.
        say: told in words what is done.

    Returns:
        The finished run.

    Raises:
        DataError, ConfigError, RunError: (ValueErrors) before anything is trained.
        NonFiniteLossError: the loss diverged; the last good checkpoint is kept.
        Interrupted: stopped by Ctrl-C; resume continues.

    Example:
        >>> import tempfile
        >>> import pairsift as ps
        >>> folder = tempfile.TemporaryDirectory()
        >>> config = ps.TrainConfig(
        ...     data="digits:train", per_class=10, treatment="combined", epochs=1, batch_size=50, progress=False,
        ...     run_dir=f"{folder.name}/combined",
        ... )
        >>> result = ps.pretrain(config)
        >>> result.metrics[-1]["step"]
        2
        >>> encoder = ps.train.Run.open(f"{folder.name}/combined").load_encoder()  # the same, any time later
        >>> folder.cleanup()
    """
    writes = first_process()
    say = say if say is not None and writes else _silent
    device_kind = _check(config, writes)
    _check_given(config, evidence, objective)

    torch.manual_seed(config.seed)
    name = config.encoder if encoder is None else ""
    if encoder is None and name != "mlp":
        encoder = build_encoder(name)  # before data are read: a wrong name is said at once
    images = training_images(config, images)
    _tell(images, say)
    check_labels(config, images)
    if encoder is None:
        name = f"mlp:{math.prod(images.images.shape[1:])}"
        encoder = build_encoder(name)
    statistics = channel_statistics(images)
    model = with_statistics(encoder, *statistics, images.vectors).float()
    dimension = n_features(model, images.images.shape[1:])
    policy = default_views(config, images, statistics) if views is None else views
    if evidence is None:
        evidence = build_evidence(config, images, dimension, say)
    steps = order_of(images)[0] // config.batch_size
    module = ContrastiveModule(config, model, dimension, steps, policy, evidence, objective)
    check_plain(module.state_dict())

    run = Run.start(config) if writes else Run(config.run_dir)
    if writes and images.mixed is not None:
        with replacing(run.path / "mixed.csv") as temporary:
            np.savetxt(temporary, images.rows[images.mixed], fmt="%d", header="row", comments="")
    metrics = fit(module, images, run, device_kind, say)

    if writes:
        run.save_encoder(model, {"encoder": name, "n_features": str(dimension), "pairsift": "1"})
        if config.save_features:
            write_features(run.features_file, *by_row(embed(model, images), images))
    model.cpu().eval().requires_grad_(False)
    return TrainResult(run, model, images, metrics)


def _tell(images: ImageSet, say: Callable[[str], None]) -> None:
    """What is trained on, and what was left out."""
    say(images.where)
    if images.corrupt:
        say(f"left out {len(images.corrupt)} images that cannot be decoded, the first at row {images.corrupt[0]}")
    if isinstance(images, FrameSet) and images.pairs is not None and images.pairs.short:
        say(short_sequences(images.pairs))


def _check_given(config: TrainConfig, evidence: Evidence | None, objective: Objective | None) -> None:
    """Refuse evidence or an objective that the configuration does not go with."""
    if evidence is not None and config.select != "affinity":
        raise ConfigError(f"evidence needs select='affinity', got select={config.select!r}")
    if evidence is not None and config.treatment == "auto":
        raise ConfigError("treatment='auto' decides by evidence of its own: leave evidence out, or name a treatment")
    plain = config.method == "simclr" and config.treatment == "none" and evidence is None and not config.window
    if objective is not None and not plain:
        raise ConfigError(
            "an objective takes the place of the loss: leave method, treatment and window at their defaults, got "
            f"method={config.method!r}, treatment={config.treatment!r}, window={config.window}"
        )


def _check(config: TrainConfig, writes: bool) -> str:
    """Refuse what the machine or the run directory cannot do, before anything is loaded; the kind of device to use."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    kind = accelerator(config)
    if writes:
        Run.check(config)
    return kind


def _silent(line: str) -> None:
    """Say nothing: nobody listens, or another process speaks."""
