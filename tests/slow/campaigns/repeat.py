"""Which results are the same bit by bit when they are made again, with other threads, or by another engine.

    python tests/slow/campaigns/repeat.py

Every command runs in a process of its own, twice with one thread and once with two, and some by another engine. What it
leaves is compared array by array: 0 is bit by bit, else the largest |a - b| / |a| of any array.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from results import OUTPUT, merge
from safetensors.numpy import load_file
from threadpoolctl import threadpool_limits

import pairsift as ps
from pairsift import cli
from pairsift.train.run import versions

Numbers = dict[str, Any]
CLOCK = ("images_per_second", "seconds")
TRAIN = "train digits:train --per-class 60 --image-size 16 --batch-size 128 --epochs 2 --device cpu --treatment"
# What is run; THREADS is the flag that sets their number, where there is one beside the environment's.
COMMANDS = {
    "train, SimCLR": f"{TRAIN} combined --no-progress THREADS -o OUT",
    "embed": "embed RUN digits:test -o OUT/features.parquet",
    "probe": "probe RUN digits:train digits:test --per-class 40",
    "scan": "scan FEATURES --n-classes 10 THREADS -o OUT",
    "theory measure": "theory measure FEATURES --no-labels --n-classes 10",
    "text-views": "text-views TEXTS -o OUT/views.parquet",
    "pairs": "pairs PAIRS THREADS -o OUT",
    "train, auto": f"{TRAIN} auto --no-progress --affinity-start 1 THREADS -o OUT",
    "train, MoCo": f"{TRAIN} combined --no-progress --method moco --queue-size 512 THREADS -o OUT",
    "train, spectral": f"{TRAIN} combined --no-progress --method spectral THREADS -o OUT",
    "train, mixed": f"{TRAIN} combined --no-progress --method mixed THREADS -o OUT",
}
# Another way to the same: chunks in training, Ray for a scan.
ENGINES = {
    "train, SimCLR": ("chunks of 64 views", "--mini-batch-size 64"),
    "train, MoCo": ("chunks of 64 views", "--mini-batch-size 64"),
    "scan": ("Ray", "--engine ray"),
}


class Place:
    """What commands read, and where they write.

    Args:
        folder: to work in.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        rng = np.random.default_rng(0)
        x = 3 * rng.standard_normal((10, 32))[np.arange(9000) % 10] + rng.standard_normal((9000, 32))
        pq.write_table(pa.table({"features": list(x.astype(np.float32))}), folder / "features.parquet")
        texts = ["the weather is good today", "an old house was sold", "she likes to buy cheap books"]
        pq.write_table(pa.table({"text": [f"{texts[i % 3]} {i}" for i in range(300)]}), folder / "texts.parquet")
        vectors = [list(row) for row in x[:2000].astype(np.float32)]
        pairs = {"anchor": vectors, "positive": vectors[10:] + vectors[:10]}
        pq.write_table(pa.table(pairs), folder / "pairs.parquet")

    def run(self, command: str, threads: int, more: str = "") -> Numbers:
        """What a command leaves, by name, and what it says."""
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        if command.startswith("embed") or command.startswith("text-views"):
            out.mkdir()
        words = {"OUT": out, "RUN": self.folder / "run", "THREADS": f"--threads {threads}"}
        words |= {name: self.folder / f"{name.lower()}.parquet" for name in ("FEATURES", "TEXTS", "PAIRS")}
        for name, word in words.items():
            command = command.replace(name, str(word))
        said_file = self.folder / "said"
        code = in_child([*command.split(), *more.split()], threads, said_file)
        if code:
            raise RuntimeError(f"{command} ended with {code}: {said_file.read_text()}")
        if command.startswith("train") and not (self.folder / "run").exists():
            shutil.copytree(out, self.folder / "run")
        said = [line for line in said_file.read_text().splitlines() if " s" not in line]
        return {"what is said": np.array(said)} | {
            f"{file.name} {name}": value
            for file in sorted(out.rglob("*")) if file.is_file()
            for name, value in numbers(file).items()
        }  # fmt: skip


