"""Targets of the fuzz campaign: whole sets through scan, affinity, evaluation, theory, and settings of all kinds."""

from __future__ import annotations

import math
from typing import Any

import inputs as given_
import numpy as np
import torch
from fuzz_api import bands, exact_cosines, expect
from hypothesis import strategies as st
from judge import Judge

import pairsift as ps
from pairsift.retrieval import PairsConfig
from pairsift.scanning import ScanConfig
from pairsift.theory import SimilarityGraph, bounds, measure_levels
from pairsift.train import TrainConfig


def mostly(usual: Any, *others: Any) -> Any:
    """A strategy three times in four, else one of others."""
    return given_.rarely.flatmap(lambda strange: st.one_of(*others) if strange else usual)


@st.composite
def unequal_classes(draw: Any) -> Any:
    """Round classes of unequal size, 2:1 to 50:1, some of them a few rows only."""
    largest, dimensions = draw(st.integers(20, 100)), draw(st.integers(2, 24))
    sizes = [
        largest,
        *(max(1, largest // draw(st.sampled_from((1, 2, 5, 20, 50)))) for _ in range(draw(st.integers(1, 6)))),
    ]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    spread = draw(st.sampled_from((0.0, 0.05, 1.0)))
    rows = rng.standard_normal((len(sizes), dimensions))[labels] + spread * rng.standard_normal(
        (len(labels), dimensions)
    )
    return rows.astype(draw(st.sampled_from((np.float16, np.float32, np.float64))))


sets = mostly(
    st.one_of(given_.arrays(st.integers(10, 90), st.integers(1, 12), given_.FLOATS), unequal_classes()),
    given_.arrays(), given_.arrays(), given_.junk,
)  # fmt: skip


def any_labels(n: int) -> Any:
    """Labels of any kind for n rows, or for other rows."""
    count = st.sampled_from((n, n, n, n, n + 1, 0))
    plain = count.flatmap(lambda k: st.lists(st.integers(-1, 3), min_size=k, max_size=k)).map(np.array)
    exact = st.lists(st.integers(0, 3), min_size=n, max_size=n).map(np.array)
    return mostly(exact, plain, given_.arrays(shape=(n,)), given_.junk, st.none())


# Scan


@st.composite
def scans(draw: Any) -> Any:
    """Features with settings of a scan."""
    features = draw(sets)
    left_out = ("output", "overwrite", "engine", "address", "guide_features", "column", "id_column")
    names = [name for name in ScanConfig.model_fields if name not in left_out]
    settings: dict[str, Any] = {"threads": 1}
    if draw(st.booleans()):
        settings["n_classes"] = draw(st.integers(2, 4))
    for name in draw(st.sets(st.sampled_from((*names, "nonsense")), max_size=3)) if draw(given_.rarely) else ():
        settings[name] = draw(given_.numbers if draw(st.booleans()) else given_.junk)
    settings |= {"skip_bad": True} if draw(given_.rarely) else {}
    if isinstance(settings["threads"], (int, float)) and settings["threads"] > 1:
        settings["threads"] = 1
    n = len(features) if isinstance(features, np.ndarray) and features.ndim else 3
    return features, settings, draw(any_labels(n)) if draw(st.booleans()) else None


def scan(judge: Judge, case: Any) -> None:
    """`scan` of an array."""
    features, settings, labels = case

    def check(found: Any) -> None:
        n = len(features)
        scored = np.isfinite(found.scores)
        expect(found.scores.shape == (n,) and found.clusters.shape == (n,), "shapes of a scan")
        expect(scored.all() or settings.get("skip_bad"), "a row without a score")
        expect(((found.scores[scored] >= 0) & (found.scores[scored] <= 1)).all(), "a score out of [0, 1]")
        expect(np.isfinite(found.indicators[scored]).all(), "indicators that are not finite")
        expect(((found.clusters >= -1) & (found.clusters < found.n_classes)).all(), "a cluster that is not there")
        expect((np.bincount(found.drop(0.5), minlength=n) <= 1).all(), "a row dropped twice")
        anchors, others = (found.pairs.column(name).to_numpy() for name in ("anchor", "other"))
        expect((found.clusters[anchors] != found.clusters[others]).all(), "a bridging pair inside a cluster")
        similarity = found.pairs.column("similarity").to_numpy()
        expect((np.abs(similarity) <= 1 + 1e-5).all(), "a cosine beyond 1")

    judge.call(lambda: ps.scan(features, labels=labels, **settings), check)


def affinity(judge: Judge, features: Any) -> None:
    """`Affinity.fit`: probabilities of pairs, 1 of a row with itself."""

    def check(found: Any) -> None:
        rows = np.arange(found.n)
        same, other = found.probability(rows, rows), found.probability(rows, rows[::-1])
        expect(np.allclose(same, 1) and np.isfinite(other).all(), "probabilities that are none")
        expect(((other >= 0) & (other <= 1)).all(), "a probability out of [0, 1]")
        expect(np.allclose(other, found.probability(rows[::-1], rows), atol=1e-6), "a pair that is not symmetric")

    judge.call(lambda: ps.Affinity.fit(features), check)


big_sets = mostly(given_.arrays(st.integers(50, 90), st.integers(2, 12), given_.FLOATS), given_.arrays(), given_.junk)

# Evaluation


@st.composite
def splits(draw: Any) -> Any:
    """Two labelled sets for a probe, mostly of one width."""
    width, n, m = draw(st.integers(1, 6)), draw(st.integers(1, 40)), draw(st.integers(1, 12))
    parts = []
    for rows in (n, m):
        calm = given_.arrays(shape=(rows, width), dtypes=given_.FLOATS)
        x = draw(mostly(calm, given_.arrays(shape=(rows, width)), sets))
        parts += [x, draw(any_labels(rows))]
    return (
        parts,
        draw(mostly(st.integers(1, n), st.integers(-1, 50), given_.numbers)),
        draw(mostly(st.floats(0.02, 2), given_.numbers)),
    )


def knn(judge: Judge, case: Any) -> None:
    """`evaluate.knn` against loops."""
    (train_x, train_y, test_x, test_y), k, temperature = case

    def check(accuracy: float) -> None:
        expect(0 <= accuracy <= 1, f"accuracy {accuracy}")
        s = exact_cosines(np.asarray(train_x, np.float32), np.asarray(test_x, np.float32)).T
        sure, right = 0, 0.0
        if not temperature > 0.01:
            return
        for i, row in enumerate(s):
            order = np.argsort(-row)
            if k < len(row) and row[order[k - 1]] - row[order[k]] < 1e-5:
                return  # which of nearly equal neighbours votes is a matter of rounding
            votes: dict[Any, float] = {}
            for j in order[:k]:
                label = np.asarray(train_y)[j]
                votes[label] = votes.get(label, 0) + math.exp((row[j] - 1) / temperature)
            best = sorted(votes.values())
            if len(best) > 1 and best[-1] - best[-2] < 1e-4 * best[-1]:
                return
            right += max(votes, key=lambda label: votes[label]) == np.asarray(test_y)[i]
            sure += 1
        expect(abs(accuracy - right / sure) < 1e-9, f"accuracy {accuracy}, oracle {right / sure}")

    judge.call(lambda: ps.evaluate.knn(train_x, train_y, test_x, test_y, k, temperature), check)


def probe(judge: Judge, case: Any) -> None:
    """`evaluate.linear_probe`."""
    (train_x, train_y, test_x, test_y), _, _ = case
    judge.call(
        lambda: ps.evaluate.linear_probe(train_x, train_y, test_x, test_y),
        lambda found: expect(0 <= found.accuracy <= 1, f"accuracy {found.accuracy}"),
    )


@st.composite
def scored(draw: Any) -> Any:
    """Scores and planted truth."""
    n = draw(st.integers(0, 12))
    truth = st.lists(st.booleans(), min_size=n, max_size=n).map(np.array)
    return draw(mostly(given_.arrays(shape=(n,)), given_.junk)), draw(
        mostly(truth, given_.arrays(shape=(n,)), given_.junk)
    )


def detection(judge: Judge, case: Any) -> None:
    """`evaluate.detection` against all pairs."""
    scores, planted = case

    def check(found: Any) -> None:
        s, p = np.asarray(scores, np.float64), np.asarray(planted, bool)
        s, p = s[~np.isnan(s)], p[~np.isnan(s)]
        pairs = [float(a > b) + 0.5 * float(a == b) for a in s[p] for b in s[~p]]
        expect(abs(found.auroc - np.mean(pairs)) < 1e-9, f"AUROC {found.auroc}, oracle {np.mean(pairs)}")

    judge.call(lambda: ps.evaluate.detection(scores, planted), check)


@st.composite
def triples(draw: Any) -> Any:
    """Features of texts and of two versions."""
    n, width = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    calm = given_.arrays(shape=(n, width), dtypes=given_.FLOATS)
    part = mostly(calm, sets) if draw(given_.rarely) else calm
    return draw(part), draw(part), draw(part)


def hits(judge: Judge, case: Any) -> None:
    """`evaluate.semantic_hits` against extended precision."""

    def check(share: float) -> None:
        first, *versions = (np.asarray(x, np.float64) for x in case)
        near, far = (np.diag(exact_cosines(first, x)) for x in versions)
        if (np.abs(near - far) > 1e-9).all():
            expect(abs(share - (near > far).mean()) < 1e-9, f"hits {share}, oracle {(near > far).mean()}")
        expect(0 <= share <= 1, f"hits {share}")

    judge.call(lambda: ps.evaluate.semantic_hits(*case), check)


def collapse(judge: Judge, case: Any) -> None:
    """`evaluate.collapse`."""
    (features, labels, _, _), _, scale = case

    def check(found: Any) -> None:
        expect(-1e-9 <= found.low <= found.within_class <= found.high <= 1 + 1e-9, f"share {found}")
        expect(not math.isnan(found.nc1), "NC1 is nan")

    judge.call(lambda: ps.evaluate.collapse(features, labels, normalise=bool(scale)), check)


# Theory


@st.composite
def levelled(draw: Any) -> Any:
    """Features with labels, or a band in their place."""
    features = draw(sets)
    n = len(features) if isinstance(features, np.ndarray) and features.ndim else 3
    labels = draw(any_labels(n))
    fraction = draw(mostly(st.floats(0.01, 0.5), given_.numbers))
    return features, labels, fraction, draw(bands()), draw(st.one_of(st.none(), st.integers(-1, 9)))


def levels(judge: Judge, case: Any) -> None:
    """`theory.measure_levels`: cosines lie in [-1, 1]."""
    features, labels, fraction, edges, n_classes = case

    def check(found: Any) -> None:
        for level in (found.alpha, found.beta, found.gamma):
            expect(level.pairs == 0 or -1 - 1e-5 <= level.mean <= 1 + 1e-5, f"mean cosine {level.mean}")
            expect(level.pairs < 2 or level.variance >= 0, f"variance {level.variance}")

    judge.call(
        lambda: measure_levels(features, labels, None, fraction, ps.RankBand(*edges), n_classes=n_classes), check
    )


@st.composite
def graphs(draw: Any) -> Any:
    """Numbers for a similarity graph, mostly in range."""
    if draw(st.integers(0, 2)) == 0:
        return [draw(given_.numbers) for _ in range(6)], draw(given_.numbers), draw(given_.numbers)
    n, r = draw(st.integers(1, 30)), draw(st.integers(1, 5))
    beta, gamma, alpha = sorted(draw(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))))
    return [n, r, draw(st.integers(0, n)), alpha, beta, gamma], draw(st.floats(0, 1)), draw(st.integers(0, 40))


