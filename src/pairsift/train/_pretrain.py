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
from pairsift._base.words import counted
from pairsift.data import ImageSet, ViewPolicy
from pairsift.temporal import FrameSet, by_row
from pairsift.train.config import ConfigError, TrainConfig
from pairsift.train.data import (
    channel_statistics,
    check_labels,
    default_views,
    order_of,
    short_sequences,
    training_images,
)
from pairsift.train.encoders import (
    ImageEncoder,
    build_encoder,
    embed,
    float32_by_default,
    n_features,
    with_statistics,
    write_features,
)
from pairsift.train.exact import pretrain_exact
from pairsift.train.methods import Objective
from pairsift.train.module import ContrastiveModule
from pairsift.train.policy import PairPolicy, build_policy
from pairsift.train.run import Run, check_plain
from pairsift.train.trainer import accelerator, check_logger, fit


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
    policy: PairPolicy | None = None,
    objective: Objective | None = None,
    say: Callable[[str], None] | None = None,
) -> TrainResult:
    """Train an encoder with a (treated) contrastive loss (Algorithm 1), in float32 unless `precision` says otherwise.

    The first Ctrl-C stops after the current step and leaves a checkpoint. With `resume` the run continues from there to
    the result of an uninterrupted run (bitwise on the same machine in CPU fp32).

    With several devices or nodes, every process computes its share of each batch against the whole batch. Lightning
    starts the calling script once more for every further device. Under torchrun or SLURM the processes exist already.
    The first process writes the run, and the others return the same encoder.

    Args:
        config: all settings.
        images: the training images. None loads `config.data`.
        encoder: maps float images (B, 3, H, W) to features (B, D). None builds `config.encoder`.
        views: makes one random view of float images (B, 3, H, W) in [0, 1], such as a kornia pipeline. None takes the
            SimCLR policy with the configuration's settings.
        policy: selects and treats pairs, instead of the configuration's guide or feature bank. It needs
            `select="affinity"`.
        objective: maps projections (N, d) of the first and the second views to a scalar, as `losses.baselines` do. It
            replaces the configuration's loss, which must be untreated SimCLR, and its temperature.
        say: gets lines about the progress.

    Returns:
        The finished run.

    Raises:
        TypeError: `config` is no `TrainConfig`.
        DataError, ConfigError, RunError: bad input, before training starts. All are ValueErrors.
        NonFiniteLossError: the loss diverged. The last good checkpoint is kept.
        Interrupted: Ctrl-C stopped the run. `resume` continues it.

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
    if not isinstance(config, TrainConfig):
        given = type(config).__name__
        raise TypeError(f"config must be a TrainConfig, got {given}: give pairsift.TrainConfig(data=...)")
    writes = first_process()
    say = say if say is not None and writes else lambda line: None
    device_kind = _check(config, writes)
    _check_given(config, policy, objective)
    if objective is not None:  # it has no pairs to treat
        config = config.model_copy(update={"treatment": "none", "select": "band", "guide": None})

    torch.manual_seed(config.seed)
    if config.method == "exact":
        return _exact(config, images, encoder, views, device_kind, say)
    name = config.encoder if encoder is None else ""
    if encoder is None and name != "mlp":
        encoder = build_encoder(name)  # before data are read, so that a wrong name fails at once
    images = training_images(config, images)
    _tell(images, say)
    check_labels(config, images)
    if encoder is None:
        name = f"mlp:{math.prod(images.images.shape[1:])}"
        encoder = build_encoder(name)
    statistics = channel_statistics(images)
    model = with_statistics(encoder, *statistics, images.vectors).float()
    dimension = n_features(model, images.images.shape[1:])
    views = default_views(config, images, statistics) if views is None else views
    if policy is None:
        policy = build_policy(config, images, dimension, say)
    steps = order_of(images)[0] // config.batch_size
    module = ContrastiveModule(config, model, dimension, steps, views, policy, objective)
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


def _exact(
    config: TrainConfig, images: ImageSet | None, encoder: nn.Module | None, views: ViewPolicy | None, device: str,
    say: Callable[[str], None],
) -> TrainResult:  # fmt: skip
    """The run of `method="exact"`, which solves for its encoder."""
    if encoder is not None:
        raise ConfigError("method='exact' has an encoder of its own: leave `encoder` out")
    images = training_images(config, images)
    _tell(images, say)
    run, exact, metrics = pretrain_exact(config, images, views, device, say)
    return TrainResult(run, exact, images, metrics)


def _tell(images: ImageSet, say: Callable[[str], None]) -> None:
    """Report the training images, and those that were left out."""
    say(images.where)
    if images.corrupt:
        count = counted(len(images.corrupt), "image")
        say(f"left out {count} that cannot be decoded, the first at row {images.corrupt[0]}")
    if isinstance(images, FrameSet) and images.pairs is not None and images.pairs.short:
        say(short_sequences(images.pairs))


def _check_given(config: TrainConfig, policy: PairPolicy | None, objective: Objective | None) -> None:
    """Refuse a policy or an objective that does not go with the configuration."""
    if policy is not None and config.select != "affinity":
        raise ConfigError(f"a policy needs select='affinity', got select={config.select!r}")
    if policy is not None and config.treatment == "auto":
        raise ConfigError("treatment='auto' has a policy of its own: leave policy out, or name a treatment")
    untreated = config.treatment in ("none", "auto") and policy is None and not config.window
    plain = config.method == "simclr" and untreated
    if objective is not None and not plain:
        raise ConfigError(
            "an objective takes the place of the loss: leave method, treatment and window at their defaults, got "
            f"method={config.method!r}, treatment={config.treatment!r}, window={config.window}"
        )


def _check(config: TrainConfig, writes: bool) -> str:
    """Check the machine and the run directory before any data is loaded, and return the kind of device."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    check_logger(config)
    kind = accelerator(config)
    if writes:
        Run.check(config)
    return kind
