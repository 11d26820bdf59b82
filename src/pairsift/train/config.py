"""The settings of a training run: fields that are also flags of the command line and keys of the YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator, model_validator

from pairsift._base.settings import ConfigError, Settings, setting
from pairsift.data import MixKind, SimCLRViews
from pairsift.pairs import RankBand
from pairsift.temporal.pairs import check_lags
from pairsift.treatments import Removal, Treatment

__all__ = ["EXPLAINED", "ConfigError", "TrainConfig"]

_ACCUMULATION = (
    "gradient accumulation does not enlarge the batch that negatives and difficult pairs are drawn from, so it does "
    "not replace a larger batch; raise batch_size, with mini_batch_size if memory is short"
)
# Settings of other trainers that do not exist here, and the reasons.
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
# Fields of version 0.2 and their names now. Runs of version 0.2 are read by these.
RENAMED = {
    "chunk": "mini_batch_size", "class_mates": "same_class_weight", "key_groups": "bn_splits", "memory": "memory_gb",
    "pos_high": "band_start", "pos_low": "band_stop",
}  # fmt: skip

TreatmentName = Literal["none", "removal", "margin", "temperature", "combined", "auto"]


class TrainConfig(Settings):
    """Settings of `pairsift.pretrain`. The defaults of the loss are the paper's for CIFAR-10 (Table 4).

    Every field is a flag of ``pairsift train``, whose ``--help`` explains it, and a key of the YAML that `load` reads.

    Raises:
        ConfigError: unknown fields (with the nearest known name), bad values, or values that do not go together.

    Example:
        >>> from pairsift import TrainConfig
        >>> config = TrainConfig(data="digits", method="moco", treatment="margin", epochs=20)
        >>> config.temperature, config.pair_treatment()
        (0.2, Treatment(margin=0.03, temperature_scale=1.0, removal=None, same_class_weight=0.0))
        >>> TrainConfig.build({"learning_rate": 0.1})
        Traceback (most recent call last):
        pairsift._base.settings.ConfigError: unknown field 'learning_rate': did you mean 'lr'?
    """

    data: str = setting("", "Data", "parquet, folder, .npy/.npz, digits, hf:NAME or torchvision:NAME")
    label_column: str | None = setting(None, "Data", "column of the classes (default: 'label'; 'none' reads no labels)")
    per_class: int | None = setting(None, "Data", "train on the first PER_CLASS images of each class only", gt=0)
    image_size: int | None = setting(None, "Data", "resize images to this width and height in pixels", gt=0)
    skip_corrupt: bool = setting(False, "Data", "leave out images that cannot be decoded")
    memory_gb: float = setting(4.0, "Data", "GB for decoded images; larger sets are decoded batch by batch", ge=0)
    mix: float = setting(0.0, "Data", "share of images to mix with an image of another class", ge=0, le=1)
    mix_kind: MixKind = setting("pixel", "Data", "pixel: mean of both images; composite: half of each, side by side")
    drop: Path | None = setting(None, "Data", "CSV of images to leave out, by a column 'row' as scan writes it")

    positives: Literal["views", "temporal", "both"] = setting(
        "views",
        "Positives",
        "views: two views of an image; temporal: two frames of a sequence; both: views of two frames",
    )
    lags: tuple[int, ...] = setting((1,), "Positives", "steps between the two frames, one or several (1,2,4)")
    lag_weights: tuple[float, ...] | None = setting(None, "Positives", "shares of the lags (default: equal)")
    window: int = setting(0, "Positives", "never treat frames of a sequence within so many steps (0: treat all)", ge=0)
    noise: float = setting(
        0.25, "Positives", "noise on frames that are vectors, in standard deviations; a fifth becomes 0 (both)", ge=0
    )
    frame_column: str | None = setting(None, "Positives", "column of the frames (default: 'frames' or 'values')")
    frame_size: int | None = setting(None, "Positives", "numbers of a frame, for sequences that are flat lists", gt=0)
    sequence_column: str | None = setting(
        None, "Positives", "column of the sequence, where a row is a frame (default: 'sequence')"
    )
    time_column: str | None = setting(
        None, "Positives", "column of the time, where a row is a frame (default: 'time', or the order of rows)"
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
        "resnet-small", "Model", "resnet-small, resnet18, timm:NAME, torchvision:NAME, or mlp (default for frames)"
    )
    projector_hidden: int = setting(512, "Model", "hidden width of the projector", gt=0)
    projector_dim: int = setting(128, "Model", "dimension of the projections z", gt=0)

    method: Literal["simclr", "moco", "spectral", "mixed", "exact"] = setting(
        "simclr", "Loss", "objective; mixed also learns from labels; exact solves for the encoder in closed form"
    )
    treatment: TreatmentName = setting(
        "auto", "Loss", "treatment of difficult pairs; auto decides by a guide (affinity; patches unless named); the "
        "default is none for frames and for other methods than simclr",
    )  # fmt: skip
    temperature: float = setting(
        0.5, "Loss", "temperature tau (default with treatment auto 0.2, of moco 0.2, of mixed 0.1)", ge=1e-8,
        allow_inf_nan=False,
    )  # fmt: skip
    alpha: float = setting(
        0.5, "Loss", "weight of the self-supervised part; the rest is supervised (mixed)", ge=0, le=1,
        allow_inf_nan=False,
    )  # fmt: skip
    mu: float = setting(1.0, "Loss", "squared length of the longest row (spectral); worth tuning", gt=0)
    queue_size: int = setting(4096, "Loss", "number of queued keys (moco)", gt=0)
    symmetric: bool = setting(True, "Loss", "use both views as queries (moco)")
    key_momentum: float = setting(0.99, "Loss", "momentum of the key encoder (moco)", ge=0, le=1)
    key_momentum_schedule: Literal["constant", "cosine"] = setting(
        "constant", "Loss", "keep the momentum constant, or raise it to 1 along a cosine (moco)"
    )
    bn_splits: int = setting(4, "Loss", "random groups of keys with separate batch statistics (moco)", gt=0)
    band_start: float = setting(0.15, "Loss", "upper edge of the difficult band, a rank fraction (about 1 / classes)")
    band_stop: float = setting(0.22, "Loss", "lower edge of the difficult band, a rank fraction")
    margin: float = setting(0.03, "Loss", "sigma, added to similarities of difficult pairs (margin, combined)", ge=0)
    temperature_scale: float = setting(
        0.6, "Loss", "rho, factor on the temperature of difficult pairs (temperature, combined)", gt=0
    )
    removal: Removal = setting("neutral", "Loss", "neutral keeps exp(0) in the denominator (Eq. 13); exclude does not")
    select: Literal["band", "random", "affinity"] = setting(
        "band", "Loss", "difficult pairs: a rank band, as many at random (control), or estimated different classes "
        "(affinity)",
    )  # fmt: skip
    same_class_weight: float = setting(
        0.0, "Loss", "power of P(different class) as weight of a pair in the denominator (affinity); 1 leaves out "
        "probable same-class pairs", ge=0, allow_inf_nan=False,
    )  # fmt: skip
    confidence: float = setting(0.8, "Loss", "least P(different class) of a selected pair (affinity)", gt=0.5, lt=1)
    flagged_share: float = setting(
        0.15, "Loss", "largest share of keys to select, the most similar confident ones (affinity)", gt=0, le=1
    )
    guide: Path | None = setting(
        None, "Loss", "features that estimate same-class pairs (affinity): a file of features of the images; "
        "'patches', learned from patches of the images; 'exact', a spectral map (default: the run's own features)",
    )  # fmt: skip
    refit_every: int = setting(5, "Loss", "epochs between fits to the run's own features (affinity)", gt=0)
    affinity_start: int = setting(5, "Loss", "epochs before the first fit to the run's own features (affinity)", ge=0)
    warmup_epochs: int = setting(0, "Loss", "epochs before the treatment starts; selection is unreliable early", ge=0)

    filters: int = setting(400, "Exact", "filters of a patch layer (exact)", gt=0)
    views: int = setting(4, "Exact", "views of each image that the map is fitted to (exact)", ge=2)
    layers: int = setting(1, "Exact", "patch layers, 1 or 2 (exact)", ge=1, le=2)

    epochs: int = setting(30, "Optimisation", "number of epochs", gt=0)
    batch_size: int = setting(256, "Optimisation", "images in a batch over all devices, with two views each", ge=2)
    mini_batch_size: int | None = setting(
        None, "Optimisation", "views that the encoder and batch norm see at once, to save memory (default: all)", gt=0
    )
    optimizer: Literal["sgd", "adamw"] = setting("sgd", "Optimisation", "optimiser")
    lr: float = setting(0.25, "Optimisation", "peak learning rate", gt=0)
    momentum: float = setting(0.9, "Optimisation", "momentum of SGD", ge=0, lt=1)
    weight_decay: float = setting(5e-4, "Optimisation", "decay of weights, except biases and norms", ge=0)
    lr_warmup_epochs: float = setting(1.0, "Optimisation", "epochs of linear warm-up before the cosine", ge=0)
    precision: Literal["fp32", "bf16", "fp16"] = setting("fp32", "Optimisation", "arithmetic of the encoder")
    seed: int = setting(0, "Optimisation", "seed of all random draws", ge=0)

    run_dir: Path = setting(Path("runs/train"), "Run", "folder of the run")
    checkpoint_every: int = setting(0, "Run", "also keep a checkpoint every N epochs (0: only the last one)", ge=0)
    save_features: bool = setting(False, "Run", "write features.parquet of the training images at the end")
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "Run", "device to train on")
    devices: int = setting(1, "Run", "devices of this machine that share every batch, with a process each", gt=0)
    nodes: int = setting(1, "Run", "machines, each with this many devices", gt=0)
    timeout: float = setting(
        1800, "Run", "seconds to wait for a process before all processes stop", gt=0, allow_inf_nan=False
    )
    threads: int | None = setting(None, "Run", "CPU threads of each process (default: all)", gt=0)
    logger: Literal["tensorboard", "wandb", "mlflow", "csv", "none"] = setting(
        "tensorboard", "Run", "Lightning's logger that also gets the means of every epoch"
    )
    progress: bool = setting(True, "Run", "show progress")
    resume: bool = setting(False, "Run", "continue the run in the folder")
    overwrite: bool = setting(False, "Run", "replace the run in the folder")

    unsaved = frozenset({"resume", "overwrite"})

    @classmethod
    def known(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The given fields, with defaults that follow from others. Names of other trainers are explained."""
        for name in EXPLAINED.keys() & values.keys():
            raise cls.error(f"unknown field {name!r}, got {values[name]}: {EXPLAINED[name]}")
        # Who selects pairs by hand says what happens to them, too.
        method, views = values.get("method", "simclr"), values.get("positives", "views") == "views"
        chosen = method == "simclr" and views and not {"select", "same_class_weight"} & values.keys()
        implied: dict[str, Any] = {} if chosen else {"treatment": "none"}
        auto = (implied | values).get("treatment", "auto") == "auto"
        # A queue of thousands of negatives needs a lower temperature than a batch (MoCo v2, arXiv 2003.04297).
        # Supervision needs one too, because classes collapse otherwise (arXiv 2503.08203).
        colder = {"moco": 0.2, "mixed": 0.1} | ({"simclr": 0.2} if auto else {})
        implied |= {"temperature": colder[method]} if method in colder else {}
        if auto:
            implied |= {"select": "affinity", "guide": "patches"}
        implied |= {"encoder": "mlp"} if values.get("positives") in ("temporal", "both") else {}
        return super().known(implied | values)

    @classmethod
    def hint(cls, name: str) -> str | None:
        """The name of a field that an unknown name probably means."""
        if name in RENAMED:
            return f"its name is {RENAMED[name]!r} since 0.3"
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

    def _changed(self, *names: str) -> list[str]:
        """Those of these fields that do not have their default."""
        fields = type(self).model_fields
        return [name for name in names if getattr(self, name) != fields[name].default]

    def _consistent_exact(self) -> None:
        """Refuse settings that the closed form does not use, and its own settings for other methods."""
        if self.method != "exact":
            for name in self._changed("filters", "views", "layers"):
                raise ValueError(f"{name}={getattr(self, name)} is for `method='exact'`, got {self.method!r}")
        elif self.treatment != "none" or self.positives != "views" or self.processes > 1:
            raise ValueError(
                "method='exact' is solved in one process, without batches whose pairs could be treated: leave "
                f"treatment={self.treatment!r}, positives={self.positives!r}, devices and nodes at their defaults"
            )

    def _consistent_auto(self) -> None:
        """Refuse settings that `treatment="auto"` chooses itself."""
        if self.treatment != "auto":
            return
        if self.select != "affinity":
            raise ValueError(
                f"treatment='auto' chooses pairs by `select='affinity'`, got select={self.select!r}: leave it out, or "
                "name a treatment"
            )
        for name in self._changed("margin", "temperature_scale", "same_class_weight"):
            raise ValueError(
                f"treatment='auto' chooses {name} itself, got {getattr(self, name)}: leave it out, or name a treatment"
            )

    def _consistent_selection(self) -> None:
        """Refuse settings of the selection by affinity that do not go together."""
        if self.select != "affinity":
            for name in self._changed("same_class_weight", "guide"):
                raise ValueError(
                    f"{name}={getattr(self, name)} needs the probability that pairs are of one class: set "
                    f"`select='affinity'`, got select={self.select!r}"
                )
            return
        if self.method != "simclr":
            if self.treatment == "auto":
                return  # the run reports why it treats no pairs
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
        """Refuse settings of positives from time for images, and settings of image sets for frames."""
        own = [name for name, field in type(self).model_fields.items() if _panel(field) == "Positives"]
        if self.positives == "views":
            for name in self._changed(*own):
                raise ValueError(f"{name}={getattr(self, name)} is for positives from time: set `positives='temporal'`")
            return
        check_lags(self.lags, self.lag_weights)
        for name in self._changed("mix", "drop", "skip_corrupt"):
            raise ValueError(
                f"{name}={getattr(self, name)} is for sets of images: leave it out with positives={self.positives!r}"
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
        """The treatment of difficult pairs (Eqs. 13 to 16) and same-class pairs, or None. With "auto" it is None."""
        values: dict[str, dict[str, Any]] = {
            "none": {},
            "auto": {},
            "removal": {"removal": self.removal},
            "margin": {"margin": self.margin},
            "temperature": {"temperature_scale": self.temperature_scale},
            "combined": {"margin": self.margin, "temperature_scale": self.temperature_scale},
        }
        weight = {"same_class_weight": self.same_class_weight} if self.same_class_weight else {}
        chosen = values[self.treatment] | weight
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
