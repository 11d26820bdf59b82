"""The one description of a training run: every command-line flag and every YAML key is a field of it."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError, model_validator

from pairsift.data import SimCLRViews
from pairsift.pairs import RankBand
from pairsift.train.fields import TrainFields
from pairsift.treatments import Treatment

_ACCUMULATION = (
    "gradient accumulation does not enlarge the batch that negatives and difficult pairs are drawn from, so it does "
    "not replace a larger batch; raise batch_size, with chunk if memory is short"
)
# Settings of other trainers that nothing stands for here, and why.
EXPLAINED = {"accumulate_grad_batches": _ACCUMULATION, "gradient_accumulation_steps": _ACCUMULATION}
# Settings of other trainers, and what they are called here.
SYNONYMS = {
    "accelerator": "device", "arch": "encoder", "backbone": "encoder", "ckpt_path": "resume",
    "default_root_dir": "run_dir", "enable_progress_bar": "progress", "learning_rate": "lr", "max_epochs": "epochs",
    "num_devices": "devices", "num_nodes": "nodes", "num_train_epochs": "epochs", "output_dir": "run_dir",
    "per_device_train_batch_size": "batch_size", "tau": "temperature",
}  # fmt: skip


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the field, the value and the remedy."""


class TrainConfig(TrainFields):
    """Settings of `pairsift.pretrain`; the defaults of the loss are the paper's for CIFAR-10 (method of Table 4).

    Every field is a flag of ``pairsift train``, whose ``--help`` says what it means, and a key of the YAML that `load`
    reads.

    Raises:
        ValueError: unknown fields (the nearest known name is given), bad values, or values that do not go together.

    Example:
        >>> from pairsift import TrainConfig
        >>> config = TrainConfig(data="digits", method="moco", treatment="margin", epochs=20)
        >>> config.temperature, config.pair_treatment()
        (0.2, Treatment(margin=0.03, temperature_scale=1.0, removal=None))
        >>> TrainConfig.build({"learning_rate": 0.1})
        Traceback (most recent call last):
        pairsift.train.config.ConfigError: unknown field 'learning_rate': did you mean 'lr'?
    """

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        # Runs that were started while this was a field of one allowed value resume.
        values = {name: value for name, value in values.items() if (name, value) != ("accumulate_grad_batches", 1)}
        for name, value in values.items():
            if name not in cls.model_fields:
                raise ValueError(_unknown(str(name), value))
        # A queue of thousands of negatives wants a lower temperature than a batch (MoCo v2, arXiv 2003.04297).
        return {"temperature": 0.2, **values} if values.get("method") == "moco" else values

    @model_validator(mode="after")
    def _consistent(self) -> TrainConfig:
        self.band()
        if self.resume and self.overwrite:
            raise ValueError("resume and overwrite exclude each other")
        if self.warmup_epochs >= self.epochs and self.treatment != "none":
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
            if 2 * self.key_groups * self.processes > keys:
                raise ValueError(
                    f"key_groups={self.key_groups} leaves groups of one among the {keys // self.processes} keys of a "
                    "process, which have no batch statistics: lower it"
                )
        return self

    @property
    def processes(self) -> int:
        """Processes that share every batch."""
        return self.devices * self.nodes

    def band(self) -> RankBand:
        """The rank band of difficult pairs."""
        return RankBand(self.pos_high, self.pos_low)

    def pair_treatment(self) -> Treatment | None:
        """What happens to difficult pairs (Eqs. 13 to 16); None for no treatment."""
        return {
            "none": None,
            "removal": Treatment(removal=self.removal),
            "margin": Treatment(margin=self.margin),
            "temperature": Treatment(temperature_scale=self.temperature_scale),
            "combined": Treatment(margin=self.margin, temperature_scale=self.temperature_scale),
        }[self.treatment]

    def views(self) -> SimCLRViews:
        """The view policy."""
        return SimCLRViews(
            crop_scale=(self.crop_min, 1.0), flip=self.flip, jitter=self.jitter, grey=self.grey,
            brightness=self.brightness, contrast=self.contrast, saturation=self.saturation, hue=self.hue,
        )  # fmt: skip

    def save(self, path: Path) -> None:
        """Write as YAML, every field resolved, except what to do about an existing run."""
        fields = self.model_dump(mode="json", exclude={"resume", "overwrite"})
        path.write_text(yaml.safe_dump(fields, sort_keys=False))

    @classmethod
    def build(cls, values: dict[str, Any]) -> TrainConfig:
        """Validate plain values.

        Raises:
            ConfigError: unknown fields (the nearest known name is given) or bad values, one line each.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            lines = []
            for item in error.errors():
                where = ".".join(str(part) for part in item["loc"])
                message = item["msg"].removeprefix("Value error, ")
                got = f", got {item['input']!r}" if where and "got" not in message else ""
                lines.append(f"{where}: {message}{got}" if where else message)
            raise ConfigError("; ".join(lines)) from error

    @classmethod
    def load(cls, path: Path, **overrides: Any) -> TrainConfig:
        """Read YAML; `overrides` win over the file.

        Raises:
            ConfigError: the file is missing, not YAML, or not a mapping of known fields.
        """
        try:
            values = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"{path} cannot be read as a configuration: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path} must map field names to values, got {type(values).__name__}")
        return cls.build({**values, **overrides})


def _unknown(name: str, value: Any) -> str:
    """What to say of a field that there is not."""
    if name in EXPLAINED:
        return f"unknown field {name!r}, got {value}: {EXPLAINED[name]}"
    fields = TrainConfig.model_fields
    near = [SYNONYMS[name]] if name in SYNONYMS else difflib.get_close_matches(name, fields, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known fields: {', '.join(fields)}"
    return f"unknown field {name!r}: {hint}"
