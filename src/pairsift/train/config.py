"""The settings of a training run. Every field is a flag of the command line and a key of the YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator, model_validator

from pairsift._base.settings import ConfigError, Settings, setting
from pairsift.data import MixKind, SimCLRViews
from pairsift.pairs import RankBand
from pairsift.temporal.pairs import check_lags
from pairsift.treatments import Removal, Treatment

_ACCUMULATION = (
    "gradient accumulation does not enlarge the batch that negatives and difficult pairs are drawn from, so it does "
    "not replace a larger batch; raise batch_size, with mini_batch_size if memory is short"
)
__all__ = ["EXPLAINED", "ConfigError", "TrainConfig"]

# Settings of other trainers that have no counterpart here, and the reasons.
EXPLAINED = {"accumulate_grad_batches": _ACCUMULATION, "gradient_accumulation_steps": _ACCUMULATION}
# Methods without selection by affinity, and the reasons.
UNJUDGED = {
    "exact": "it has no batches whose pairs could be treated",
    "mixed": "its labels already give same-class pairs",
    "moco": "queued keys carry codes from an outdated fit",
    "spectral": "its loss has no denominator to leave same-class pairs out of",
}
# Settings of other trainers, and their names here.
SYNONYMS = {
    "accelerator": "device", "arch": "encoder", "backbone": "encoder", "ckpt_path": "resume",
    "default_root_dir": "run_dir", "enable_progress_bar": "progress", "learning_rate": "lr", "max_epochs": "epochs",
    "num_devices": "devices", "num_nodes": "nodes", "num_train_epochs": "epochs", "output_dir": "run_dir",
    "per_device_train_batch_size": "batch_size", "tau": "temperature",
}  # fmt: skip
# Fields by their names in version 0.2.
RENAMED = {
    "chunk": "mini_batch_size", "class_mates": "same_class_weight", "key_groups": "bn_splits", "memory": "memory_gb",
    "pos_high": "band_start", "pos_low": "band_stop",
}  # fmt: skip


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

    method: Literal["simclr", "moco", "spectral", "mixed", "exact"] = setting(
        "simclr", "Loss", "objective and how views are encoded; mixed learns from labels too"
    )
    treatment: TreatmentName = setting(
        "auto",
        "Loss",
        "what happens to difficult pairs; auto: decided by a guide (affinity; patches unless named); the default is "
        "none for other methods than simclr and for frames",
    )
    temperature: float = setting(
        0.5, "Loss", "temperature tau (unless set, 0.2 with treatment auto or moco, 0.1 with mixed)", ge=1e-8, allow_inf_nan=False
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

    filters: int = setting(400, "Exact", "filters of a patch layer (exact)", gt=0)
    views: int = setting(4, "Exact", "views of each image that the map is fitted to (exact)", ge=2)
    layers: int = setting(1, "Exact", "patch layers, 1 or 2 (exact)", ge=1, le=2)

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


class TrainConfig(TrainFields):
    """Settings of `pairsift.pretrain`; the defaults of the loss are the paper's for CIFAR-10 (method of Table 4).

    Every field is a flag of ``pairsift train``, whose ``--help`` says what it means, and a key of the YAML that `load`
    reads.

    Raises:
        ConfigError: unknown fields (the nearest known name is given), bad values, or values that do not go together.

    Example:
        >>> from pairsift import TrainConfig
        >>> config = TrainConfig(data="digits", method="moco", treatment="margin", epochs=20)
        >>> config.temperature, config.pair_treatment()
        (0.2, Treatment(margin=0.03, temperature_scale=1.0, removal=None, same_class_weight=0.0))
        >>> TrainConfig.build({"learning_rate": 0.1})
        Traceback (most recent call last):
        pairsift._base.settings.ConfigError: unknown field 'learning_rate': did you mean 'lr'?
    """

    unsaved = frozenset({"resume", "overwrite"})
    renamed = RENAMED

    @classmethod
    def known(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Fields, and names of other trainers explained."""
        # Runs that were started while this was a field of one allowed value resume.
        values = {name: value for name, value in values.items() if (name, value) != ("accumulate_grad_batches", 1)}
        for name in EXPLAINED.keys() & values.keys():
            raise cls.error(f"unknown field {name!r}, got {values[name]}: {EXPLAINED[name]}")
        method, views = values.get("method", "simclr"), values.get("positives", "views") == "views"
        implied: dict[str, Any] = {} if method == "simclr" and views else {"treatment": "none"}
        auto = (implied | values).get("treatment", "auto") == "auto"
        if auto:
            implied |= {"select": "affinity", "guide": "patches"}
        # A queue of thousands of negatives wants a lower temperature than a batch (MoCo v2, arXiv 2003.04297).
        # Supervision wants one, lest classes collapse (arXiv 2503.08203). With auto 0.2 is the better of the two.
        colder = {"moco": 0.2, "mixed": 0.1} | ({"simclr": 0.2} if auto else {})
        implied |= {"temperature": colder[method]} if method in colder else {}
        implied |= {"encoder": "mlp"} if values.get("positives") in ("temporal", "both") else {}
        return super().known(implied | values)

    @classmethod
    def hint(cls, name: str) -> str | None:
        """For a name that is no field, what may have been meant."""
        return f"did you mean {SYNONYMS[name]!r}?" if name in SYNONYMS else super().hint(name)

    @field_validator("lags", "lag_weights", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        """Numbers from a flag, "1,2,4", or a single one."""
        if isinstance(given, str):
            return [each.strip() for each in given.split(",")]
        return (given,) if isinstance(given, (int, float)) else given

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        self.band()
        if self.resume and self.overwrite:
            raise ValueError("resume and overwrite exclude each other")
        self._consistent_auto()
        self._consistent_selection()
        self._consistent_positives()
        self._consistent_exact()
        if self.warmup_epochs >= self.epochs and (self.treatment == "auto" or self.pair_treatment() is not None):
            raise ValueError(
                f"warmup_epochs={self.warmup_epochs} leaves no epoch of {self.epochs} for the treatment: lower it"
            )
        if self.batch_size < 2 * self.processes:
            raise ValueError(
                f"batch_size={self.batch_size} leaves fewer than two images for some of {self.processes} processes: "
                "raise it, or use fewer devices"
            )
        if self.method == "moco":
            keys = self.batch_size * (2 if self.symmetric else 1)
            if keys > self.queue_size:
                raise ValueError(
                    f"queue_size={self.queue_size} does not hold the {keys} keys of one step: enlarge it, or lower "
                    f"batch_size={self.batch_size}"
                )
            if 2 * self.bn_splits * self.processes > keys:
                raise ValueError(
                    f"bn_splits={self.bn_splits} leaves groups of one among the {keys // self.processes} keys of a "
                    "process, which have no batch statistics: lower it"
                )
        return self

    def _consistent_exact(self) -> None:
        """Refuse settings that the closed form has no use for, and settings of it for other methods."""
        if self.method != "exact":
            for name in ("filters", "views", "layers"):
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(f"{name}={getattr(self, name)} is for `method='exact'`, got {self.method!r}")
            return
        if self.treatment != "none" or self.positives != "views" or self.processes > 1:
            raise ValueError(
                "method='exact' is solved in one process, without batches whose pairs could be treated: leave "
                f"treatment={self.treatment!r}, positives={self.positives!r}, devices and nodes at their defaults"
            )

    def _consistent_auto(self) -> None:
        """Refuse settings of what `treatment="auto"` chooses itself."""
        if self.treatment != "auto":
            return
        if self.select != "affinity":
            raise ValueError(
                f"treatment='auto' chooses pairs by `select='affinity'`, got select={self.select!r}: leave it out, or "
                "name a treatment"
            )
        for name in ("margin", "temperature_scale", "same_class_weight"):
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"treatment='auto' chooses {name} itself, got {getattr(self, name)}: leave it out, or name a "
                    "treatment"
                )

    def _consistent_selection(self) -> None:
        """Refuse settings of the selection by affinity that do not go together."""
        if self.select != "affinity":
            for name in ("same_class_weight", "guide"):
                if getattr(self, name):
                    raise ValueError(
                        f"{name}={getattr(self, name)} needs the probability that pairs are of one class: set "
                        f"`select='affinity'`, got select={self.select!r}"
                    )
            return
        if self.method != "simclr":
            if self.treatment == "auto":
                return  # stays off, and says so
            why = UNJUDGED[self.method]
            raise ValueError(f"select='affinity' is for `method='simclr'`, got method={self.method!r}: {why}")
        if self.guide is not None:
            return
        if self.processes > 1:
            raise ValueError(
                f"select='affinity' over {self.processes} processes needs a `guide`: each would keep a bank of its own "
                "images only; use one device, or give features of all training images"
            )
        if not 1 <= self.affinity_start < self.epochs:
            raise ValueError(
                f"affinity_start={self.affinity_start} must be from 1 (before the first epoch there are no features) "
                f"to {self.epochs - 1}, below epochs={self.epochs}, or a `guide` be given"
            )

    def _consistent_positives(self) -> None:
        """Refuse settings of positives from time where there are none, and of image sets where there are."""
        own = [name for name, field in type(self).model_fields.items() if _panel(field) == "Positives"]
        if self.positives == "views":
            changed = [name for name in own if getattr(self, name) != type(self).model_fields[name].default]
            if changed:
                raise ValueError(
                    f"{changed[0]}={getattr(self, changed[0])} is for positives from time: set `positives='temporal'`"
                )
            return
        check_lags(self.lags, self.lag_weights)
        refused = {"mix": self.mix, "drop": self.drop, "skip_corrupt": self.skip_corrupt}
        for name, value in refused.items():
            if value:
                raise ValueError(
                    f"{name}={value} is for sets of images: leave it out with positives={self.positives!r}"
                )
        if self.select == "affinity":
            raise ValueError(
                f"select='affinity' (which treatment='auto' needs) judges images by views of their own: leave it out "
                f"with positives={self.positives!r}"
            )

    @property
    def processes(self) -> int:
        """Processes that share every batch."""
        return self.devices * self.nodes

    def band(self) -> RankBand:
        """The rank band of difficult pairs."""
        return RankBand(self.band_start, self.band_stop)

    def pair_treatment(self) -> Treatment | None:
        """What happens to difficult pairs (Eqs. 13 to 16) and to same-class pairs; None for no treatment, or until
        "auto" has decided."""
        values: dict[str, dict[str, Any]] = {
            "none": {},
            "auto": {},
            "removal": {"removal": self.removal},
            "margin": {"margin": self.margin},
            "temperature": {"temperature_scale": self.temperature_scale},
            "combined": {"margin": self.margin, "temperature_scale": self.temperature_scale},
        }
        chosen = values[self.treatment] | (
            {"same_class_weight": self.same_class_weight} if self.same_class_weight else {}
        )
        return Treatment(**chosen) if chosen else None

    def view_policy(self) -> SimCLRViews:
        """The view policy."""
        return SimCLRViews(
            crop_scale=(self.crop_min, 1.0), flip=self.flip, jitter=self.jitter, grey=self.grey,
            brightness=self.brightness, contrast=self.contrast, saturation=self.saturation, hue=self.hue,
        )  # fmt: skip


def _panel(field: Any) -> str:
    """The group of a field in the help of the command line."""
    return str(field.json_schema_extra["panel"])
