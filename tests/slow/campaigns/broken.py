"""Files of every kind that is read: with odd tables in them, cut short, with bits turned, or of another kind."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import inputs as given_
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from hypothesis import strategies as st
from PIL import Image

import pairsift as ps
from pairsift import cli

ROWS = 30
RUN = ["train", "digits:train", "--per-class", "4", "--image-size", "8", "--batch-size", "20", "--epochs", "2"]
RUN += ["--device", "cpu", "--threads", "1", "--no-progress", "--save-features", "--treatment", "combined"]


def features() -> Any:
    """(ROWS, 6) float32 features in three clusters."""
    rng = np.random.default_rng(0)
    return (3 * rng.standard_normal((3, 6))[np.arange(ROWS) % 3] + rng.standard_normal((ROWS, 6))).astype(np.float32)


def encoded(kind: str) -> bytes:
    """A picture as bytes."""
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(stream, kind)
    return stream.getvalue()


class Shelf:
    """Good files of every kind, made once, and a place for a copy to break.

    Args:
        folder: to keep them in.
    """

    def __init__(self, folder: Path) -> None:
        self.good, self.place = folder / "good", folder / "place"
        self.good.mkdir()
        x, labels = features(), np.arange(ROWS) % 3
        np.save(self.good / "features.npy", x)
        np.savez(self.good / "features.npz", features=x, label=labels)
        np.savez_compressed(self.good / "images.npz", images=np.zeros((ROWS, 8, 8, 3), np.uint8), labels=labels)
        np.save(self.good / "images.npy", np.zeros((ROWS, 8, 8), np.uint8))
        tables = {
            "features": {"features": list(x), "label": labels, "path": [f"{i}.png" for i in range(ROWS)]},
            "images": {"image": [encoded("PNG"), encoded("JPEG")] * (ROWS // 2), "label": labels},
            "texts": {"text": ["a good day", "the old house was sold"] * (ROWS // 2)},
            "pairs": {
                "anchor": [f"question {i % 9}" for i in range(ROWS)],
                "positive": [f"so {i}" for i in range(ROWS)],
            },
        }
        for name, columns in tables.items():
            pq.write_table(pa.table(columns), self.good / f"{name}.parquet", row_group_size=12)
        (self.good / "texts.txt").write_text("a good day\nthe old house\n")
        (self.good / "drop.csv").write_text("row,score\n3,0.9\n5,0.8\n")
        (self.good / "train.yaml").write_text(yaml.safe_dump({"data": "digits", "epochs": 1, "treatment": "combined"}))
        (self.good / "scan.yaml").write_text(yaml.safe_dump({"n_classes": 3, "threads": 1}))
        (self.good / "folder").mkdir()
        for i, kind in enumerate(("png", "jpeg", "png", "jpeg")):
            (self.good / "folder" / f"{i}.{kind}").write_bytes(encoded(kind.upper()))
        ps.scan(x, 3, threads=1).save(self.good / "scan")
        ps.Affinity.fit(np.random.default_rng(2).standard_normal((60, 4))).save(self.good / "affinity.safetensors")
        if cli.guarded([*RUN, "-o", str(self.good / "run")], False):
            raise RuntimeError("the run to break could not be made")

    def fresh(self) -> Path:
        """The place, with copies of all good files in it."""
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.good, self.place)
        return self.place


# Damage


@st.composite
def damages(draw: Any) -> Any:
    """How a file is damaged: what is done, where, and a seed."""
    kinds = ("none", "cut", "bits", "bytes", "zeros", "insert", "empty", "text", "other", "gone", "folder")
    kind = draw(st.sampled_from((*kinds, "cut", "bits", "bits", "bits")))
    return kind, draw(st.floats(0, 1)), draw(given_.seeds)


def damage(file: Path, how: Any, other: Path) -> None:
    """Damage a file."""
    kind, where, seed = how
    rng, content = np.random.default_rng(seed), bytearray(file.read_bytes())
    at = min(int(where * len(content)), max(len(content) - 1, 0))
    if kind == "cut":
        content = content[:at]
    elif kind == "bits":
        for place in (at, *rng.integers(0, max(len(content), 1), int(rng.integers(0, 4)))):
            content[place] ^= 1 << int(rng.integers(0, 8))
    elif kind in ("bytes", "zeros"):
        n = min(int(rng.integers(1, 64)), len(content) - at)
        content[at : at + n] = rng.bytes(n) if kind == "bytes" else bytes(n)
    elif kind == "insert":
        content[at:at] = rng.bytes(int(rng.integers(1, 20)))
    elif kind == "empty":
        content = bytearray()
    elif kind == "text":
        content = bytearray(json.dumps({"a": [1, None, "x"]}).encode())
    elif kind == "other":
        content = bytearray(other.read_bytes())
    if kind in ("gone", "folder"):
        file.unlink()
        if kind == "folder":
            file.mkdir()
    elif kind != "none":
        file.write_bytes(content)


# Odd tables

NAMES = ("features", "embedding", "x", "label", "labels", "y", "row", "path", "mixed", "image", "text", "anchor",
         "positive", "negative", "hard_neg_1", "f0", "f1")  # fmt: skip
KINDS = (
    pa.float32(), pa.float64(), pa.float16(), pa.int64(), pa.uint8(), pa.bool_(), pa.string(), pa.large_string(),
    pa.binary(), pa.null(), pa.date32(), pa.timestamp("us"), pa.decimal128(8, 2), pa.duration("s"),
    pa.list_(pa.float32()), pa.list_(pa.float32()), pa.list_(pa.float32(), 3), pa.large_list(pa.float64()),
    pa.list_(pa.float16()), pa.list_(pa.int32()), pa.list_(pa.string()), pa.list_(pa.list_(pa.float32())),
    pa.struct([("bytes", pa.binary()), ("path", pa.string())]), pa.struct([("a", pa.float32())]),
    pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int8(), pa.int64()), pa.map_(pa.string(), pa.int64()),
    pa.string_view(), pa.binary_view(), pa.uint64(), pa.list_(pa.uint8()), pa.list_(pa.string_view()),
)  # fmt: skip


def cell(kind: Any, rng: np.random.Generator, wide: int) -> Any:
    """A value of a type."""
    if pa.types.is_dictionary(kind):
        return cell(kind.value_type, rng, wide)
    if pa.types.is_floating(kind):
        return np.float16(rng.standard_normal()) if kind == pa.float16() else float(rng.standard_normal())
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        n = kind.list_size if pa.types.is_fixed_size_list(kind) else wide
        return [cell(kind.value_type, rng, wide) for _ in range(n)]
    if pa.types.is_struct(kind):
        return {kind.field(i).name: cell(kind.field(i).type, rng, wide) for i in range(kind.num_fields)}
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view():
        return str(rng.choice(["a", "b", "good day", "", "\u00e9"]))
    simple = {pa.bool_(): True, pa.null(): None, pa.map_(pa.string(), pa.int64()): [("a", 1)]}
    if kind in simple:
        return simple[kind]
    if pa.types.is_binary(kind) or kind == pa.binary_view():
        return encoded("PNG") if rng.random() < 0.7 else b"none"
    value = int(rng.integers(0, 3))
    if pa.types.is_integer(kind):
        return value
    plain = pa.int32() if kind == pa.date32() or pa.types.is_decimal(kind) else pa.int64()
    return pa.scalar(value, plain).cast(pa.decimal128(12, 2) if pa.types.is_decimal(kind) else kind).as_py()


@st.composite
def tables(draw: Any) -> Any:
    """A table of some columns of any types, with nulls and lists of several lengths now and then."""
    n = draw(st.sampled_from((0, 1, 2, 12, 20, 20, 20)))
    wide, rng = draw(st.integers(0, 4)), np.random.default_rng(draw(given_.seeds))
    nulls, ragged = draw(given_.rarely), draw(given_.rarely)
    columns, names = [], draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=not draw(given_.rarely)))
    if draw(st.booleans()):
        names[0] = draw(st.sampled_from(("features", "image", "text", "anchor")))
    usual = {"features": (14, 16), "image": (8, 22), "text": (6, 7), "anchor": (6, 14), "positive": (6, 14),
             "label": (3, 6, 24), "row": (3,), "path": (6,), "mixed": (5,)}  # fmt: skip
    for name in names:
        odd = draw(given_.rarely) or name not in usual
        kind = draw(st.sampled_from(KINDS if odd else [KINDS[i] for i in usual[name]]))
        values = [
            None if nulls and rng.random() < 0.2 else cell(kind, rng, wide + int(ragged and rng.random() < 0.2))
            for _ in range(n)
        ]
        try:
            columns.append(pa.array(values, kind))
        except (pa.ArrowException, TypeError, ValueError):
            columns.append(pa.nulls(n))
    return pa.table(columns, names=names)
