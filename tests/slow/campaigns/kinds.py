"""Data of every kind with what they mean: Arrow types, layouts of columns, modes of images.

Each strategy draws data together with the right answer, so that a new member of a kind falls on its own.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from PIL import Image

seeds = st.integers(0, 2**32 - 1)

# Arrow types

TEXTS = (
    pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.uint32(), pa.large_string()),
)  # fmt: skip
WHOLE = (
    pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
    pa.dictionary(pa.int32(), pa.int64()),
)  # fmt: skip
FLOATS = (pa.float16(), pa.float32(), pa.float64())


def column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Values as an array of a type, None as null."""
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    return pa.array(values, kind)


def vectors(rows: np.ndarray, there: np.ndarray, form: str, kind: pa.DataType) -> pa.Array:
    """(N, D) rows as an array of vectors, null where there is none."""
    if form == "tensor":
        flat = pa.array(np.where(there[:, None], rows, np.nan).ravel().astype(kind.to_pandas_dtype()))
        storage = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
        return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(kind, (rows.shape[1],)), storage)
    kinds = {"list": pa.list_(kind), "large": pa.large_list(kind), "fixed": pa.list_(kind, rows.shape[1]),
             "view": pa.list_view(kind)}  # fmt: skip
    cast = kind.to_pandas_dtype()
    return pa.array([list(row.astype(cast)) if ok else None for row, ok in zip(rows, there, strict=True)], kinds[form])


FORMS = ("list", "large", "fixed", "view", "tensor")


# Layouts of columns


@dataclass
class Layout:
    """A table with what it means.

    Attributes:
        table: in any order of columns.
        features: (N, D), nan where a row has none.
        named: columns of which one must be asked for; empty where the features are plain to see.
        labels: name of each row's class, None where it has none; None where there is no column of labels.
        paths, rows: of each row where the table has them.
    """

    table: pa.Table
    features: np.ndarray
    named: tuple[str, ...] = ()
    labels: list[str | None] | None = None
    paths: list[str] | None = None
    rows: list[int] | None = None
    metadata: dict[bytes, bytes] = field(default_factory=dict)

    def write(self, folder: Path, group: int) -> Path:
        """Write the table as parquet."""
        pq.write_table(self.table.replace_schema_metadata(self.metadata), folder / "f.parquet", row_group_size=group)
        return folder / "f.parquet"


NAMES = ("embedding", "vec", "clip.image", "image_embedding", "h", "x", "features", "0", "Vektor ä")
STEMS = ("d", "emb_", "", "PC ", "f.")


@st.composite
def layouts(draw: Any) -> Any:
    """Features in a table with columns of other kinds around them."""
    rng, n, d = np.random.default_rng(draw(seeds)), draw(st.integers(1, 12)), draw(st.integers(2, 6))
    features = rng.standard_normal((n, d)).astype(np.float16).astype(np.float32)
    there = rng.random(n) < draw(st.sampled_from((1.0, 1.0, 0.7)))
    there[rng.integers(n)] = True
    features[~there] = np.nan
    columns, named = (_listed if draw(st.booleans()) else _wide)(draw, features, there)
    found = Layout(pa.table({}), features, named)
    for name, values in _others(draw, rng, n).items():
        columns.setdefault(name, values)
    if draw(st.booleans()):
        found.paths = [f"{i}.png" for i in range(n)]
        columns["path"] = column(found.paths, draw(st.sampled_from(TEXTS)))
    if draw(st.booleans()):
        found.rows = rng.permutation(100)[:n].tolist()
        columns["row"] = column(found.rows, draw(st.sampled_from(WHOLE)))
    if draw(st.booleans()):
        found.labels = [draw(st.sampled_from(("ant", "bee", None))) for _ in range(n)]
        columns["label"] = column(found.labels, draw(st.sampled_from(TEXTS)))
    if "time of day" in columns:
        found.metadata = {b"pandas": json.dumps({"index_columns": ["time of day"]}).encode()}
    order = draw(st.permutations(list(columns)))
    # Dimensions count in the order of their columns.
    dimensions = iter([name for name in columns if columns[name].type in FLOATS])
    order = [next(dimensions) if columns[name].type in FLOATS else name for name in order]
    found.table = pa.table([columns[name] for name in order], names=list(order))
    return found


