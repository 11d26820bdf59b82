"""Docstrings as the reference reads them."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

TOGETHER = re.compile(r"^    (\*{0,2}\w+(?:, \*{0,2}\w+)+)(: .*(?:\n {5,}.*)*)", re.MULTILINE)


class Habits(Extension):
    """Say to griffe in its own way what the docstrings of this project say in theirs."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite a docstring before it is parsed."""
        if obj.docstring:
            obj.docstring.value = plain(obj.docstring.value)


def plain(words: str) -> str:
    """What stands under `Example:` is a session, as under `Examples:`; `a, b: words` is said of a and of b."""
    words = re.sub(r"^Example:$", "Examples:", words, flags=re.MULTILINE)
    return TOGETHER.sub(lambda found: "\n".join(f"    {name}{found[2]}" for name in found[1].split(", ")), words)
