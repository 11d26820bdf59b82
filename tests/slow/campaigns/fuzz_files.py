"""Targets of the fuzz campaign: odd and broken files through every function that reads some."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import broken
import kinds
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from fuzz_api import expect
from hypothesis import reject
from hypothesis import strategies as st
from judge import Judge

import pairsift as ps
from pairsift.data import load_images, open_features, without_rows
from pairsift.text import read_texts
from pairsift.train import Run, TrainConfig


class Files:
    """Targets over a shelf of files.

    Args:
        folder: to work in.
    """

    def __init__(self, folder: Path) -> None:
        self.shelf = broken.Shelf(folder)
        self.folder = folder

    # Tables

    def odd_tables(self, judge: Judge, case: Any) -> None:
        """A table of any columns as features, images, texts and pairs."""
        table, what, labels = case
        file = self.folder / "odd.parquet"
        try:
            pq.write_table(table, file, row_group_size=7)
        except (pa.ArrowException, ValueError):  # what parquet cannot hold is none of our files
            reject()
        if what == "features":
            judge.call(lambda: read_features(file, labels), lambda found: same_features(found, table))
        elif what == "images":
            judge.call(lambda: read_images(file, labels, True), check_images)
        elif what == "texts":
            judge.call(
                lambda: list(read_texts(file)), lambda found: expect(len(found) == len(table), "number of texts")
            )
        else:
            judge.call(
                lambda: ps.retrieval.inspect_pairs(file, threads=1),
                lambda found: expect(len(found) == len(table), "number of pairs"),
            )

    table_cases = st.tuples(
        broken.tables(), st.sampled_from(("features", "features", "images", "texts", "pairs")),
        st.sampled_from((None, None, None, "none", "label", "y", "nowhere")),
    )  # fmt: skip

    def layouts(self, judge: Judge, layout: kinds.Layout) -> None:
        """Features with columns of other kinds around them."""
        file = layout.write(self.folder, 5)
        judge.call(lambda: read_features(file), lambda found: check_layout(found, layout))

    def pictures(self, judge: Judge, picture: kinds.Picture) -> None:
        """An image of any mode, in a folder."""
        place = self.folder / "modes"
        place.mkdir(exist_ok=True)
        for old in place.iterdir():
            remove(old)
        (place / picture.name).write_bytes(picture.content)
        judge.call(lambda: load_images(str(place)).images, lambda found: check_picture(found, picture))

    # Broken files

    def broken_files(self, judge: Judge, case: Any) -> None:
        """A damaged file as what it was, or as something else."""
        name, how, other, skip = case
        place = self.folder / "one"
        place.mkdir(exist_ok=True)
        file = place / name.replace("/", "-")
        remove(file)
        file.write_bytes((self.shelf.good / name).read_bytes())
        broken.damage(file, how, self.shelf.good / other)
        reader = READERS[name.split(".")[0].split("/")[0]]
        judge.call(lambda: reader(file, skip), check_anything)
        remove(file)

    single = ("features.npy", "features.npz", "features.parquet", "images.npz", "images.npy", "images.parquet",
              "texts.parquet", "texts.txt", "pairs.parquet", "drop.csv", "train.yaml", "scan.yaml", "folder/0.png",
              "folder/1.jpeg", "affinity.safetensors")  # fmt: skip
    file_cases = st.tuples(st.sampled_from(single), broken.damages(), st.sampled_from(single), st.booleans())

    def broken_folders(self, judge: Judge, case: Any) -> None:
        """A run or a scan with a damaged file in it."""
        name, how, other = case
        place = self.shelf.fresh()
        broken.damage(place / name, how, place / other)
        if name.startswith("scan/"):
            judge.call(lambda: ps.Scan.load(place / "scan"), lambda found: self.same_scan(found, name))
        else:
            judge.call(lambda: read_run(place / "run"), self.same_run)

    inside = (
        "scan/scan.json", "scan/scores.parquet", "scan/pairs.parquet", "run/config.yaml", "run/encoder.safetensors",
        "run/checkpoints/last.ckpt",
    )  # fmt: skip
    folder_cases = st.tuples(st.sampled_from(inside), broken.damages(), st.sampled_from(single))

    def same_scan(self, found: Any, name: str) -> None:
        """A damaged table of a scan is refused, or does not differ; JSON has no checksum."""
        if name != "scan/scan.json":
            whole = ps.Scan.load(self.shelf.good / "scan")
            np.testing.assert_array_equal(found.scores, whole.scores)
            np.testing.assert_array_equal(found.indicators, whole.indicators)
            for ours, theirs in zip(found.pairs.columns, whole.pairs.columns, strict=True):
                np.testing.assert_array_equal(ours.to_numpy(), theirs.to_numpy())

    def same_run(self, found: Any) -> None:
        """A damaged encoder or checkpoint is refused, or does not differ."""
        for ours, theirs in zip(found[1:], read_run(self.shelf.good / "run")[1:], strict=True):
            ours, theirs = (
                each["state_dict"] if isinstance(each, dict) else each.state_dict() for each in (ours, theirs)
            )
            for key, value in theirs.items():
                expect(not isinstance(value, torch.Tensor) or torch.equal(ours[key], value), f"other {key}")


def remove(path: Path) -> None:
    """Remove a file or an empty folder."""
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)


def read_features(file: Path, labels: str | None = None) -> Any:
    """(source, features by blocks, features of some rows)."""
    source = open_features(file, labels)
    blocks = np.concatenate([block for _, block in source.blocks(5)])
    return source, blocks, source.take(np.arange(0, source.shape[0], 3))


def check_features(found: Any) -> None:
    """Blocks and rows of features agree with the shape that the source names."""
    source, blocks, some = found
    expect(blocks.shape == source.shape and blocks.dtype == np.float32, "blocks of another shape")
    np.testing.assert_array_equal(some, blocks[::3])
    expect(source.labels is None or source.labels.shape == (source.shape[0],), "number of labels")
    expect(len(source.rows) == source.shape[0], "number of rows")


def same_features(found: Any, table: Any) -> None:
    """What was read from a table is what is in the columns that were taken; what is missing there is nan."""
    check_features(found)
    source, blocks, _ = found
    columns = [table.column(name).to_pylist() for name in source.columns]
    rows: Any = zip(*columns, strict=True)
    if len(columns) == 1 and any(isinstance(each, list) for each in columns[0]):
        rows = (each or [None] * source.shape[1] for each in columns[0])
    wanted = [[np.nan if each is None else each for each in row] for row in rows]
    np.testing.assert_array_equal(blocks, np.array(wanted, np.float32).reshape(source.shape))


def check_layout(found: Any, layout: kinds.Layout) -> None:
    """Features, paths and labels are those that a layout means."""
    check_features(found)
    source, blocks, _ = found
    expect(not layout.named, "columns that should have been asked for")
    np.testing.assert_array_equal(blocks, layout.features)
    expect(source.paths == layout.paths, "other paths")
    known = source.labels is not None
    names = [None if code < 0 else source.class_names[code] for code in source.labels] if known else None
    expect(names == (layout.labels if any(layout.labels or ()) else None), "other labels")


def check_picture(found: Any, picture: kinds.Picture) -> None:
    """The pixels are those that a picture shows."""
    shown = found[0].transpose(1, 2, 0).astype(int)
    expect(shown.shape == picture.shown.shape, "an image of another shape")
    expect(np.abs(shown - picture.shown).max() <= picture.off, "other pixels")


def read_images(file: Path, labels: str | None = None, skip: bool = False) -> Any:
    """The images of a file, all of them decoded."""
    images = load_images(str(file), label_column=labels, image_size=8, skip_corrupt=skip)
    return images, images.images[np.arange(len(images))]


def check_images(found: Any) -> None:
    """As many pixels and labels as there are images."""
    images, pixels = found
    expect(pixels.dtype == np.uint8 and pixels.shape == (len(images), 3, 8, 8), "pixels of another shape")
    expect(images.labels is None or images.labels.shape == (len(images),), "number of labels")


def read_run(folder: Path) -> Any:
    """Configuration, encoder and checkpoint of a run."""
    from pairsift.train.run import read_checkpoint

    run = Run.open(folder)
    return run.config(), run.load_encoder(), read_checkpoint(run.last_checkpoint)


def check_anything(found: Any) -> None:
    """What is checked of a file's content, by what it is."""
    if isinstance(found, tuple) and len(found) == 3:
        check_features(found)
    elif isinstance(found, tuple):
        check_images(found)
    elif isinstance(found, ps.Affinity):
        expect(found.codes.dim() == 2, "codes that are no matrix")
        found.probability([0], [0])


def read_folder(file: Path, skip: bool) -> Any:
    """The one picture of a folder."""
    place = file.parent / "pictures"
    place.mkdir(exist_ok=True)
    for old in place.iterdir():
        remove(old)
    if file.exists():
        os.replace(file, place / file.name)
    return read_images(place, None, skip)


READERS: dict[str, Any] = {
    "features": lambda file, skip: read_features(file),
    "images": lambda file, skip: read_images(file, None, skip),
    "texts": lambda file, skip: list(read_texts(file)),
    "pairs": lambda file, skip: ps.retrieval.inspect_pairs(file, threads=1),
    "drop": lambda file, skip: without_rows(load_images("digits:train", per_class=1), file),
    "train": lambda file, skip: TrainConfig.load(file),
    "scan": lambda file, skip: ps.ScanConfig.load(file),
    "folder": read_folder,
    "affinity": lambda file, skip: ps.Affinity.load(file),
}
