"""`opaque` keeps `torch.compile` out of a function, and loads no compiler to do so."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

_Function = TypeVar("_Function", bound=Callable[..., Any])


def opaque(function: _Function) -> _Function:
    """A function in front of which `torch.compile` breaks its graph, to go on behind it.

    `torch.compiler.disable` loads the compiler, which takes seconds. Where the compiler is not loaded nothing is
    compiled, so it is asked for at the first call that finds it there.
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