def graph(judge: Judge, case: Any) -> None:
    """`theory.SimilarityGraph` and every bound: the spectrum against the dense solver."""
    values, delta, k = case

    def work() -> Any:
        made = SimilarityGraph(*values)
        return made, bounds.compare(made, delta, k)

    def check(found: Any) -> None:
        made, _ = found
        if len(made) > 200:
            return
        eigenvalues, counts = made.spectrum()
        expect(int(np.sum(counts)) == len(made), "number of eigenvalues")
        exact = np.linalg.eigvalsh(made.normalized_adjacency())[::-1]
        expect(np.allclose(np.repeat(eigenvalues, counts), exact, atol=1e-8), "eigenvalues")

    judge.call(work, check)


# Settings


def configs(judge: Judge, case: Any) -> None:
    """Settings by name: taken as they are, or refused."""
    model, values = case
    found = judge.call(lambda: model.build(values))
    if found is not None:
        expect(model.build(found.model_dump()) == found, "settings that are not what they were")


@st.composite
def settings_(draw: Any) -> Any:
    """A kind of settings with values, right and wrong."""
    model = draw(st.sampled_from((TrainConfig, ScanConfig, PairsConfig)))
    names = st.sampled_from((*model.model_fields, "epoch", "nonsense", ""))
    words = st.sampled_from(("1,2", "none", "auto", "combined", "affinity", "moco"))
    values = {}
    for name in draw(st.sets(names, max_size=4)):
        default = model.model_fields[name].default if name in model.model_fields else None
        values[name] = draw(mostly(st.just(default), given_.numbers, given_.junk, words))
    return model, values