def in_child(command: list[str], threads: int, said: Path) -> int:
    """The exit code of a command in a forked process with so many threads; what it says goes to a file."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with said.open("w") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    torch.set_num_threads(threads)
    faiss.omp_set_num_threads(threads)
    threadpool_limits(threads)
    os._exit(cli.guarded(command, False))


def numbers(file: Path) -> Numbers:
    """The numbers of a result file."""
    if file.suffix == ".safetensors":
        return load_file(file)
    if file.suffix == ".parquet":
        table = pq.read_table(file)
        return {name: np.array(table.column(name).to_pylist(), dtype=object) for name in table.column_names}
    if file.name == "metrics.csv":
        rows = list(csv.DictReader(file.read_text().splitlines()))
        return {name: np.array([row[name] for row in rows]) for name in rows[0] if name not in CLOCK}
    return {}


def difference(first: Numbers, second: Numbers) -> float:
    """0 where both are the same bit by bit, else the largest relative difference of any array."""
    if first.keys() != second.keys():
        raise RuntimeError(f"different files: {sorted(first.keys() ^ second.keys())}")
    return max((apart(first[name], second[name]) for name in first), default=0.0)


def apart(a: Any, b: Any) -> float:
    """|a - b| / |a| of two arrays, 0 where they are the same bit by bit; infinite where they are not alike at all."""
    if a.shape == b.shape and (a.tobytes() == b.tobytes() if a.dtype != object else a.tolist() == b.tolist()):
        return 0.0
    try:
        a, b = (np.array(x.tolist(), np.float64) for x in (a, b))
    except ValueError:
        return float("inf")
    if a.shape != b.shape:
        return float("inf")
    known = np.isfinite(a) & np.isfinite(b)
    return float(np.linalg.norm((a - b)[known]) / max(float(np.linalg.norm(a[known])), 1e-300))


def losses() -> list[dict[str, Any]]:
    """Values and gradients of losses, made again, by two threads, and by tiles."""
    band, treatment = ps.RankBand(0.15, 0.22), ps.Treatment(margin=0.03, temperature_scale=0.6)
    made: dict[str, Callable[..., Any]] = {
        "NTXentLoss": lambda tile: ps.losses.NTXentLoss(0.5, band, treatment, tile=tile),
        "SpectralLoss": lambda tile: ps.losses.SpectralLoss(1.0, band, treatment, tile=tile),
        "TwoTowerLoss": lambda tile: ps.losses.TwoTowerLoss(0.07, False, band, treatment, tile=tile),
    }
    rows = []
    for name, make in made.items():
        found = {
            key: value_and_gradient(make(tile), threads)
            for key, tile, threads in (("first", "dense", 1), ("again", "dense", 1), ("threads", "dense", 2),
                                       ("tiles", 256, 1), ("tiles, threads", 256, 2))
        }  # fmt: skip
        rows.append({
            "what": name, "again": difference(found["first"], found["again"]),
            "two_threads": difference(found["first"], found["threads"]),
            "engine": difference(found["first"], found["tiles"]), "engine_name": "tiles",
        })  # fmt: skip
    return rows


def value_and_gradient(loss: Callable[..., Any], threads: int) -> Numbers:
    """Loss and gradient of a batch of 1,024 images."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    z0, z1, h0, h1 = torch.randn(4, 1024, 128)
    z0.requires_grad_()
    value = loss(z0, z1, h0, h1)
    (gradient,) = torch.autograd.grad(value, z0)
    return {"value": value.detach().numpy(), "gradient": gradient.numpy()}


def main() -> None:
    """Measure everything and write what came of it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="commands whose names hold this")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    rows = []
    with multiprocessing.get_context("fork").Pool(
        1
    ) as child:  # where two threads have worked, nothing is forked any more
        rows += [row for row in child.apply(losses) if options.only in row["what"]]
    merge(options.output, "repeat", rows, versions(0), whole=not options.only)
    with tempfile.TemporaryDirectory() as name:
        place = Place(Path(name))
        for what, command in COMMANDS.items():
            if options.only not in what:
                continue
            start = time.perf_counter()
            first, again, threads = (place.run(command, n) for n in (1, 1, 2))
            row = {"what": what, "again": difference(first, again), "two_threads": difference(first, threads)}
            if what in ENGINES and (what != "scan" or importlib.util.find_spec("ray")):
                row["engine_name"], more = ENGINES[what]
                row["engine"] = difference(first, place.run(command, 1, more))
            rows.append(row | {"seconds": round(time.perf_counter() - start)})
            print(json.dumps(rows[-1]), flush=True)
            merge(
                options.output, "repeat", rows, versions(0), whole=not options.only
            )  # after every command: a campaign that is stopped has what it found


if __name__ == "__main__":
    main()
