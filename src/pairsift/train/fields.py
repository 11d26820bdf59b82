"""The settings of a training run, one line each; what they mean together is checked in `pairsift.train.config`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pairsift._base.settings import Settings, setting
from pairsift.data import MixKind
from pairsift.treatments import Removal

TreatmentName = Literal["none", "removal", "margin", "temperature", "combined", "auto"]


class TrainFields(Settings):
    """The fields of `TrainConfig`: name, default, panel of the command line's help, meaning and limits."""

    data: str = setting("", "Data", "parquet, folder, .npy/.npz, digits, hf:NAME or torchvision:NAME")
    label_column: str | None = setting(None, "Data", "column of the classes ('label' if there is one; 'none' for none)")
    per_class: int | None = setting(None, "Data", "train on the first so many images of each class", gt=0)
    image_size: int | None = setting(None, "Data", "resize images to so many pixels square", gt=0)
    skip_corrupt: bool = setting(False, "Data", "leave out images that cannot be decoded")
    memory_gb: float = setting(
        4.0, "Data", "GB that decoded images may take; above it they are decoded batch by batch", ge=0
    )
    mix: float = setting(0.0, "Data", "share of images mixed with one of another class", ge=0, le=1)
    mix_kind: MixKind = setting(
        "pixel", "Data", "pixel: the mean of both; composite: half of one beside half of the other"
    )
    drop: Path | None = setting(
        None, "Data", "CSV with a column 'row' (as scan writes) of images to leave out, after mixing"
    )

    positives: Literal["views", "temporal", "both"] = setting(
        "views", "Positives", "two views of an image; temporal: two frames of a sequence; both: views of two frames"
    )
    lags: tuple[int, ...] = setting((1,), "Positives", "steps between the two frames, drawn by their weights: 1,2,4")
    lag_weights: tuple[float, ...] | None = setting(None, "Positives", "shares of the lags (default: alike)")
    window: int = setting(
        0, "Positives", "never call frames of one sequence difficult that are so few steps apart (0: no window)", ge=0,
    )  # fmt: skip
    noise: float = setting(
        0.25,
        "Positives",
        "noise on frames of numbers, in standard deviations, with a fifth of them blanked (both)",
        ge=0,
    )
    frame_column: str | None = setting(None, "Positives", "column of the frames ('frames' or 'values' if there is one)")
    frame_size: int | None = setting(None, "Positives", "numbers of a frame, where a sequence is a flat list", gt=0)
    sequence_column: str | None = setting(
        None, "Positives", "column of each row's sequence, where a row is a frame ('sequence' if there is one)"
    )
    time_column: str | None = setting(
        None,
        "Positives",
        "column of each row's time, where a row is a frame ('time' if there is one; else their order)",
    )
    time_unit: float = setting(1.0, "Positives", "time of one step", gt=0)

    crop_min: float = setting(0.2, "Views", "smallest share of the area that a random crop keeps", gt=0, le=1)
    flip: float = setting(0.5, "Views", "probability of a horizontal flip", ge=0, le=1)
    jitter: float = setting(0.8, "Views", "probability of the colour jitter", ge=0, le=1)
    brightness: float = setting(0.4, "Views", "spread of the brightness factor", ge=0, le=1)
    contrast: float = setting(0.4, "Views", "spread of the contrast factor", ge=0, le=1)
    saturation: float = setting(0.4, "Views", "spread of the saturation factor", ge=0, le=1)
    hue: float = setting(0.1, "Views", "spread of the hue, in turns", ge=0, le=0.5)
    grey: float = setting(0.2, "Views", "probability of greyscale", ge=0, le=1)

    encoder: str = setting(
        "resnet-small", "Model", "resnet-small, resnet18, timm:NAME, torchvision:NAME, or mlp (the default for frames)"
    )
    projector_hidden: int = setting(512, "Model", "hidden width of the projector", gt=0)
    projector_dim: int = setting(128, "Model", "dimension of the projections z", gt=0)

    method: Literal["simclr", "moco", "spectral", "mixed"] = setting(
        "simclr", "Loss", "objective and how views are encoded; mixed learns from labels too"
    )
    treatment: TreatmentName = setting(
        "none",
        "Loss",
        "what happens to difficult pairs; auto: decided by a guide (affinity; patches unless named)",
    )
    temperature: float = setting(
        0.5, "Loss", "temperature tau (unless set, moco 0.2, mixed 0.1)", ge=1e-8, allow_inf_nan=False
    )
    alpha: float = setting(
        0.5, "Loss", "weight of the self-supervised part, the rest is supervised (mixed)", ge=0, le=1,
        allow_inf_nan=False,
    )  # fmt: skip
    mu: float = setting(1.0, "Loss", "squared length of the longest row (spectral); worth tuning", gt=0)
    queue_size: int = setting(4096, "Loss", "keys that are kept (moco)", gt=0)
    symmetric: bool = setting(True, "Loss", "views of both kinds are queries (moco)")
    key_momentum: float = setting(0.99, "Loss", "momentum of the key encoder (moco)", ge=0, le=1)
    key_momentum_schedule: Literal["constant", "cosine"] = setting(
        "constant", "Loss", "constant, or rising to 1 along a cosine (moco)"
    )
    bn_splits: int = setting(4, "Loss", "random groups of keys with batch statistics of their own (moco)", gt=0)
    band_start: float = setting(0.15, "Loss", "upper edge of the difficult band, a rank fraction (about 1 / classes)")
    band_stop: float = setting(0.22, "Loss", "lower edge of the difficult band, a rank fraction")
    margin: float = setting(0.03, "Loss", "sigma, added to difficult similarities (margin, combined)", ge=0)
    temperature_scale: float = setting(
        0.6, "Loss", "rho, factor on difficult pairs' temperature (temperature, combined)", gt=0
    )
    removal: Removal = setting(
        "neutral", "Loss", "removal keeps exp(0) in the denominator (Eq. 13) or excludes the pair"
    )
    select: Literal["band", "random", "affinity"] = setting(
        "band", "Loss", "'random' flags as many pairs at random: the control; 'affinity' those judged of two classes"
    )
    same_class_weight: float = setting(
        0.0, "Loss", "power with which P(different class) weighs a pair in the denominator (affinity); 1 leaves out "
        "probable same-class pairs", ge=0, allow_inf_nan=False,
    )  # fmt: skip
    confidence: float = setting(0.8, "Loss", "P(different class) that a flagged pair needs (affinity)", gt=0.5, lt=1)
    flagged_share: float = setting(
        0.15, "Loss", "share of all keys, the most similar confident ones, that is flagged (affinity)", gt=0, le=1
    )
    guide: Path | None = setting(
        None,
        "Loss",
        "what tells same-class pairs (affinity): 'patches', features that small patches of the images make, without an "
        "encoder; or a features file of the images; none: the run's own",
    )
    refit_every: int = setting(5, "Loss", "epochs between fits of the affinity to the run's own features", gt=0)
    affinity_start: int = setting(
        5, "Loss", "epochs before the first fit (affinity); a guide is there from the start", ge=0
    )
    warmup_epochs: int = setting(0, "Loss", "epochs before the treatment starts; selection is unreliable early", ge=0)

    epochs: int = setting(30, "Optimisation", "epochs", gt=0)
    batch_size: int = setting(256, "Optimisation", "images in a batch (two views of each), over all devices", ge=2)
    mini_batch_size: int | None = setting(
        None, "Optimisation", "views whose activations the encoder holds at once; batch norm sees as many (None: all)",
        gt=0,
    )  # fmt: skip
    optimizer: Literal["sgd", "adamw"] = setting("sgd", "Optimisation", "optimiser")
    lr: float = setting(0.25, "Optimisation", "peak learning rate", gt=0)
    momentum: float = setting(0.9, "Optimisation", "momentum of SGD", ge=0, lt=1)
    weight_decay: float = setting(5e-4, "Optimisation", "weight decay of weights (not of biases and norms)", ge=0)
    lr_warmup_epochs: float = setting(1.0, "Optimisation", "epochs of linear warm-up before the cosine", ge=0)
    precision: Literal["fp32", "bf16", "fp16"] = setting("fp32", "Optimisation", "arithmetic of the encoder")
    seed: int = setting(0, "Optimisation", "seed of everything", ge=0)

    run_dir: Path = setting(Path("runs/train"), "Run", "where the run is written")
    checkpoint_every: int = setting(0, "Run", "also keep a checkpoint every so many epochs (0: only the last)", ge=0)
    save_features: bool = setting(False, "Run", "write features.parquet of the training images at the end")
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "Run", "where to train")
    devices: int = setting(1, "Run", "devices of this machine, a process each, that share every batch", gt=0)
    nodes: int = setting(1, "Run", "machines, with so many devices each", gt=0)
    timeout: float = setting(
        1800, "Run", "seconds after which all processes stop where one of them does not answer", gt=0,
        allow_inf_nan=False,
    )  # fmt: skip
    threads: int | None = setting(None, "Run", "CPU threads of each process (None: all)", gt=0)
    progress: bool = setting(True, "Run", "show progress")
    resume: bool = setting(False, "Run", "continue the run in run_dir")
    overwrite: bool = setting(False, "Run", "replace the run in run_dir")