@st.composite
def mixtures(draw: Any) -> Any:
    """Images, labels and settings for `mix`."""
    n = draw(st.integers(0, 9))
    images = draw(mostly(given_.arrays(shape=(n, 3, 4, 4), dtypes=("u1",)), sets, given_.arrays(shape=(n, 3, 4, 4))))
    kind = draw(mostly(st.sampled_from(("pixel", "composite")), given_.junk))
    return images, draw(any_labels(n)), draw(mostly(st.floats(0, 1), given_.numbers)), kind


def mix(judge: Judge, case: Any) -> None:
    """`data.mix`: as many images mixed as asked, each with one of another class."""
    images, labels, fraction, kind = case

    def check(found: Any) -> None:
        expect(int(found.mixed.sum()) == round(fraction * len(images)), "number of mixed images")
        expect(found.images.shape == images.shape and found.images.dtype == images.dtype, "shape of mixed images")
        if labels is not None:
            chosen = np.flatnonzero(found.mixed)
            known = chosen[np.asarray([each != -1 for each in np.asarray(labels)[chosen].tolist()], bool)]
            expect((np.asarray(labels)[known] != np.asarray(labels)[found.partner[known]]).all(), "a partner's class")
            expect((found.partner[chosen] != chosen).all(), "an image mixed with itself")

    judge.call(lambda: ps.data.mix(images, labels, fraction=fraction, seed=0, kind=kind), check)


