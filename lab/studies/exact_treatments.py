"""Do the paper's treatments help its own loss? It is solved exactly, on resamples of eight sets.

A fit has no seed, no learning rate and no length, so what differs between two arms is the treatment alone. Every seed
draws a resample of the training examples; all arms of a seed share it. Margins (Eq. 31, arXiv 2501.01317) lie on rank
bands of the map's own features (Eq. 12), on as many random pairs, or on the pairs of the wide band whose classes
differ. Removal leaves examples out of a set in which some are mixed with an example of another class (Fig. 2).
Neighbours and probes use clean examples.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lab.study import Arm, Measures, Scale, Study, data_folder, needs
from lab.subset_choice import by_augmentation_similarity, by_scan
from lab.text_measures import measured
from lab.text_sets import Held, load
from lab.vectors import load_vectors
from pairsift.data import ImageSet, SimCLRViews, load_images, mix_set
from pairsift.evaluate import knn, linear_probe
from pairsift.neighbors import unit_rows
from pairsift.pairs import GivenMasks, Precision, RandomPairs, RankBand, Selector
from pairsift.spectral import PatchEncoder, SpectralMap

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

IMAGES = ("digits", "cifar10", "imagenette96", "tiny_imagenet_80")
TEXTS = ("banking77", "newsgroups20", "trec6")
SETS = (*IMAGES, "fsdd", *TEXTS)
# Sets whose examples can be mixed.
MIXABLE = (*IMAGES[:3], "fsdd")
# The paper's bands for 10 classes, and for 80 and more.
BANDS = {"narrow": RankBand(0.15, 0.22), "wide": RankBand(0.013, 0.5)}
MARGINS = (0.3, 1.0, 3.0, 10.0)
MIXED = (0, 10, 20, 30)
# Training and test images of a class, and of how many examples a resample consists.
_PER_CLASS = {"digits": 140, "cifar10": 200, "imagenette96": 200, "tiny_imagenet_80": 25}
_TEST = {"digits": 36, "cifar10": 200, "imagenette96": 100, "tiny_imagenet_80": 20}
_DRAWN, _MOST = 0.75, 1000
_FILTERS = 60
_RIDGE, _WIDTH = 0.1, 64
_SMOKE = 120


@dataclass(frozen=True)
class Examples:
    """Two views of N examples, and clean features to measure with.

    Attributes:
        first, second: (N, D) features of two views.
        clean: (N, D) features of the examples themselves, none mixed.
        labels: (N,) classes; of a mixed example those of the one that it replaced.
        mixed: (N,) which examples are mixed.
        test, test_labels: (M, D) and (M,).
        held: queries and documents of a set of texts.
    """

    first: FloatArray
    second: FloatArray
    clean: FloatArray
    labels: IntArray
    mixed: NDArray[np.bool_]
    test: FloatArray
    test_labels: IntArray
    held: Held | None = None


class DifferentClasses(Selector):
    """The pairs of another selector whose classes differ: its selection without mistakes.

    Args:
        selector: that is corrected.
        labels: (B,) classes of the rows that are compared among themselves.
    """

    def __init__(self, selector: Selector, labels: IntArray) -> None:
        self.selector, self.labels = selector, torch.from_numpy(labels)

    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, precision: Precision = "fp32",
    ) -> GivenMasks:  # fmt: skip
        """See `Selector`."""
        pairs = self.selector.masks(h, keys, own, precision=precision).whole()
        return GivenMasks(pairs.bool() & (self.labels[:, None] != self.labels))


def arms(scale: Scale) -> list[Arm]:
    """Margins on every set, removal on those whose examples can be mixed."""
    found = []
    for name in ("digits",) if scale == "smoke" else SETS:
        found += [Arm("plain", {"set": name}, name, baseline="")]
        for pairs in ("narrow", "wide", "random narrow", "random wide", "different classes"):
            for margin in MARGINS:
                setting = {"set": name, "pairs": pairs, "margin": margin}
                found.append(Arm(f"margin {margin:g}, {pairs}", setting, name))
        for rounds in (1, 3):
            setting = {"set": name, "pairs": "narrow", "margin": 1.0, "rounds": rounds}
            found.append(Arm(f"margin 1, narrow, {rounds} rounds", setting, name))
        if name in MIXABLE:
            found += _removals(name)
    return found


def _removals(name: str) -> list[Arm]:
    """All examples of a set with mixes are the baseline of what is left of it."""
    found = []
    for mixed in MIXED:
        every = f"{mixed} % mixed" if mixed else "plain"
        if mixed:
            found.append(Arm(every, {"set": name, "mixed": mixed}, name))
        for removed in ("truth", "scan", "sas", "random")[0 if mixed else 1 :]:
            setting = {"set": name, "mixed": mixed, "removed": removed}
            found.append(Arm(f"{mixed} % mixed, removed by {removed}", setting, name, baseline=every))
    return found


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """Measures of one map on test examples, and what the theory speaks of."""
    examples = _examples(setting["set"], int(setting.get("mixed", 0)), scale)
    drawn = resample(len(examples.labels), seed, scale)
    kept = drawn
    if "removed" in setting:
        kept = drawn[_left(setting, examples, drawn, seed)]
    first, second = examples.first[kept], examples.second[kept]
    settings: dict[str, Any] = {"dimensions": min(_WIDTH, first.shape[1] // 2), "ridge": _RIDGE, "power": 1.0}
    if "pairs" in setting:
        selector = _selector(setting["pairs"], np.tile(examples.labels[kept], 2), seed)
        settings |= {"selector": selector, "margin": setting["margin"], "rounds": int(setting.get("rounds", 2))}
    fitted = SpectralMap.fit(first, second, held_out=0, memory_gb=8, **settings)
    return _measured(fitted, examples, drawn) | _theory(fitted, examples, kept)


def resample(count: int, seed: int, scale: Scale) -> IntArray:
    """Positions of three quarters of the examples, 1,000 at the most."""
    most = _SMOKE if scale == "smoke" else _MOST
    drawn = np.random.default_rng((seed, 3)).permutation(count)[: min(most, round(_DRAWN * count))]
    return np.sort(drawn).astype(np.int64)


def _left(setting: dict[str, Any], examples: Examples, drawn: IntArray, seed: int) -> IntArray:
    """Positions in a resample that are not removed; where nothing is mixed a fifth is."""
    mixed = examples.mixed[drawn]
    if setting["removed"] == "truth":
        return np.flatnonzero(~mixed)
    count = int((~mixed).sum()) if mixed.any() else round(0.8 * len(drawn))
    if setting["removed"] == "random":
        return np.sort(np.random.default_rng((seed, 4)).permutation(len(drawn))[:count])
    plain = SpectralMap.fit(
        examples.first[drawn], examples.second[drawn], dimensions=min(_WIDTH, examples.first.shape[1] // 2),
        ridge=_RIDGE, power=1.0, held_out=0, memory_gb=8,
    )  # fmt: skip
    chooser = by_scan if setting["removed"] == "scan" else by_augmentation_similarity
    seen = plain.transform(examples.first[drawn])
    return np.sort(chooser(seen, count, len(np.unique(examples.labels)), seed))


def _selector(pairs: str, labels: IntArray, seed: int) -> Selector:
    if pairs == "different classes":
        return DifferentClasses(BANDS["wide"], labels)
    band = BANDS[pairs.split()[-1]]
    return RandomPairs(band, seed) if pairs.startswith("random") else band


def _measured(fitted: SpectralMap, examples: Examples, drawn: IntArray) -> dict[str, float | None]:
    """Percent, with all clean examples of the resample as neighbours and for the probe, removed ones too."""
    seen = [unit_rows(fitted.transform(each)) for each in (examples.clean[drawn], examples.test)]
    labels, held = examples.labels[drawn], examples.held
    found: dict[str, float | None] = {
        "knn20": 100 * knn(seen[0], labels, seen[1], examples.test_labels, k=20),
        "linear": 100 * linear_probe(seen[0], labels, seen[1], examples.test_labels).accuracy,
        "ndcg10": None,
    }
    if held is not None:
        mapped = (unit_rows(fitted.transform(each)) for each in (held.queries, held.documents))
        found["ndcg10"] = measured(Held(next(mapped), held.query_labels, next(mapped), held.document_labels))["ndcg10"]
    return found


def _theory(fitted: SpectralMap, examples: Examples, kept: IntArray) -> dict[str, float | None]:
    """The eigenvalue behind the classes' own, and mean cosines of pairs of different classes by kind (x 100)."""
    classes = len(np.unique(examples.labels))
    found: dict[str, float | None] = {
        "eigenvalue": float(fitted.eigenvalues[classes - 1]) if len(fitted.eigenvalues) >= classes else None
    }
    mixed, labels = examples.mixed[kept], examples.labels[kept]
    if mixed.any():
        seen = unit_rows(fitted.transform(examples.first[kept]))
        different = labels[:, None] != labels
        cosines = seen @ seen.T
        difficult = different & mixed[:, None] & mixed
        found["gamma"] = 100 * float(cosines[difficult].mean())
        found["beta"] = 100 * float(cosines[different & ~difficult].mean())
    return found


