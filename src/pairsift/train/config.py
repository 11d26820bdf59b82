"""The one description of a training run: every command-line flag and every YAML key is a field of it."""

from __future__ import annotations

from typing import Any

from pydantic import field_validator, model_validator

from pairsift._base.settings import ConfigError
from pairsift.data import SimCLRViews
from pairsift.pairs import RankBand
from pairsift.temporal.pairs import check_lags
from pairsift.train.fields import TrainFields
from pairsift.treatments import Treatment

_ACCUMULATION = (
    "gradient accumulation does not enlarge the batch that negatives and difficult pairs are drawn from, so it does "
    "not replace a larger batch; raise batch_size, with mini_batch_size if memory is short"
)
__all__ = ["EXPLAINED", "ConfigError", "TrainConfig"]

# Settings of other trainers that nothing stands for here, and why.
EXPLAINED = {"accumulate_grad_batches": _ACCUMULATION, "gradient_accumulation_steps": _ACCUMULATION}
# Methods whose pairs no affinity judges, and why.
UNJUDGED = {
    "mixed": "its labels tell same-class pairs already",
    "moco": "keys wait in the queue with what an earlier fit said of them",
    "spectral": "its products have no denominator to leave same-class pairs out of",
}
# Settings of other trainers, and what they are called here.
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
        # A queue of thousands of negatives wants a lower temperature than a batch (MoCo v2, arXiv 2003.04297).
        # Supervision wants one, lest classes collapse (arXiv 2503.08203).
        colder = {"moco": 0.2, "mixed": 0.1}
        method = values.get("method")
        implied: dict[str, Any] = {"temperature": colder[method]} if method in colder else {}
        if values.get("treatment") == "auto":
            implied |= {"select": "affinity", "guide": "patches"}
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

    def views(self) -> SimCLRViews:
        """The view policy."""
        return SimCLRViews(
            crop_scale=(self.crop_min, 1.0), flip=self.flip, jitter=self.jitter, grey=self.grey,
            brightness=self.brightness, contrast=self.contrast, saturation=self.saturation, hue=self.hue,
        )  # fmt: skip


def _panel(field: Any) -> str:
    """The group of a field in the help of the command line."""
    return str(field.json_schema_extra["panel"])
