"""Targets of the fuzz campaign: the command line, on broken files and with settings of all kinds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import broken
import pyarrow.parquet as pq
from fuzz_api import expect
from fuzz_sets import mostly
from hypothesis import strategies as st
from judge import Defect, Judge

import pairsift as ps

# Commands on the copy of a shelf: {} is its folder. The file behind each is what is broken first.
COMMANDS = (
    ("features.parquet", "scan {}/features.parquet -o {}/out --threads 1"),
    ("features.npy", "scan {}/features.npy -o {}/out --threads 1"),
    ("features.npz", "scan {}/features.npz -o {}/out --threads 1"),
    ("features.npy", "scan {}/features.parquet --guide-features {}/features.npy -o {}/out --threads 1"),
    ("scan.yaml", "scan {}/features.parquet --config {}/scan.yaml -o {}/out"),
    ("images.parquet", "scan {}/features.parquet --images {}/images.parquet -o {}/out --threads 1"),
    ("images.parquet", "train {}/images.parquet {quick} -o {}/new"),
    ("images.npz", "train {}/images.npz {quick} -o {}/new"),
    ("folder/0.png", "train {}/folder {quick} --image-size 8 -o {}/new"),
    ("train.yaml", "train --config {}/train.yaml {quick} -o {}/new"),
    ("drop.csv", "train {}/images.npz --drop {}/drop.csv {quick} -o {}/new"),
    ("run/checkpoints/last.ckpt", "train --resume -o {}/run"),
    ("run/config.yaml", "train --resume -o {}/run"),
    ("run/encoder.safetensors", "embed {}/run digits:test --per-class 2 -o {}/out.parquet"),
    ("run/config.yaml", "embed {}/run digits:test --per-class 2 -o {}/out.parquet"),
    ("run/encoder.safetensors", "probe {}/run {}/images.npz {}/images.npz"),
    ("pairs.parquet", "pairs {}/pairs.parquet -o {}/out --threads 1"),
    ("texts.parquet", "text-views {}/texts.parquet -o {}/views.parquet"),
    ("features.parquet", "theory measure {}/features.parquet"),
    ("features.npz", "theory measure {}/features.npz -o {}/page.html"),
    ("texts.txt", "theory graph --alpha 0.5 --beta 0.1 --gamma 0.3 -o {}/page.html"),
)
QUICK = "--batch-size 16 --epochs 1 --device cpu --threads 1 --no-progress"
_NAMES = """n-classes reference seed memory drop labels max-pairs threads epochs batch-size temperature margin alpha
delta n temperature-scale band-start band-stop method treatment select image-size per-class r n-d k output config column
mix label-column nonsense warmup-epochs device encoder anchor synonyms skip-bad overwrite"""
FLAGS = tuple(f"--{name}" for name in _NAMES.split())
VALUES = ("0", "1", "2", "-1", "0.5", "3.7", "nan", "inf", "1e300", "1e-300", "", "none", "text", "label", "moco",
          "spectral", "removal", "auto", "affinity", "/nowhere/x", "\u00e9", "[red]", "9" * 30)  # fmt: skip

cases = st.tuples(
    st.sampled_from(COMMANDS), broken.damages(), st.sampled_from([name for name, _ in COMMANDS]),
    mostly(st.just([]), st.lists(st.tuples(st.sampled_from(FLAGS), st.sampled_from(VALUES)), min_size=1, max_size=2)),
)  # fmt: skip


def arguments(shelf: broken.Shelf, case: Any) -> tuple[Path, list[str]]:
    """A fresh place with a broken file, and the command there."""
    (name, command), how, other, flags = case
    place = shelf.fresh()
    if not flags:
        broken.damage(place / name, how, shelf.good / other)
    words = [word.replace("{}", str(place)) for word in command.replace("{quick}", QUICK).split()]
    small = {"--epochs", "--batch-size", "--n", "--r", "--image-size"}  # of which a large one is no mistake
    return place, words + [
        word for flag, value in flags for word in (flag, value) if not (flag in small and len(value) > 9)
    ]


def check_output(place: Path, words: list[str]) -> None:
    """What a command that succeeded left can be read, and nothing temporary is beside it."""
    left = [file.name for file in place.rglob("*.tmp")]
    expect(not left, f"temporary files {left}")
    if words[0] == "scan" and (place / "out" / "scan.json").exists():
        ps.Scan.load(place / "out")
        expect((place / "out" / "report.html").stat().st_size > 1000, "no page")
    if words[0] == "embed" and (place / "out.parquet").exists():
        expect(len(pq.read_table(place / "out.parquet")) == 20, "number of features")


class Commands:
    """Targets on a shelf of files.

    Args:
        shelf: files to break.
    """

    def __init__(self, shelf: broken.Shelf) -> None:
        self.shelf = shelf

    def inside(self, judge: Judge, case: Any) -> None:
        """A command in this process."""
        place, words = arguments(self.shelf, case)
        judge.command(*words, check=lambda: check_output(place, words))

    def outside(self, judge: Judge, case: Any) -> None:
        """A command as a process of its own, as a user starts it."""
        _, words = arguments(self.shelf, case)
        found = subprocess.run(
            [sys.executable, "-m", "pairsift", *words], capture_output=True, text=True, timeout=120, check=False
        )
        said = found.stderr[found.stderr.find("error: ") :].strip().splitlines()
        usage = "Usage: " in found.stderr
        if (
            "Traceback" in found.stderr
            or found.returncode < 0
            or (found.returncode and not usage and not 1 <= len(said) <= 2)
        ):
            raise Defect(f"exit code {found.returncode}: {found.stderr}")
        judge.outcomes["result" if found.returncode == 0 else "refused"] += 1
