"""Does dropping what a scan finds help? 20 %-mixed CIFAR-10 without the scan's top fifth, a random one, the mixes.

    python -m lab.drop --runs DIR [--threads 1]

Needs PAIRSIFT_DATA and the runs cifar10-pixel-none-SEED of `python -m lab.encoders` in DIR. Some 5 minutes
a run on one core, three runs a seed; finished runs are kept. Writes lab/results/drop.json: linear probe and 20-NN
on the test images, learned from the 10,000 clean training images, paired by seed.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np

from lab.encoders import SEEDS, configuration
from lab.measures import accuracies
from lab.records import RESULTS, data_folder, environment
from pairsift._base.files import write_json
from pairsift.data import load_images, open_features
from pairsift.evaluate import t_interval
from pairsift.scanning import scan
from pairsift.train import Run, pretrain

FRACTION = 0.2
ARMS = ("nothing", "random", "scan", "truth")


def drop_list(arm: str, run: Path, seed: int) -> list[int]:
    """Rows that an arm leaves out, from the features of the untreated run on all images."""
    features = open_features(run / "features.parquet")
    n = features.shape[0]
    if arm == "truth":
        planted: list[int] = features.rows[features.mixed].tolist()
        return planted
    if arm == "random":
        # Not the seed alone: the mixes were drawn by just this call with it.
        chosen = np.random.default_rng([seed, 1]).choice(n, round(FRACTION * n), replace=False)
    else:
        chosen = scan(features, n_classes=10, seed=seed, threads=1).drop(FRACTION)
    rows: list[int] = features.rows[np.sort(chosen)].tolist()
    return rows


def train(arm: str, seed: int, options: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Train without an arm's rows (or find it done); how many of them were planted."""
    base = options.runs / f"cifar10-pixel-none-{seed}"
    if arm == "nothing":
        return {"dropped": 0}
    rows = drop_list(arm, base, seed)
    run, file = options.runs / f"drop-{arm}-{seed}", options.runs / f"drop-{arm}-{seed}.csv"
    if not file.exists():
        with file.open("w", newline="") as out:
            csv.writer(out).writerows([["row"], *([row] for row in rows)])
    if not Run(run).encoder_file.exists():
        config = configuration(root, options.runs, "cifar10", "pixel", "none", seed)
        resume = Run(run).last_checkpoint.exists()
        update = {"run_dir": run, "drop": file, "threads": options.threads, "save_features": False}
        pretrain(config.model_copy(update=update | {"resume": resume, "overwrite": not resume}), say=print)
    mixed = set(drop_list("truth", base, seed))
    return {"dropped": len(rows), "planted_among_dropped": len(mixed.intersection(rows)) / len(rows)}


def main() -> None:
    """Run the study as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--output", type=Path, default=RESULTS / "drop.json")
    options = parser.parse_args()
    root = data_folder()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    train_set = load_images(str(root / "cifar10/train.parquet"), per_class=1000)
    test_set = load_images(str(root / "cifar10/test.parquet"))
    rows = []
    for seed in options.seeds:
        for arm in ARMS:
            facts = train(arm, seed, options, root)
            name = f"cifar10-pixel-none-{seed}" if arm == "nothing" else f"drop-{arm}-{seed}"
            measured = accuracies(Run(options.runs / name).load_encoder(), train_set, test_set)
            row = {"seed": seed, "arm": arm, **facts, **measured}
            print(row, flush=True)
            rows.append(row)
    differences = {
        f"{arm} minus {base}, {measure}": paired(rows, arm, base, measure)
        for arm, base in (("scan", "random"), ("scan", "nothing"), ("truth", "random"), ("truth", "nothing"))
        for measure in ("linear", "knn20")
    }
    for name, (mean, half) in differences.items():
        print(f"{name}: {mean:+.2f} ± {half:.2f}")
    record = {"environment": environment(options.threads), "rows": rows, "differences": differences}
    write_json(options.output, record)


def paired(rows: list[dict[str, Any]], arm: str, base: str, measure: str) -> tuple[float, float]:
    """Mean difference over seeds and half its 95 % t interval."""
    values = [[row[measure] for row in rows if row["arm"] == each] for each in (arm, base)]
    return t_interval(np.subtract(values[0], values[1]))


if __name__ == "__main__":
    main()
