"""Arms trained alike over seeds and temperatures: what the studies of selection do in common.

Every finished run is one file in the output folder: a study that was killed goes on where it was, and several processes
may share its runs. Run directories, with checkpoints and features, lie in --runs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from lab.claims import claimed
from lab.gains import markdown
from lab.measures import accuracies, labels_of
from lab.records import RESULTS, environment
from pairsift._base.files import write_json
from pairsift._base.settings import ConfigError
from pairsift.data import load_images
from pairsift.train import Objective, PairPolicy, Run, TrainConfig, pretrain


@dataclass(frozen=True)
class Arm:
    """One way to train, compared with others.

    Attributes:
        settings: of `TrainConfig`.
        evidence: labels of the training images, configuration -> what the run knows about classes; None leaves that to
            the configuration.
        objective: temperature -> the loss that takes the place of the configuration's.
        guide: "given" takes the features file of --guide; "plain" the features of the plain run of the same seed and
            temperature.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    evidence: Callable[[NDArray[np.int64], TrainConfig], PairPolicy] | None = None
    objective: Callable[[float], Objective] | None = None
    guide: Literal["given", "plain"] | None = None


# What says how a run is carried out, not what it computes.
_FREE = {"run_dir", "threads", "resume", "overwrite", "progress"}


def name_of(arm: str, seed: int, temperature: float) -> str:
    """The name of a run, of its folder and of its result."""
    return f"{arm}-t{temperature:g}-s{seed}"


def plan(arm: str, seed: int, temperature: float, options: argparse.Namespace) -> TrainConfig:
    """The settings of one run; CPU scale: resnet-small, batch 256, bf16.

    Raises:
        ConfigError: settings that do not go together, or an arm without the guide that it needs.
    """
    kind: Arm = options.known[arm]
    if kind.guide == "given" and options.guide is None:
        raise ConfigError(f"the arm {arm!r} needs --guide, a features file of the training images")
    values = {
        "data": options.train, "per_class": options.per_class, "epochs": options.epochs, "seed": seed,
        "temperature": temperature, "precision": "bf16", "save_features": arm == "plain", "progress": False,
        "run_dir": _folder(arm, seed, temperature, options), "threads": options.threads, **kind.settings, **options.set,
    }  # fmt: skip
    if kind.guide is not None:
        first = _folder("plain", seed, temperature, options) / "features.parquet"
        values["guide"] = options.guide if kind.guide == "given" else first
    return TrainConfig.build(values)


def finished(arm: str, seed: int, temperature: float, options: argparse.Namespace) -> dict[str, Any] | None:
    """The result of a run, trained and measured now unless it is there; None while another process works on it.

    Raises:
        ConfigError: the result that is there was made with other settings.
    """
    config = plan(arm, seed, temperature, options)
    file = options.output / f"{name_of(arm, seed, temperature)}.json"
    if options.known[arm].guide == "plain" and not (config.guide and config.guide.is_file()):
        finished("plain", seed, temperature, options)
        if not (config.guide and config.guide.is_file()):
            print(f"{file.stem}: its plain run is not finished yet", flush=True)
            return None
    with claimed(config.run_dir) as free:
        if file.exists():
            return _kept(file, config)
        if not free:
            print(f"{file.stem}: another process works on it", flush=True)
            return None
        result = {"arm": arm, **_measured(options.known[arm], config, options)}
        write_json(file, result)
    print(json.dumps({name: result[name] for name in ("arm", "seed", "temperature", "linear", "knn20")}), flush=True)
    return result


def _folder(arm: str, seed: int, temperature: float, options: argparse.Namespace) -> Path:
    folder: Path = options.runs / name_of(arm, seed, temperature)
    return folder


def _kept(file: Path, config: TrainConfig) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(file.read_text())
    wanted = config.model_dump(mode="json", exclude=_FREE)
    # What was no setting when the result was made had today's default.
    made = {name: field.default for name, field in TrainConfig.model_fields.items()} | result["config"]
    changed = [name for name in wanted if made[name] != wanted[name]]
    if changed:
        name = changed[0]
        raise ConfigError(
            f"{file} was made with {name}={made[name]!r}, and {wanted[name]!r} is asked for: "
            "choose another --output and --runs"
        )
    return result


def _measured(arm: Arm, config: TrainConfig, options: argparse.Namespace) -> dict[str, Any]:
    train = load_images(config.data, per_class=config.per_class, image_size=config.image_size)
    test = load_images(options.test, image_size=config.image_size)
    # A run that was killed before its first checkpoint starts again.
    resume = Run(config.run_dir).last_checkpoint.exists()
    settings = config.model_copy(update={"resume": resume, "overwrite": not resume})
    evidence = None if arm.evidence is None else arm.evidence(labels_of(train), config)
    objective = None if arm.objective is None else arm.objective(config.temperature)
    trained = pretrain(
        settings, images=train, policy=evidence, objective=objective, say=lambda line: print(line, flush=True)
    )
    epochs = [
        {name: row[name] for name in ("epoch", "loss", "flagged", "different", "different_base", "estimated")}
        for row in trained.metrics
    ]
    return {
        "seed": config.seed, "temperature": config.temperature,
        **{name: round(value, 2) for name, value in accuracies(trained.encoder, train, test).items()},
        "seconds": round(sum(row["seconds"] for row in trained.metrics), 1), "epochs": epochs,
        "config": config.model_dump(mode="json"), "test": options.test,
        "environment": environment(config.threads or 0),
    }  # fmt: skip


def main(
    name: str, what: str | None, arms: Mapping[str, Arm], usual: Sequence[str], given: Sequence[str] | None
) -> None:
    """Run a study, or print its table, as the command line says.

    Args:
        name: of the study, and of its folder of results.
        what: its description.
        arms: all that it knows; `plain` is among them.
        usual: those that are trained unless others are asked for.
        given: arguments; None takes the command line's.
    """
    options = _options(name, what, arms, usual, given)
    if options.table is not None:
        print(markdown([json.loads(file.read_text()) for file in sorted(options.table.glob("*.json"))]))
        return
    runs = [(arm, s, t, options) for s in options.seeds for t in options.temperatures for arm in options.arms]
    for run in runs:
        plan(*run)  # refuses before anything is trained
    options.output.mkdir(parents=True, exist_ok=True)
    options.runs.mkdir(parents=True, exist_ok=True)
    if options.jobs == 1:
        for run in runs:
            finished(*run)
        return
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        # Second runs wait for their plain ones.
        for later in (False, True):
            for done in [pool.submit(finished, *run) for run in runs if (arms[run[0]].guide == "plain") == later]:
                done.result()


def _options(
    name: str, what: str | None, arms: Mapping[str, Arm], usual: Sequence[str], given: Sequence[str] | None
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", nargs="?")
    parser.add_argument("test", nargs="?")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=arms, default=usual)
    parser.add_argument("--temperatures", type=float, nargs="+", default=[0.5])
    parser.add_argument("--per-class", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=VALUE", help="other settings, of every arm")
    parser.add_argument("--guide", type=Path, help="features file of the training images, for arms that need one")
    parser.add_argument("--output", type=Path, default=RESULTS / name, help="folder of one file a run")
    parser.add_argument("--runs", type=Path, default=Path("runs") / name, help="folder of the run directories")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--table", type=Path, help="print the results of this folder as a table, and train nothing")
    options = parser.parse_args(given)
    options.set = {name: yaml.safe_load(value) for name, _, value in (each.partition("=") for each in options.set)}
    options.known = arms
    if options.table is None and options.test is None:
        parser.error("name the training and the test images, or a folder with --table")
    return options
