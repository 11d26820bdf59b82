"""Labelled feature sets of six kinds on which the scan is compared with other tools, in two halves.

Settings of the scan were chosen on the development half only. The held-out half was measured afterwards. To choose its
score, version 0.2 had already used other features of CIFAR-10, digits, pendigits and the three text sets.

| set | kind | half | features |
|---|---|---|---|
| cifar10 | photographs | development | EfficientNet-Lite0, ImageNet labels, 4,000 images |
| banking77 | sentences | development | MiniLM, 5,000 questions |
| digits | pixels | development | pixels of scikit-learn's digits |
| fsdd-speakers | sound | development | mel energies in eight parts, six speakers |
| wine | table | development | scikit-learn's wine, standardised |
| glyphs | pixels | development | letters and figures of matplotlib's fonts, 16 x 16 |
| imagenette | photographs | held out | EfficientNet-Lite0, 4,000 images |
| tiny-imagenet | photographs | held out | EfficientNet-Lite0, 80 classes, 4,000 images |
| newsgroups20 | sentences | held out | MiniLM, 3,000 posts |
| trec6 | sentences | held out | MiniLM, all questions |
| fsdd-digits | sound | held out | as fsdd-speakers, ten digits |
| pendigits | strokes | held out | 16 coordinates, 5,000 strokes |
| breast-cancer | table | held out | scikit-learn's breast_cancer, standardised |

Wine, digits, breast cancer and glyphs need no data. The others are read from PAIRSIFT_DATA; photographs also need the
packages that `lab.image_guide` names.

Sentences and glyphs hold copies of their own: posts that quote another post, questions asked again in other words, and
letters that the Sans, Mono and Serif fonts of DejaVu draw alike. There `is_copy` tells copies by their words, without
features.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn import datasets
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from lab.frames import log_mel
from lab.study import StudyError
from lab.text_sets import MOST_TOKENS, encoded

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Labelled = tuple[FloatArray, IntArray]

# Two rows are copies when they share half of their words, or when one holds four fifths of the other's.
_SHARED, _HELD = 0.5, 0.8
_SIDE, _PARTS, _ROWS = 16, 8, {"banking77": 5000, "newsgroups20": 3000, "trec6": 6000}


class LabelledSet(NamedTuple):
    """Features x (N, D) with classes y (N,), and the words of each row where `is_copy` can tell copies by them."""

    name: str
    kind: str
    half: str
    x: FloatArray
    y: IntArray
    words: list[frozenset[str]] | None


def is_copy(words: frozenset[str], others: frozenset[str]) -> bool:
    """Whether two rows say the same, by their words alone (resemblance and containment: Broder, 1997).

    Args:
        words: of a text, without stop words; of a glyph its letter, size and style as one word.
        others: of another row. To hold the words of a row is to copy it where these are two at least.
    """
    shared, fewer = len(words & others), min(len(words), len(others))
    return shared >= _SHARED * len(words | others) or (fewer > 1 and shared >= _HELD * fewer)


def sets(cache: Path, names: list[str] | None = None, half: str | None = None) -> Iterator[LabelledSet]:
    """The sets whose data and encoders are at hand; the others are named on stderr.

    Args:
        cache: folder that keeps features of encoders.
        names: of the sets wanted; None wants all.
        half: "development" or "held out"; None takes both.
    """
    for name, (kind, own_half, read) in SETS.items():
        if (names and name not in names) or half not in (None, own_half):
            continue
        file = cache / f"{name}.npz"
        try:
            if not file.exists():
                cache.mkdir(parents=True, exist_ok=True)
                x, y = read()
                np.savez(file, x=x, y=y)
            words = _WORDS[name]() if name in _WORDS else None
        except (KeyError, OSError, StudyError, ImportError) as error:
            print(f"skipped: {name}: {error}", file=sys.stderr)
            continue
        with np.load(file) as held:
            yield LabelledSet(name, kind, own_half, held["x"].astype(np.float32), held["y"].astype(np.int64), words)


def _table(name: str) -> Labelled:
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32), y


def _digits() -> Labelled:
    x, y = datasets.load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y


def _drawings() -> list[tuple[Path, int, str]]:
    """File of the font, size and symbol of every glyph."""
    import matplotlib

    symbols = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = [file for file in sorted(folder.glob("*.ttf")) if file.stem.startswith(("DejaVu", "STIXGeneral", "cmr"))]
    return [(font, size, symbol) for font in fonts for size in (13, 15, 17) for symbol in symbols]


def _glyphs() -> Labelled:
    """Every letter and figure in every text font that matplotlib brings, drawn at its centre."""
    x, y, symbols = [], [], sorted({symbol for _, _, symbol in _drawings()}, key=lambda each: (each.isdigit(), each))
    for font, size, symbol in _drawings():
        image = Image.new("L", (_SIDE + 4, _SIDE + 4))
        drawn = ImageFont.truetype(str(font), size)
        ImageDraw.Draw(image).text((10, 10), symbol, font=drawn, fill=255, anchor="mm")
        x.append(np.asarray(image, np.float32).ravel() / 255)
        y.append(symbols.index(symbol))
    return np.stack(x), np.array(y)


def _glyph_words() -> list[frozenset[str]]:
    """One word a glyph. The Sans, Mono and Serif fonts of DejaVu share many outlines, so their name is left out."""
    styles = [re.sub("^DejaVu(Sans|Serif)(Mono)?", "DejaVu", font.stem) for font, _, _ in _drawings()]
    styles = [style.replace("Italic", "Oblique") if style.startswith("DejaVu") else style for style in styles]
    named = zip(styles, _drawings(), strict=True)
    return [frozenset([f"{symbol} {size} {style}"]) for style, (_, size, symbol) in named]


def _data(name: str) -> Path:
    return Path(os.environ["PAIRSIFT_DATA"]) / name / "train.parquet"


def _texts(name: str) -> tuple[list[str], IntArray]:
    table = pq.read_table(_data(name))
    texts, labels = table["text"].to_pylist(), table["label"].to_numpy()
    rows = [i for i in np.random.default_rng(0).permutation(len(texts)).tolist() if len(texts[i]) >= 10]
    rows = rows[: _ROWS[name]]
    return [texts[i] for i in rows], labels[rows]


def _sentences(name: str) -> Labelled:
    texts, labels = _texts(name)
    return encoded(texts, MOST_TOKENS[name]), labels


def _text_words(name: str) -> list[frozenset[str]]:
    """The words of texts without stop words."""
    return [frozenset(re.findall(r"\w+", text.lower())) - ENGLISH_STOP_WORDS for text in _texts(name)[0]]


def _photographs(name: str, count: int = 4000, side: int = 96) -> Labelled:
    from lab.image_guide import image_features

    table = pq.read_table(_data(name))
    table = table.take(np.sort(np.random.default_rng(0).choice(len(table), count, replace=False)))
    opened = (Image.open(io.BytesIO(each["bytes"])).convert("RGB") for each in table["image"].to_pylist())
    images = [np.asarray(image.resize((side, side), Image.Resampling.BICUBIC)).transpose(2, 0, 1) for image in opened]
    return image_features(np.stack(images), 112), table["label"].to_numpy()


def _spoken(label: str) -> Labelled:
    """Mean mel energies of eight equal parts of every recording."""
    table = pq.read_table(_data("fsdd"))
    x = []
    for wave in table["values"].to_pylist():
        frames = log_mel(np.asarray(wave, np.float32))
        x.append(np.concatenate([part.mean(axis=0) for part in np.array_split(frames, _PARTS)]))
    values = np.asarray(x, np.float32)
    classes = np.unique(table[label].to_pylist(), return_inverse=True)[1]
    return (values - values.mean(axis=0)) / values.std(axis=0), classes


def _strokes(count: int = 5000) -> Labelled:
    table = pq.read_table(_data("pendigits"))[:count]
    return np.stack(table["values"].to_numpy()).astype(np.float32) / 100, table["label"].to_numpy()


SETS: dict[str, tuple[str, str, Callable[[], Labelled]]] = {
    "cifar10": ("photographs", "development", lambda: _photographs("cifar10")),
    "banking77": ("sentences", "development", lambda: _sentences("banking77")),
    "digits": ("pixels", "development", _digits),
    "fsdd-speakers": ("sound", "development", lambda: _spoken("subject")),
    "wine": ("table", "development", lambda: _table("wine")),
    "glyphs": ("pixels", "development", _glyphs),
    "imagenette": ("photographs", "held out", lambda: _photographs("imagenette96")),
    "tiny-imagenet": ("photographs", "held out", lambda: _photographs("tiny_imagenet_80")),
    "newsgroups20": ("sentences", "held out", lambda: _sentences("newsgroups20")),
    "trec6": ("sentences", "held out", lambda: _sentences("trec6")),
    "fsdd-digits": ("sound", "held out", lambda: _spoken("label")),
    "pendigits": ("strokes", "held out", _strokes),
    "breast-cancer": ("table", "held out", lambda: _table("breast_cancer")),
}
_WORDS: dict[str, Callable[[], list[frozenset[str]]]] = {
    "glyphs": _glyph_words,
    "banking77": lambda: _text_words("banking77"),
    "newsgroups20": lambda: _text_words("newsgroups20"),
    "trec6": lambda: _text_words("trec6"),
}