def patches(judge: Judge, case: Any) -> None:
    """`affinity.patch_features`: unit rows."""
    images, filters, dimensions = case
    judge.call(
        lambda: ps.same_class.patch_features(images, filters=filters, dimensions=dimensions),
        lambda found: expect(np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-4), "rows that are not of length 1"),
    )


@st.composite
def pictures(draw: Any) -> Any:
    """Images for patches."""
    sides = draw(mostly(st.sampled_from(((8, 8), (1, 9), (9, 5))), st.just((0, 3))))
    shape = (draw(st.integers(48, 60)), draw(mostly(st.just(3), st.just(1))), *sides)
    images = mostly(given_.arrays(shape=shape, dtypes=("u1", "u1", "u1", "f4")), given_.junk)
    small = mostly(st.integers(1, 9), st.integers(-1, 9), given_.numbers.filter(lambda x: not abs(x) > 100))
    return draw(images), draw(small), draw(small)


@st.composite
def flagged(draw: Any) -> Any:
    """A selection and labels."""
    n, k = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    rng = np.random.default_rng(draw(given_.seeds))
    pairs = torch.from_numpy(rng.random((n, n if draw(st.booleans()) else k)) < 0.4)
    if pairs.shape[0] == pairs.shape[1]:
        pairs.fill_diagonal_(False)
    labels = draw(mostly(st.just(torch.arange(n) % 3), given_.tensors(n, 1), given_.junk))
    return draw(mostly(st.just(pairs), given_.tensors(n, n), given_.junk)), labels


def shares(judge: Judge, case: Any) -> None:
    """`random_pairs`, as many in every row, and `pair_shares`."""
    pairs, labels = case

    def check(drawn: Any) -> None:
        expect(torch.equal(drawn.sum(1), pairs.sum(1)) and not drawn.diagonal().any(), "numbers of random pairs")

    judge.call(lambda: ps.random_pairs(pairs), check)
    judge.call(
        lambda: ps.pair_shares(pairs, labels),
        lambda found: expect(all(math.isnan(x) or 0 <= x <= 1 for x in found), f"shares {found}"),
    )
