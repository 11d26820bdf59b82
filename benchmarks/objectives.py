"""Plain and combined SimCLR, MoCo and spectral learning on CIFAR-10 at CPU scale: linear probe and 20-NN.

    python benchmarks/objectives.py --runs DIR [--methods simclr moco spectral] [--threads 1]

Needs PAIRSIFT_DATA. Some 6 to 9 minutes a run on one core; finished runs in DIR are kept, an interrupted one is
continued, so several processes may share the methods among them. The spectral loss is run with the mu that is best for
the plain loss on seed 0, by 20-NN on training images that no encoder saw. With all methods there,
results/objectives.json is written: accuracy in percent on the test images, and combined minus plain paired by seed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from _common import environment
from encoders import SEEDS, configuration
from scipy import stats

from pairsift.data import ImageSet, load_images, subset
from pairsift.evaluate import knn, linear_probe
from pairsift.files import write_json
from pairsift.train import Run, TrainConfig, embed, pretrain

METHODS = ("simclr", "moco", "spectral")
TREATMENTS = ("none", "combined")
MUS = (1.0, 3.0, 10.0, 30.0)
PER_CLASS, HELD_OUT = 1000, 200


def trained(config: TrainConfig, threads: int) -> Run:
    """The finished run of a configuration, trained now unless it is there."""
    run = Run(config.run_dir)
    if not run.encoder_file.exists():
        resume = run.last_checkpoint.exists()
        pretrain(config.model_copy(update={"threads": threads, "resume": resume, "overwrite": not resume}), say=print)
    return run


def plan(method: str, treatment: str, seed: int, mu: float, options: argparse.Namespace) -> TrainConfig:
    """One run: the settings of benchmarks/encoders.py, whose plain SimCLR runs are these."""
    config = configuration(options.data, options.runs, "cifar10", "plain", treatment, seed)
    if method == "simclr":
        return config
    name = f"cifar10-{method}{f'-mu{mu:g}' if method == 'spectral' else ''}-{treatment}-{seed}"
    values = config.model_dump(exclude={"temperature"}) | {"method": method, "mu": mu, "run_dir": options.runs / name}
    return TrainConfig.build(values)


def tuned_mu(options: argparse.Namespace) -> tuple[float, dict[str, float]]:
    """The mu with the best 20-NN of the plain loss on held-out training images, and the accuracies."""
    images = load_images(str(options.data / "cifar10/train.parquet"), per_class=PER_CLASS + HELD_OUT)
    order = np.argsort(images.labels, kind="stable").reshape(-1, PER_CLASS + HELD_OUT)
    seen, held = (subset(images, np.sort(rows.ravel())) for rows in (order[:, :PER_CLASS], order[:, PER_CLASS:]))
    accuracy = {}
    for mu in MUS:
        encoder = trained(plan("spectral", "none", 0, mu, options), options.threads).load_encoder()
        accuracy[mu] = 100 * knn(embed(encoder, seen), seen.labels, embed(encoder, held), held.labels, k=20)
        print({"mu": mu, "held_out_knn20": accuracy[mu]}, flush=True)
    return max(MUS, key=lambda mu: accuracy[mu]), {f"{mu:g}": round(value, 2) for mu, value in accuracy.items()}


def measured(run: Run, train: ImageSet, test: ImageSet) -> dict[str, float]:
    """Test accuracies in percent, kept in the run's folder."""
    file = run.path / "accuracy.json"
    if file.exists():
        kept: dict[str, float] = json.loads(file.read_text())
        return kept
    encoder = run.load_encoder()
    x, test_x = embed(encoder, train), embed(encoder, test)
    accuracy = {
        "linear": round(100 * linear_probe(x, train.labels, test_x, test.labels).accuracy, 2),
        "knn20": round(100 * knn(x, train.labels, test_x, test.labels, k=20), 2),
    }
    write_json(file, accuracy)
    return accuracy


def interval(differences: list[float]) -> dict[str, float]:
    """Mean and half the 95 % t interval."""
    values = np.array(differences)
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return {"mean": round(float(values.mean()), 2), "half_width": round(float(half), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "objectives.json")
    options = parser.parse_args()
    if "PAIRSIFT_DATA" not in os.environ:
        sys.exit("PAIRSIFT_DATA is not set: it names the folder of the real data")
    options.data = Path(os.environ["PAIRSIFT_DATA"])
    train = load_images(str(options.data / "cifar10/train.parquet"), per_class=PER_CLASS)
    test = load_images(str(options.data / "cifar10/test.parquet"))
    rows: list[dict[str, Any]] = []
    mu, tuning = tuned_mu(options) if "spectral" in options.methods else (1.0, {})
    for method in options.methods:
        for seed in SEEDS:
            for treatment in TREATMENTS:
                run = trained(plan(method, treatment, seed, mu, options), options.threads)
                rows.append({"method": method, "treatment": treatment, "seed": seed, **measured(run, train, test)})
                print(rows[-1], flush=True)
    if set(options.methods) != set(METHODS):
        return
    summary = []
    for method in METHODS:
        for measure in ("linear", "knn20"):
            plain, combined = (
                [row[measure] for row in rows if (row["method"], row["treatment"]) == (method, treatment)]
                for treatment in TREATMENTS
            )
            gain = interval([b - a for a, b in zip(plain, combined, strict=True)])
            line = {"method": method, "measure": measure, "plain": interval(plain), "combined": interval(combined)}
            summary.append(line | {"gain": gain})
            print(summary[-1])
    record = {"environment": environment(options.threads), "mu": mu, "mu_tuning": tuning, "summary": summary}
    write_json(options.output, record | {"rows": rows})


if __name__ == "__main__":
    main()
