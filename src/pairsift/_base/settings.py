"""The base of configurations: a field is a keyword, a key of YAML and an option of the command line, checked once."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import Self

from pairsift._base.files import replacing

# Longer values are not shown in messages.
_LONGEST = 200


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the field, the value and the remedy."""


def setting(default: Any, panel: str, description: str, **limits: Any) -> Any:
    """A field with its group and its words in the help of the command line."""
    return Field(default, description=description, json_schema_extra={"panel": panel}, **limits)


class Settings(BaseModel):
    """Frozen, validated fields; unknown ones are errors.

    Raises:
        ConfigError: unknown fields (the nearest known name is given) or bad values, each named; or the subclass of
            ValueError that a subclass sets as `error`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    error: ClassVar[type[ValueError]] = ConfigError
    # Fields that `save` leaves out, such as `overwrite`: they do not describe the result.
    unsaved: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, **values: Any) -> None:
        values = self.known(values)
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise self.error("; ".join(_words(item) for item in error.errors())) from error

    @classmethod
    def build(cls, values: dict[str, Any]) -> Self:
        """The configuration of plain values, as the constructor checks them."""
        return cls(**{str(name): value for name, value in values.items()})

    @classmethod
    def load(cls, path: Path, **overrides: Any) -> Self:
        """Read YAML; `overrides` win over the file.

        Raises:
            ConfigError: the file is missing, not YAML, or not a mapping of known fields.
        """
        return cls.build({**cls.read(path), **overrides})

    @classmethod
    def read(cls, path: Path) -> dict[str, Any]:
        """The values of a YAML file, unchecked.

        Raises:
            ConfigError: the file is missing, not YAML, or not a mapping.
        """
        try:
            values = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise cls.error(f"{path} cannot be read as a configuration: {_trouble(error)}") from error
        if not isinstance(values, dict):
            raise cls.error(f"{path} must map field names to values, got {type(values).__name__}")
        return values

    def save(self, path: Path) -> None:
        """Write all fields but the unsaved ones as YAML."""
        fields = self.model_dump(mode="json", exclude=set(self.unsaved))
        with replacing(path) as temporary:
            temporary.write_text(yaml.safe_dump(fields, sort_keys=False))

    def updated(self, function: str, keywords: dict[str, Any]) -> Self:
        """The configuration with some fields set anew, as the keywords of a function.

        Raises:
            TypeError: a keyword is no field.
        """
        for name in keywords:
            hint = self.hint(name)
            if hint is not None:
                raise TypeError(f"{function}() got an unexpected keyword argument {name!r}: {hint}")
        return self if not keywords else type(self)(**self.model_dump() | keywords)

    @classmethod
    def known(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The values, all of which are fields; a subclass may take, or explain, other names first.

        Raises:
            ConfigError: an unknown name.
        """
        for name in values:
            hint = cls.hint(name)
            if hint is not None:
                raise cls.error(f"unknown field {name!r}: {hint}")
        return values

    @classmethod
    def hint(cls, name: str) -> str | None:
        """For an unknown name, the nearest field or all fields; None for a field."""
        if name in cls.model_fields:
            return None
        near = difflib.get_close_matches(name, cls.model_fields, n=1, cutoff=0.5)
        return f"did you mean {near[0]!r}?" if near else f"known fields: {', '.join(cls.model_fields)}"


def _trouble(error: Exception) -> str:
    """What is wrong with a file, in one line; of YAML, where."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem}, in line {error.problem_mark.line + 1}"
    return " ".join(str(error).split())


def _words(item: Any) -> str:
    """One thing that pydantic found, without its own prefix."""
    where = ".".join(str(part) for part in item["loc"])
    message = str(item["msg"]).removeprefix("Value error, ")
    value = repr(item["input"])
    value = value if len(value) <= _LONGEST else f"a {type(item['input']).__name__}"
    got = f", got {value}" if where and "got" not in message else ""
    return f"{where}: {message}{got}" if where else message