def _listed(draw: Any, features: np.ndarray, there: np.ndarray) -> Any:
    """One column of vectors, or two of which one must be asked for."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True))
    form = st.sampled_from(FORMS)
    columns = {name: vectors(features, there, draw(form), draw(st.sampled_from(FLOATS))) for name in names}
    return columns, tuple(names) if len(names) > 1 else ()


def _wide(draw: Any, features: np.ndarray, there: np.ndarray) -> Any:
    """A column for each dimension; perhaps one of another kind, which must be asked for."""
    stem, kind = draw(st.sampled_from(STEMS)), draw(st.sampled_from(FLOATS))
    width = features.shape[1]
    names = [f"{stem}{i}" for i in range(width)]
    values = [[float(v) if ok else None for v, ok in zip(features[:, i], there, strict=True)] for i in range(width)]
    columns = {name: pa.array(held, kind) for name, held in zip(names, values, strict=True)}
    odd = draw(st.sampled_from((None, None, "price", "user_id", "timestamp", "area", "type", "pandas")))
    other = [1.7e4 + i for i in range(len(features))]
    if odd == "pandas":
        columns["time of day"] = pa.array(other, pa.float64())
        return columns, ()
    if odd == "type":
        columns[f"{stem}{width}"] = pa.array(other, pa.float64() if kind != pa.float64() else pa.float32())
        return columns, (f"{stem}{width}",)
    if odd is not None:
        columns[odd] = pa.array(other, kind)
    return columns, (odd,) if odd else ()


def _others(draw: Any, rng: np.random.Generator, n: int) -> dict[str, pa.Array]:
    """Columns that nobody could take for features."""
    kinds = {
        "id": pa.array(rng.integers(2**62, 2**63, n).astype(np.uint64) * np.uint64(2)),
        "count": pa.array(rng.integers(0, 9, n)), "when": pa.array(rng.integers(0, 9, n), pa.timestamp("s")),
        "ok": pa.array(rng.random(n) < 0.5), "text": pa.array([str(i) for i in range(n)], pa.large_string()),
        "tags": pa.array([["a"]] * n), "input_ids": pa.array([[1, 2]] * n), "nothing": pa.nulls(n),
    }  # fmt: skip
    return {name: kinds[name] for name in draw(st.sets(st.sampled_from(sorted(kinds)), max_size=3))}


# Modes of images


@dataclass
class Picture:
    """An encoded image and the (H, W, 3) pixels that it shows, within `off` levels."""

    name: str
    content: bytes
    shown: np.ndarray
    off: int = 1


DEEP = {"u2": 65535, ">u2": 65535, "i4": 65535, "f4": 1, "f4 255": 255, "i4 8": 255}
FLAT = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "transparent P")
# How EXIF says that a camera was held: what undoes it.
TURNS: dict[int, Any] = {
    1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1), 7: lambda x: np.rot90(x, 2).swapaxes(0, 1), 8: np.rot90,
}  # fmt: skip


@st.composite
def pictures(draw: Any) -> Any:
    """An image of any mode, depth and orientation."""
    rng = np.random.default_rng(draw(seeds))
    height, width = draw(st.integers(2, 9)), draw(st.integers(2, 9))
    grey = rng.integers(0, 256, (height, width), dtype=np.uint8)
    grey.flat[0], grey.flat[-1] = 0, 255
    orientation = draw(st.sampled_from((None, *TURNS)))
    if draw(st.booleans()):
        kind = draw(st.sampled_from(sorted(DEEP)))
        image, shown = _deep(grey, kind), grey
        formats = ("PNG", "TIFF") if kind == "u2" else ("TIFF",)
    else:
        mode = draw(st.sampled_from(FLAT))
        image, shown = _flat(grey, mode)
        formats = {"CMYK": ("TIFF",), "transparent P": ("PNG",), "1": ("PNG", "TIFF")}.get(mode, ("PNG", "TIFF"))
    options: dict[str, Any] = {}
    if orientation is not None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"], shown = exif, TURNS[orientation](shown)
    format_ = draw(st.sampled_from(formats))
    stream = io.BytesIO()
    image.save(stream, format_, **options)
    shown = shown if shown.ndim == 3 else np.repeat(shown[..., None], 3, axis=2)
    return Picture(f"a.{format_.lower()}", stream.getvalue(), shown)


def _deep(grey: np.ndarray, kind: str) -> Image.Image:
    dtype = kind.split()[0]
    scaled = grey / 255 * DEEP[kind]
    return Image.fromarray((scaled if dtype == "f4" else np.rint(scaled)).astype(dtype))


def _flat(grey: np.ndarray, mode: str) -> tuple[Image.Image, np.ndarray]:
    """An image of a mode, and its pixels over white."""
    plain = Image.fromarray(grey)
    if mode == "1":
        black = (grey > 127).astype(np.uint8) * 255
        return Image.fromarray(black).convert("1", dither=Image.Dither.NONE), black
    if mode in ("LA", "RGBA"):
        alpha = grey[::-1].copy()
        image = plain.convert("L" if mode == "LA" else "RGB")
        image.putalpha(Image.fromarray(alpha))
        share = alpha / 255
        return image, np.rint(grey * share + 255 * (1 - share)).astype(np.uint8)
    if mode == "transparent P":
        image = plain.convert("P")
        image.info["transparency"] = 0
        return image, np.where(grey == 0, 255, grey).astype(np.uint8)
    return (plain if mode == "L" else plain.convert("RGB").convert(mode) if mode != "P" else plain.convert("P")), grey
