"""Words of the library in words of the command line: settings named in backquotes become flags."""

from __future__ import annotations

import re
import shlex
from functools import cache

from pairsift._base.extras import MissingExtraError
from pairsift.cli.app import load
from pairsift.cli.commands import COMMANDS

_SETTING = re.compile(r"`(\w+)(?:=([^`]*))?`")
_QUOTES = "'\""


def in_flags(text: str, command: str | None = None) -> str:
    """The text with `resume=True` as --resume, `label_column='none'` as --label-column none and so on.

    Args:
        text: a message; what is named in it without backquotes stays.
        command: whose options are meant first; an option of any other is better than none.
    """
    return _SETTING.sub(lambda found: _flag(found, command), text)


def _flag(found: re.Match[str], command: str | None) -> str:
    name, value = found.group(1), found.group(2)
    first = [command] if command in COMMANDS else []
    flag = next((flags[name] for each in (*first, *COMMANDS) if name in (flags := _options(each))), None)
    if flag is None:
        return found.group(0)
    if value is None or value == "True":
        return flag
    if value == "False":
        return flag.replace("--", "--no-", 1)
    return f"{flag} {shlex.quote(value.strip(_QUOTES))}"


@cache
def _options(command: str) -> dict[str, str]:
    """The first flag of every option of a command; none of one whose packages are not installed."""
    try:
        loaded = load(command)
    except MissingExtraError:
        return {}
    commands = [loaded, *getattr(loaded, "commands", {}).values()]
    return {each.name: each.opts[0] for one in commands for each in one.params if each.opts[0].startswith("--")}
