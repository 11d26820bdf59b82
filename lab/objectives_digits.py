"""Plain and combined SimCLR, MoCo and spectral learning on CIFAR-10 at CPU scale: linear probe and 20-NN.

    python -m lab.objectives_digits --runs DIR [--methods simclr moco spectral] [--threads 1]

Needs PAIRSIFT_DATA. Some 6 to 9 minutes a run on one core; finished runs in DIR are kept, an interrupted one is
continued, so several processes may share the methods among them. The spectral loss is run with the mu that is best for
the plain loss on seed 0, by 20-NN on training images that no encoder saw. With all methods there, the output
(lab/results/objectives.json) is written: accuracy in percent on the test images, and combined minus plain paired by
seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from lab.encoders import SEEDS, configuration
from lab.measures import accuracies, labels_of, rounded_interval
from lab.records import RESULTS, data_folder, environment
from pairsift._base.files import write_json
from pairsift.data import ImageSet, load_images, subset
from pairsift.evaluate import knn
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
    """One run: the settings of `studies.encoders`, whose plain SimCLR runs are these."""
    config = configuration(options.data, options.runs, "cifar10", "plain", treatment, seed)
    if method == "simclr":
        return config
    name = f"cifar10-{method}{f'-mu{mu:g}' if method == 'spectral' else ''}-{treatment}-{seed}"
    values = config.model_dump(exclude={"temperature"}) | {"method": method, "mu": mu, "run_dir": options.runs / name}
    return TrainConfig.build(values)


def tuned_mu(options: argparse.Namespace) -> tuple[float, dict[str, float]]:
    """The mu with the best 20-NN of the plain loss on held-out training images, and the accuracies."""
    images = load_images(str(options.data / "cifar10/train.parquet"), per_class=PER_CLASS + HELD_OUT)
    order = np.argsort(labels_of(images), kind="stable").reshape(-1, PER_CLASS + HELD_OUT)
    seen, held = (subset(images, np.sort(rows.ravel())) for rows in (order[:, :PER_CLASS], order[:, PER_CLASS:]))
    accuracy = {}
    for mu in MUS:
        encoder = trained(plan("spectral", "none", 0, mu, options), options.threads).load_encoder()
        accuracy[mu] = 100 * knn(embed(encoder, seen), labels_of(seen), embed(encoder, held), labels_of(held), k=20)
        print({"mu": mu, "held_out_knn20": accuracy[mu]}, flush=True)
    return max(MUS, key=lambda mu: accuracy[mu]), {f"{mu:g}": round(value, 2) for mu, value in accuracy.items()}


def measured(run: Run, train: ImageSet, test: ImageSet) -> dict[str, float]:
    """Test accuracies in percent, kept in the run's folder."""
    file = run.path / "accuracy.json"
    if file.exists():
        kept: dict[str, float] = json.loads(file.read_text())
        return kept
    accuracy = {name: round(value, 2) for name, value in accuracies(run.load_encoder(), train, test).items()}
    write_json(file, accuracy)
    return accuracy


def summarised(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds with their intervals, and combined minus plain paired by seed."""
    lines = []
    for method in METHODS:
        for measure in ("linear", "knn20"):
            plain, combined = (
                [row[measure] for row in rows if (row["method"], row["treatment"]) == (method, treatment)]
                for treatment in TREATMENTS
            )
            gain = rounded_interval([b - a for a, b in zip(plain, combined, strict=True)])
            sides = {"plain": rounded_interval(plain), "combined": rounded_interval(combined)}
            lines.append({"method": method, "measure": measure, **sides, "gain": gain})
            print(lines[-1])
    return lines


def main() -> None:
    """Run the study, or the methods asked for, and write its results when all are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS / "objectives.json")
    options = parser.parse_args()
    options.data = data_folder()
    options.output.parent.mkdir(parents=True, exist_ok=True)
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
    record = {"environment": environment(options.threads), "mu": mu, "mu_tuning": tuning, "summary": summarised(rows)}
    write_json(options.output, record | {"rows": rows})


if __name__ == "__main__":
    main()
