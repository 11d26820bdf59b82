"""Seeded inputs through the public functions and the command line, by hypothesis.

    python tests/slow/campaigns/fuzz.py --inputs 10000 --seed 0

Every input has to end in a result that holds (against a slow oracle, or in shape and range) or in a refusal that the
library meant: a ValueError, TypeError or OSError raised by its own words; on the command line one or two lines and an
exit code that is not 0. No input may take a minute, or 3 GB.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import fuzz_api as api
import fuzz_commands
import fuzz_sets as sets
import fuzz_states
import hypothesis
import kinds
import torch
from fuzz_files import Files
from hypothesis import HealthCheck, Phase
from hypothesis.stateful import run_state_machine_as_test
from judge import Judge, limit_memory
from results import OUTPUT, merge

from pairsift import cli
from pairsift.train.run import versions

# Steps that a state machine takes before it begins anew.
STEPS = 12
# What is tried, how inputs are drawn, and what share of them.
TARGETS: dict[str, tuple[Any, Any, float]] = {
    "select_pairs": (api.select, api.selections(), 10),
    "losses": (api.losses, api.loss_cases(), 20),
    "random_pairs, pair_shares": (sets.shares, sets.flagged(), 3),
    "scan": (sets.scan, sets.scans(), 8),
    "Affinity": (sets.affinity, sets.big_sets, 4),
    "patch_features": (sets.patches, sets.pictures(), 0.5),
    "knn": (sets.knn, sets.splits(), 5),
    "linear_probe": (sets.probe, sets.splits(), 3),
    "detection": (sets.detection, sets.scored(), 4),
    "semantic_hits": (sets.hits, sets.triples(), 4),
    "collapse": (sets.collapse, sets.splits(), 4),
    "measure_levels": (sets.levels, sets.levelled(), 4),
    "SimilarityGraph, bounds": (sets.graph, sets.graphs(), 4),
    "settings": (sets.configs, sets.settings_(), 6),
    "mix": (sets.mix, sets.mixtures(), 3),
}


def with_files(folder: Path) -> dict[str, tuple[Any, Any, float]]:
    """The targets, those that read files in a folder among them."""
    files = Files(folder)
    commands = fuzz_commands.Commands(files.shelf)
    return TARGETS | {
        "odd tables": (files.odd_tables, Files.table_cases, 12),
        "layouts of columns": (files.layouts, kinds.layouts(), 5),
        "modes of images": (files.pictures, kinds.pictures(), 5),
        "broken files": (files.broken_files, Files.file_cases, 15),
        "broken folders": (files.broken_folders, Files.folder_cases, 6),
        "commands": (commands.inside, fuzz_commands.cases, 8),
        "commands as processes": (commands.outside, fuzz_commands.cases, 0.15),
        "states of a folder": (fuzz_states.Folder, None, 4),
    }


def tried(name: str, target: Any, strategy: Any, inputs: int, seed: int) -> tuple[dict[str, Any], str | None]:
    """What became of so many inputs of a target, and the first defect, made small."""
    judge, start, round_ = Judge(name), time.perf_counter(), 0
    settings = hypothesis.settings(
        max_examples=max(1, inputs), deadline=None, database=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink), report_multiple_bugs=False,
    )  # fmt: skip
    defect = None
    while judge.inputs < inputs and defect is None:  # a round may end before its time where draws repeat
        wanted = inputs - judge.inputs
        try:
            if strategy is None:
                play(target, judge, hypothesis.settings(settings, max_examples=-(-wanted // STEPS)), seed + round_)
            else:
                draw(target, judge, strategy, hypothesis.settings(settings, max_examples=wanted), seed + round_)
        except Exception as error:
            defect = f"{error}\n" + "\n".join(getattr(error, "__notes__", []))
        round_ += 1
    seconds = round(time.perf_counter() - start, 1)
    return {"what": name, "inputs": judge.inputs, **dict(sorted(judge.outcomes.items())), "seconds": seconds}, defect


def draw(target: Any, judge: Judge, strategy: Any, settings: hypothesis.settings, seed: int) -> None:
    """Give a target inputs that a strategy draws."""

    @hypothesis.seed(seed)
    @settings
    @hypothesis.given(strategy)
    def run(case: Any) -> None:
        target(judge, case)

    run()


def play(machine: Any, judge: Judge, settings: hypothesis.settings, seed: int) -> None:
    """Let a state machine take its steps."""
    judged = hypothesis.seed(seed)(type(machine.__name__, (machine,), {"judge": judge}))
    run_state_machine_as_test(judged, settings=hypothesis.settings(settings, stateful_step_count=STEPS))


def main() -> None:
    """Try all targets and write what came of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="targets whose names hold this")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    # Loads the modules that commands load.
    cli.guarded(["theory", "graph", "--alpha", "0.5", "--beta", "0.1", "--gamma", "0.3"], False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    limit_memory()
    environment = versions(options.seed) | {"hypothesis": importlib.metadata.version("hypothesis")}
    rows, defects = [], []
    with tempfile.TemporaryDirectory() as folder:
        targets = {name: each for name, each in with_files(Path(folder)).items() if (options.only or "") in name}
        whole = sum(share for _, _, share in targets.values())
        for name, (target, strategy, share) in targets.items():
            row, defect = tried(name, target, strategy, round(options.inputs * share / whole), options.seed)
            rows.append(row | {"defects": int(defect is not None)})
            print(json.dumps(row), flush=True)
            if defect is not None:
                defects.append(name)
                print(f"--- {name}: {defect}\n---", flush=True)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            # After every target: a campaign that is stopped has what it found.
            rows[-1]["growth_of_peak_mb"] = round(grown)
            merge(options.output, "fuzz", rows, environment, whole=not options.only)
    print(json.dumps({"inputs": sum(row["inputs"] for row in rows), "defects": defects}), flush=True)
    raise SystemExit(bool(defects))


if __name__ == "__main__":
    main()
