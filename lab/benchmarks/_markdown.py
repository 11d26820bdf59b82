"""Markdown of result files: rows, numbers with their digits, and where they come from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
Row = dict[str, Any]
Cells = Sequence[str | None]


def read(name: str) -> Any:
    """A result file: an object, or the list of its lines."""
    text = (ROOT / name).read_text()
    return [json.loads(line) for line in text.splitlines() if line] if name.endswith(".jsonl") else json.loads(text)


def markdown(titles: Sequence[str], rows: Iterable[Cells], source: str, facts: Row) -> str:
    """A table, and the line that says where it comes from."""
    return f"{markdown_rows(titles, rows)}\n\n{origin(source, facts)}\n"


def markdown_rows(titles: Sequence[str], rows: Iterable[Cells]) -> str:
    """A table, without the columns in which no row has a value."""
    lines = list(rows)
    used = [i for i, _ in enumerate(titles) if i == 0 or any(line[i] for line in lines)]
    table = [[titles[i] for i in used], ["---"] * len(used), *([line[i] or "" for i in used] for line in lines)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in table)


def origin(source: str, facts: Row) -> str:
    """What made a table: its file, the versions and the commit that are written there."""
    said = [f"{name} {facts[name]}" for name in ("python", "torch") if name in facts]
    peers = facts.get("versions") or facts.get("peers") or {}
    said += [f"{name} {version}" for name, version in peers.items() if version and name not in ("python", "torch")]
    if facts.get("threads"):
        said.append(f"{facts['threads']} thread" + "s" * (facts["threads"] > 1))
    if facts.get("git_commit"):
        said.append(f"commit {facts['git_commit'][:10]}")
    return f"From `{source}`" + (f" ({', '.join(said)})." if said else ".")


def number(value: float | None, digits: int | None = None, unit: str = "", scale: float = 1) -> str | None:
    """A number to so many digits after the point, or to two or three that count; None stays None."""
    if value is None or math.isnan(value):
        return None
    value *= scale
    if digits is None:
        digits = 0 if abs(value) >= 10 else 1
    return f"{value:,.{digits}f}{unit}"


def interval(value: Row | Sequence[float] | None, signed: bool = False, scale: float = 1) -> str | None:
    """Mean and half-width, of a dictionary or a pair, with one digit."""
    if value is None:
        return None
    mean, half = (value["mean"], value["half_width"]) if isinstance(value, dict) else value
    sign = "+" if signed else ""
    return f"{scale * mean:{sign}.1f}" + (f" ± {scale * half:.1f}" if half and not math.isnan(half) else "")


def mean(values: Sequence[float]) -> float:
    """Of at least one value."""
    return sum(values) / len(values)