@cache
def _examples(name: str, mixed: int, scale: Scale) -> Examples:
    if name in TEXTS:
        return _texts(name)
    if name == "fsdd":
        return _words(mixed, scale)
    features, images, test = _encoder_of(name, scale)
    changed = mix_set(images, mixed / 100, 0) if mixed else images
    views = SimCLRViews(crop_scale=(0.4, 1.0), flip=0.0) if name == "digits" else SimCLRViews()
    pixels = torch.from_numpy(changed.images[:]).float() / 255
    torch.manual_seed(0)
    first, second = (_features(features, views, pixels) for _ in range(2))
    clean, tested = (
        _features(features, None, torch.from_numpy(each.images[:]).float() / 255) for each in (images, test)
    )
    labels, test_labels = (np.asarray(each.labels).astype(np.int64) for each in (images, test))
    which = changed.mixed if changed.mixed is not None else np.zeros(len(labels), bool)
    return Examples(first, second, clean, labels, which, tested, test_labels)


@cache
def _encoder_of(name: str, scale: Scale) -> tuple[PatchEncoder, ImageSet, ImageSet]:
    """Patch filters of the clean training images, and both sets at 32 pixels."""
    if name == "digits":
        first, second, folder = "digits:train", "digits:test", None
    else:
        folder = Path(os.environ["PAIRSIFT_DATA"], name)
        first, second = (str(folder / f"{part}.parquet") for part in ("train", "test"))
    smoke = scale == "smoke"
    images = load_images(first, per_class=40 if smoke else _PER_CLASS[name], image_size=32)
    test = load_images(second, per_class=5 if smoke else _TEST[name], image_size=32)
    encoder, _ = PatchEncoder.fit(
        images.images, SimCLRViews(), filters=8 if smoke else _FILTERS, views=2, dimensions=8, mirrored=False
    )
    return encoder, images, test


