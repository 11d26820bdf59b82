"""The noisy-graph laboratory over noise, bands, strengths and rounds: where treatments pay.

    python -m pairsift.studies.laboratory [--draws 60] [--output studies/results/laboratory-sweep.jsonl]

One JSON line a setting, with the gains of the treatments that know nothing, their random controls and the cost of
difficult examples; a setting that is in the output already is not run again. Some ten minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from pairsift.pairs import RankBand
from pairsift.studies.laboratory import LaboratorySetting, Row, run_laboratory
from pairsift.studies.records import emit, environment

ARMS = ("without", "margin", "temperature", "drop", "random margin", "random temperature", "random drop", "removal",
        "random removal", "oracle margin", "oracle temperature")  # fmt: skip
# At these the first seed draws a vertex whose degree the noise makes negative: seed 1 does not.
SECOND_SEED = ({"epsilon": 0.75}, {"n_d": 20}, {"rounds": 1}, {"rounds": 10}, {"pairing": "matched"}, {"k": 10})


def settings() -> list[tuple[dict[str, Any], int]]:
    """Changes to the default laboratory, and the seed."""
    bands = ((0.2, 1.0), (0.2, 0.3), (0.4, 1.0))
    grid: list[tuple[dict[str, Any], int]] = [
        ({"epsilon": epsilon, "band": band}, 0) for epsilon in (0.3, 0.45, 0.6, 0.7) for band in bands
    ]
    grid += [({"temperature_scale": t, "margin": m}, 0) for t, m in ((0.9, 0.1), (0.6, 0.6), (0.4, 1.0))]
    return [*grid, ({"n_d": 5}, 0), *((change, 1) for change in SECOND_SEED)]


def in_points(row: Row) -> list[float | None]:
    """Difference from untreated, its half-width, and purity minus base rate, in percentage points."""
    values = (row.difference, row.half_width or 0, row.excess)
    return [None if value is None else round(100 * value, 2) for value in values]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if options.output is not None and options.output.exists():
        rows = [json.loads(line) for line in options.output.read_text().splitlines()]
    done = [(row["change"], row["seed"], row["draws"]) for row in rows]
    for change, seed in settings():
        if (json.loads(json.dumps(change)), seed, options.draws) in done:
            continue
        values = change | ({"band": RankBand(*change["band"])} if "band" in change else {})
        report = run_laboratory(LaboratorySetting(**values), options.draws, seed)
        row: dict[str, Any] = {"benchmark": "laboratory", "change": change, "seed": seed, "draws": options.draws}
        for gamma in report.setting.gammas:
            cells = {each.arm: each for each in report.rows if each.gamma == gamma}
            untreated: dict[str, Any] = {"untreated": round(100 * cells["with"].accuracy, 2)}
            row[f"gamma {gamma}"] = untreated | {arm: in_points(cells[arm]) for arm in ARMS}
        rows.append(row | environment(1))
        emit(rows, options.output)


if __name__ == "__main__":
    main()
