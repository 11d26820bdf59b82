"""Where the campaigns write: one file, a part of it each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pairsift._base.files import write_json

ROOT = Path(__file__).parents[3]
OUTPUT = ROOT / "lab/benchmarks/results/campaign.json"


def merge(file: Path, part: str, content: dict[str, Any]) -> None:
    """Write a part of the results; the others stay as they are."""
    earlier = json.loads(file.read_text()) if file.exists() else {}
    write_json(file, earlier | {part: content})
