"""What commands check and read before their work: places of outputs, and the images of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairsift.cli.app import notes

if TYPE_CHECKING:
    from pairsift.data import ImageSet


def check_output(path: Path | None) -> None:
    """Refuse a file whose folder is not there."""
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"the folder of {path} does not exist")


def known_device(name: str) -> Any:
    """A device of this machine, refused where it is none."""
    import torch

    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # each kind has its own
        raise ValueError(f"`device={name!r}` is not there: use cpu, cuda or mps, as this machine has") from error
    return device


def load_for(run: Path, spec: str, label_column: str | None, per_class: int | None, skip_corrupt: bool) -> ImageSet:
    """Images as the encoder of a run takes them, said how they are held."""
    from pairsift.train import Run, load_as_configured

    config = Run.open(run).config()
    images = load_as_configured(config, spec, label_column or config.label_column, per_class, skip_corrupt)
    notes.print(f"{spec}: {images.where}", soft_wrap=True)
    if images.corrupt:
        notes.print(
            f"left out {len(images.corrupt)} images that cannot be decoded, the first at row {images.corrupt[0]}"
        )
    return images


def load_labelled(
    run: Path, spec: str, label_column: str | None, per_class: int | None, skip_corrupt: bool
) -> ImageSet:
    """The same, refused where they have no labels."""
    images = load_for(run, spec, label_column, per_class, skip_corrupt)
    if images.labels is None:
        raise ValueError(f"{spec} has no labels to score against: name their column with `label_column`")
    return images
