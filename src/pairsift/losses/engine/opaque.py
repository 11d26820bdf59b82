"""`opaque` keeps `torch.compile` out of a function without loading the compiler."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

_Function = TypeVar("_Function", bound=Callable[..., Any])


def opaque(function: _Function) -> _Function:
    """A function that `torch.compile` does not trace.

    `torch.compiler.disable` loads the compiler, which takes seconds. As long as the compiler is not loaded nothing is
    compiled, so this applies it at the first call after the compiler was loaded.
    """

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return function(*arguments, **options)
        if not hidden:
            hidden.append(torch.compiler.disable(function))  # type: ignore[no-untyped-call]
        return hidden[0](*arguments, **options)

    hidden: list[Callable[..., Any]] = []
    return cast(_Function, call)
