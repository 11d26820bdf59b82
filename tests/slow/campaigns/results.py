"""Where the campaigns write: one file of runs in the schema of `lab.rows`, a study a campaign."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
sys.path.append(str(ROOT))  # the lab is part of the checkout, not of what is installed

from lab.rows import read, row_of, write  # noqa: E402

OUTPUT = ROOT / "lab/benchmarks/results/campaign.jsonl"


def merge(
    file: Path, campaign: str, found: Iterable[Mapping[str, Any]], environment: Mapping[str, Any], whole: bool = True
) -> None:
    """Write the results of a campaign; those of other campaigns stay as they are.

    Args:
        file: of all campaigns.
        campaign: name of this one.
        found: a record for each thing that was tried, with its name as "what".
        environment: versions, commit and machine.
        whole: whether they take the place of all earlier results; False replaces those of the same name.
    """
    rows = {
        record["what"]: row_of(campaign, {**environment, **record, "what": None}, arm=record["what"])
        for record in found
    }
    for row in rows.values():
        del row["measures"]["what"]
    kept = []
    for row in read(file) if file.exists() else []:
        if row["study"] != campaign:
            kept.append(row)
        elif not whole:
            kept.append(rows.pop(row["arm"], row))
    write(file, [*kept, *rows.values()])
