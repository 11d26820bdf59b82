"""Options that commands share, and options made of the fields of a configuration."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from pydantic import BaseModel

DataArgument = Annotated[
    str, typer.Argument(metavar="DATA", help="parquet, image folder, .npy/.npz, digits, hf:NAME or torchvision:NAME")
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="run directory of a finished training run")]
LabelColumn = Annotated[str | None, typer.Option(help="column of the classes ('none' ignores labels)")]
PerClass = Annotated[int | None, typer.Option(help="only the first so many images of each class", min=1)]
SkipCorrupt = Annotated[bool, typer.Option("--skip-corrupt", help="leave out images that cannot be decoded")]
Device = Annotated[str, typer.Option(help="cpu, cuda or mps")]


def options_of(
    model: type[BaseModel], *, without: Iterable[str] = (), also: Mapping[str, Sequence[str]] | None = None
) -> list[inspect.Parameter]:
    """One option per field, so that flags, YAML keys and fields cannot drift apart.

    Args:
        model: the configuration.
        without: fields that are no options.
        also: other names of the option of a field, "-o" say.
    """
    also = also or {}
    parameters = []
    for name, field in model.model_fields.items():
        if name in without:
            continue
        flag = "--" + name.replace("_", "-")
        first = f"{flag}/--no-{name.replace('_', '-')}" if field.annotation is bool else flag
        extra = field.json_schema_extra
        option = typer.Option(
            first,
            *also.get(name, ()),
            help=f"{field.description}" + ("" if field.default is None else f" (default: {field.default})"),
            show_default=False,
            rich_help_panel=str(extra["panel"]) if isinstance(extra, dict) else None,
        )
        # Several numbers are one word, "1,2,4", which the configuration takes apart.
        kind = str if "tuple" in str(field.annotation) else field.annotation
        parameters.append(parameter(name, Optional[kind], option))  # noqa: UP045
    return parameters


def parameter(name: str, kind: Any, option: Any, default: Any = None) -> inspect.Parameter:
    """A parameter of a command; None where the user does not give it, unless it must be given (default empty)."""
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


CONFIG = parameter("config", Path | None, typer.Option("--config", help="YAML file of settings; flags win over it"))


def with_parameters(function: Any, parameters: list[inspect.Parameter]) -> None:
    """Make the function a command with these parameters, which typer reads from its signature."""
    function.__signature__ = inspect.Signature(parameters)
    function.__annotations__ = {each.name: each.annotation for each in parameters}


def given(flags: dict[str, Any]) -> dict[str, Any]:
    """The options that the user gave."""
    return {name: value for name, value in flags.items() if value is not None}
