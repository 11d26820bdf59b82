"""A folder of a trained encoder for the Hugging Face Hub: weights, settings and a model card."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

from pairsift._base.files import replacing, write_json
from pairsift.train.config import TrainConfig
from pairsift.train.run import Run, RunError

# Settings that the card shows, where the method has them.
_SHOWN = (
    "method", "treatment", "temperature", "encoder", "epochs", "batch_size", "optimizer", "lr", "image_size",
    "filters", "views", "layers", "seed",
)  # fmt: skip
_OF_EXACT = {"filters", "views", "layers"}
_OF_TRAINING = {"treatment", "temperature", "encoder", "epochs", "batch_size", "optimizer", "lr"}
# Settings that name places on the machine of the run.
_PLACES = {"data", "run_dir", "drop", "guide"}
_CARD = """\
---
library_name: pairsift
pipeline_tag: image-feature-extraction
tags:
- pairsift
- self-supervised-learning
- contrastive-learning
---

# {name}

This encoder of images was trained without labels by [pairsift](https://arxiv.org/abs/2501.01317), on {data}.

## Use

```python
import pairsift as ps

encoder = ps.train.Run.open("{name}").load_encoder()  # this folder
images = ps.data.load_images("images.parquet", image_size={size})
features = ps.train.embed(encoder, images)  # (N, {width}) float32
```

## Training

| setting | value |
|---|---|
{settings}
{decisions}{loss}
The weights are in `model.safetensors` and all settings in `config.json`. Versions: {versions}.
"""


def export_encoder(run: Run, folder: Path | str) -> Path:
    """Write the encoder of a finished run as a folder that can be uploaded to the Hugging Face Hub.

    The folder holds ``model.safetensors``, ``config.json`` and ``README.md``, the model card. `Run.open(folder)` loads
    it again, and every command that takes a run takes it.

    Args:
        run: a finished run.
        folder: is made. It must not hold anything.

    Returns:
        The folder.

    Raises:
        RunError: the run is not finished, its encoder has no name that it can be built from, or the folder holds files.

    Example:
        >>> import tempfile
        >>> import pairsift as ps
        >>> folder = tempfile.TemporaryDirectory()
        >>> config = ps.TrainConfig(
        ...     data="digits:train", per_class=10, epochs=1, batch_size=50, progress=False, run_dir=f"{folder.name}/run"
        ... )
        >>> result = ps.pretrain(config)
        >>> exported = ps.train.export_encoder(result.run, f"{folder.name}/digits")
        >>> sorted(file.name for file in exported.iterdir())
        ['README.md', 'config.json', 'model.safetensors']
        >>> folder.cleanup()
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} exists and is not empty: choose another folder")
    width = run.load_encoder()(_probe(run)).shape[1]  # also refuses runs that cannot be loaded again
    folder.mkdir(parents=True, exist_ok=True)
    config = run.config()
    with replacing(folder / "model.safetensors") as temporary:
        shutil.copyfile(run.encoder_file, temporary)
    settings = config.model_dump(mode="json", exclude=set(config.unsaved))
    write_json(folder / "config.json", settings | {name: _name(settings[name]) for name in _PLACES})
    with replacing(folder / "README.md") as temporary:
        temporary.write_text(_card(run, config, folder.name, width), encoding="utf-8")
    return folder


def _probe(run: Run) -> Any:
    """One image, or one frame, of the size that the encoder takes."""
    import torch

    mean = run.load_encoder().mean
    if mean.dim() == 1:
        return torch.zeros(1, len(mean), dtype=torch.float32)
    size = run.config().image_size or 32
    return torch.zeros(1, 3, size, size, dtype=torch.float32)


def _name(place: str | None) -> str | None:
    """The last part of a path, because other people do not need the folders of this machine."""
    return place if not place or place.startswith(("hf:", "torchvision:", "digits")) else Path(place).name


def _card(run: Run, config: TrainConfig, name: str, width: int) -> str:
    hidden = _OF_TRAINING if config.method == "exact" else _OF_EXACT
    values = {field: getattr(config, field) for field in _SHOWN if field not in hidden}
    settings = "\n".join(f"| {field} | {value} |" for field, value in values.items() if value is not None)
    decisions = ""
    if run.decisions_file.is_file():
        reasons = [json.loads(line)["reason"] for line in run.decisions_file.read_text().splitlines()]
        decisions = f"\nThe treatment `auto` decided: {reasons[-1]}.\n" if reasons else ""
    loss = ""
    if run.metrics_file.is_file():
        with run.metrics_file.open(newline="") as file:
            rows = list(csv.DictReader(file))
        loss = f"\nThe loss of the last epoch was {float(rows[-1]['loss']):.3f}.\n" if rows else ""
    made = json.loads((run.path / "versions.json").read_text())
    versions = ", ".join(f"{package} {made[package]}" for package in ("pairsift", "torch") if package in made)
    return _CARD.format(
        name=name, data=_name(config.data) or "images given in Python", size=config.image_size, width=width,
        settings=settings, decisions=decisions, loss=loss, versions=versions,
    )  # fmt: skip
