"""Options that commands share, options made from the fields of a configuration, and checks of what they name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer
from pydantic import BaseModel

from pairsift._base.words import counted
from pairsift.cli.app import notes

if TYPE_CHECKING:
    from pairsift.data import ImageSet

DataArgument = Annotated[
    str, typer.Argument(metavar="DATA", help="parquet, image folder, .npy/.npz, digits, hf:NAME or torchvision:NAME")
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="run directory of a finished training run")]
LabelColumn = Annotated[str | None, typer.Option(help="column of the classes")]
NoLabels = Annotated[bool, typer.Option("--no-labels", help="ignore labels")]
PerClass = Annotated[int | None, typer.Option(help="only the first so many images of each class", min=1)]
SkipCorrupt = Annotated[bool, typer.Option("--skip-corrupt", help="leave out images that cannot be decoded")]
Device = Annotated[str, typer.Option(help="cpu, cuda or mps")]


def options_of(
    model: type[BaseModel],
    *,
    without: Iterable[str] = (),
    named: Mapping[str, Sequence[str]] | None = None,
) -> list[inspect.Parameter]:
    """Make one option for every field, so that flags, YAML keys and fields cannot differ.

    Args:
        model: the configuration.
        without: fields that are not options.
        named: names of the option of a field that replace the name of the field, ("--output", "-o") for example.
    """
    named = named or {}
    parameters = []
    for name, field in model.model_fields.items():
        if name in without:
            continue
        flag = "--" + name.replace("_", "-")
        first = f"{flag}/--no-{name.replace('_', '-')}" if field.annotation is bool else flag
        extra = field.json_schema_extra
        option = typer.Option(
            *named.get(name, (first,)),
            help=f"{field.description}" + ("" if field.default is None else f" (default: {field.default})"),
            show_default=False,
            rich_help_panel=str(extra["panel"]) if isinstance(extra, dict) else None,
        )
        # Several numbers are one word, "1,2,4", which the configuration splits.
        kind = str if "tuple" in str(field.annotation) else field.annotation
        parameters.append(parameter(name, Optional[kind], option))  # noqa: UP045
    return parameters


def parameter(name: str, kind: Any, option: Any, default: Any = None) -> inspect.Parameter:
    """Make a parameter of a command. Its value is None unless the user gives it; an empty default makes it required."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


CONFIG = parameter("config", Path | None, typer.Option("--config", help="YAML file of settings; flags win over it"))


def with_parameters(function: Any, parameters: list[inspect.Parameter]) -> None:
    """Give a function the parameters that typer reads from its signature."""
    function.__signature__ = inspect.Signature(parameters)
    function.__annotations__ = {each.name: each.annotation for each in parameters}


def given(flags: dict[str, Any]) -> dict[str, Any]:
    """The options that the user gave."""
    return {name: value for name, value in flags.items() if value is not None}


def column_of_labels(label_column: str | None, no_labels: bool) -> str | None:
    """The `label_column` that the library takes for the options --label-column and --no-labels.

    Raises:
        ValueError: both options were given.
    """
    from pairsift.data.columns import NO_LABELS

    if no_labels and label_column not in (None, NO_LABELS):
        raise ValueError(f"--no-labels ignores labels, so leave out --label-column {label_column}")
    return NO_LABELS if no_labels else label_column


def check_output(path: Path | None) -> None:
    """Refuse a file whose folder does not exist."""
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"the folder of {path} does not exist")


def known_device(name: str) -> Any:
    """The device of this machine with a name.

    Raises:
        ValueError: the machine has no such device.
    """
    import torch

    try:
        device = torch.device(name)
        torch.empty(0, dtype=torch.float32, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # each kind of device has its own error
        raise ValueError(f"`device={name!r}` is not there: use cpu, cuda or mps, as this machine has") from error
    return device


def load_for(run: Path, spec: str, label_column: str | None, per_class: int | None, skip_corrupt: bool) -> ImageSet:
    """Load images in the form that the encoder of a run takes, and print how they are held."""
    from pairsift.train import Run, load_as_configured

    config = Run.open(run).config()
    images = load_as_configured(config, spec, label_column or config.label_column, per_class, skip_corrupt)
    notes.print(f"{spec}: {images.where}", soft_wrap=True)
    if images.corrupt:
        count = counted(len(images.corrupt), "image")
        notes.print(f"left out {count} that cannot be decoded, the first at row {images.corrupt[0]}")
    return images


def load_labelled(
    run: Path, spec: str, label_column: str | None, per_class: int | None, skip_corrupt: bool
) -> ImageSet:
    """Load images as `load_for` does, and refuse them without labels.

    Raises:
        ValueError: the images have no labels.
    """
    images = load_for(run, spec, label_column, per_class, skip_corrupt)
    if images.labels is None:
        raise ValueError(f"{spec} has no labels to score against: name their column with `label_column`")
    return images