def _features(encoder: PatchEncoder, views: Any, pixels: Tensor) -> FloatArray:
    parts = [
        encoder.raw(part if views is None else views(part.clone()))
        for part in pixels.tensor_split(len(pixels) // 256 + 1)
    ]
    return np.asarray(torch.cat(parts).numpy(), np.float32)


def _words(mixed: int, scale: Scale) -> Examples:
    """Spoken digits: mel energies with noise as views, and sums of two words as mixes."""
    words = load_vectors("fsdd", scale)
    rng = np.random.default_rng(5)
    x, chosen = words.x.copy(), np.zeros(len(words.x), bool)
    if mixed:
        rows = rng.permutation(len(x))[: round(mixed / 100 * len(x))]
        chosen[rows] = True
        for row in rows:
            x[row] = (words.x[row] + words.x[rng.choice(np.flatnonzero(words.y != words.y[row]))]) / 2
    first, second = (x + words.noise * rng.standard_normal(x.shape).astype(np.float32) for _ in range(2))
    return Examples(first, second, words.x, words.y, chosen, words.test_x, words.test_y)


def _texts(name: str) -> Examples:
    """Pairs of the study `retrieval`; clean features are those of the first texts."""
    texts = load(name, data_folder(), Path("features")).paired(0)
    labels, held = texts.labels, texts.test
    return Examples(
        texts.anchors, texts.positives, texts.anchors, labels, np.zeros(len(labels), bool), held.queries,
        held.query_labels, held,
    )  # fmt: skip


def _ready(arms: Sequence[Arm], scale: Scale) -> None:
    if scale != "smoke":
        needs(*(name for name in SETS if name != "digits"))(arms, scale)


STUDY = Study(
    name="exact-treatments",
    question="Do the paper's treatments help its own loss, solved exactly?",
    arms=arms,
    run=run,
    measures={"knn20": "20-NN %", "linear": "linear probe %", "ndcg10": "nDCG@10 %", "eigenvalue": "eigenvalue r + 1"},
    differences=3,
    seconds=2.0,
    seeds=50,
    table="2, 10, Fig. 1, 2",
    ready=_ready,
)
