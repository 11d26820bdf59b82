"""Writes the tables and numbers of the README and the documentation from the result files.

    python -m lab.pages --write    # fill them in
    python -m lab.pages --check    # fail where a page differs from its result files

A page marks a table by `<!-- table: NAME -->` and `<!-- end -->`, and a number in its text by `<!-- value: NAME -->`
and `<!-- end -->`. The text between the marks is replaced.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from lab.analyses import campaigns, correlations, gaussian_orders, label_free, over_mixtures, strengths, treated
from lab.cells import (
    Show,
    between,
    bold,
    difference,
    given_interval,
    interval,
    listed,
    mean,
    number,
    slashed,
    titled,
)  # fmt: skip
from lab.comparison import paired
from lab.rows import ROOT
from lab.small_encoders import BEST, PARTS, excess_at
from lab.tables import Column, Line, Table, plain_lines, runs, study_table, tuned_lines

MARKED = re.compile(r"(<!-- table: ([\w, -]+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
VALUE = re.compile(r"(<!-- value: ([\w, -]+?) -->)(.*?)(<!-- end -->)", re.DOTALL)
ACCURACIES = {"linear": "linear probe", "knn20": "20-NN"}
_GAIN, _PERCENT, _COUNT = interval(sign="+"), number(1, scale=100), number(0)
_EXACT = interval(rounded=False)
_EXACT_GAIN = interval(sign="+", rounded=False)


def best_peer(_: Line, lines: list[Line]) -> Line:
    """The other method with the highest AUROC."""
    return max((line for line in lines if line.keys["arm"] != "pairsift"), key=lambda line: round(_auroc(line), 4))


def _auroc(line: Line) -> float:
    return mean([*line.values["auroc"].values()])


def _best_sign(sign: str) -> Show:
    """Shows the AUROC of a sign, in bold where no other is higher."""

    def show(*values: list[float]) -> str:
        top = values[0][0] == max(each[0] for each in values)
        return f"**{values[0][0]:.3f}**" if top else f"{values[0][0]:.3f}"

    return show


_SIGNS = ("cosine", "centred", "whitened", "affinity")


def same_batches(line: Line, lines: list[Line]) -> Line | None:
    """The arm with positives from time that is trained in batches of the same kind."""
    name = "few sequences" if line.keys["arm"].startswith("few sequences,") else "temporal"
    return next((each for each in lines if each.keys["arm"] == name), None)


_CONTENDERS = {
    "untreated": "ours untreated", "combined": "ours combined", "combined_bf16": "ours combined, bf16 selection",
    "lightly": "lightly", "dense": "dense `cross_entropy`", "pytorch_metric_learning": "pytorch-metric-learning",
}  # fmt: skip


def _loss(sizes: Sequence[int] | range, *more: Column) -> Table:
    cost = slashed(number(unit=" ms"), number(0, " MB"))
    return Table(
        ("benchmarks/loss",),
        (
            Column("views", "views", _COUNT),
            *(
                Column(title, (f"{name}_ms", f"{name}_peak_mb"), lambda *both: (cost(*both) or "").replace(" / ", ", "))
                for name, title in _CONTENDERS.items()
            ),
            *more,
        ),
        where={"views": sizes},
    )  # fmt: skip


_SHARE = number(1, " %", 100)
_TENTHS, _BEST = number(1, scale=100), bold(number(1, scale=100))
_CURATION = {
    "labels": [("scan", "scan", _BEST), ("cleanlab", "cleanlab", _TENTHS),
               ("cleanlab, margin", "cleanlab, margin", _TENTHS), ("ten neighbours", "neighbours", _TENTHS)],
    "copies": [("found", "recall", _BEST), ("in groups", "grouped", _TENTHS), ("false", "false", _TENTHS),
               *((f"{what} at cosine {limit}", f"{measure} at {limit}", _TENTHS)
                 for limit in (0.95, 0.98) for what, measure in (("found", "recall"), ("false", "false"))),
               ("found by semhash", "recall of semhash", _TENTHS), ("false of semhash", "false of semhash", _TENTHS)],
    "pairs": [("pairs listed", "listed", _COUNT), ("first hundred", "different", _BEST),
              ("random", "random", _TENTHS), ("ratio", "ratio", number(1))],
    "scores": [("scan", "scan", _BEST),
               *((name, name, _TENTHS) for name in ("centred kNN distance", "kNN distance", "prototypes",
                                                    "centroid gap", "cleanlab"))],
}  # fmt: skip


_DEMO = {"plain": "plain SimCLR", "band": "the paper's band", "exact": "solved exactly"}
_SETS = {"cifar10, tau 0.2": "CIFAR-10", "imagenette, tau 0.2": "Imagenette",
         "tiny-imagenet, tau 0.2": "Tiny ImageNet, 80 classes"}  # fmt: skip
_TAUS = ("tau 0.5", "tau 0.2", "tau 0.15", "tau 0.1")


def _trained(name: str, groups: Sequence[str]) -> Table:
    """A table of arms by temperature."""
    return Table(
        (name,),
        (
            Column("tau", "temperature", lambda tau: f"{tau:g}"), Column("arm", "arm"), Column("seeds", "seeds"),
            *(
                column
                for measure, title in ACCURACIES.items()
                for column in (Column(f"{title} %", measure, interval(2, rounded=False, zero=True)),
                               Column("gain", measure, interval(2, "+", rounded=False, zero=True), minus="plain"))
            ),
            *(Column(f"{each} %", each, _PERCENT) for each in ("flagged", "different", "estimated")),
        ),
        first="plain", groups=groups,
    )  # fmt: skip


_OTHER_WAYS = {
    "cca": "scikit-learn's `CCA`, 8 directions", "adapter": "a linear map by gradient steps",
    "epoch": "sentence-transformers, one epoch of all weights",
}  # fmt: skip

_MASKS = (
    Column("MRR@10 %", "mrr10", interval()), Column("recall@10 %", "recall10", interval()),
    Column("20-NN %", "knn20", interval()), Column("masked %", "masked", number(1)),
    Column("precision %", "precision", number(1)), Column("recall of the mask %", "recall", number(1)),
)  # fmt: skip


def _collapse(name: str) -> Table:
    return Table(
        ("collapse",),
        (
            Column("tau", "temperature", lambda tau: f"{tau:.1f}"), Column("alpha", "alpha", lambda a: f"{a:g}"),
            Column("seeds", "seeds"), Column("share said %", "theory", _PERCENT),
            Column("of projections %", "within_class", interval(scale=100)),
            Column("of features %", "within_class_h", interval(scale=100)), Column("coarse %", "coarse", interval()),
            Column("fine, by features %", "fine", interval()), Column("fine, by projections %", "fine_z", interval()),
        ),
        groups=(name,),
    )  # fmt: skip


def _temporal(name: str, *measures: str) -> Table:
    return Table(
        ("temporal",),
        (
            Column("positives", "arm"), Column("seeds", "seeds"),
            *(
                column
                for measure in measures
                for method, loss in (("spectral", "spectral"), ("simclr", "NT-Xent"))
                for column in (
                    Column(f"{measure}, {loss}", measure, interval(), group=f"{name}, {method}"),
                    Column("difference", measure, _GAIN, group=f"{name}, {method}", minus=same_batches, skip=("raw",)),
                )
            ),
        ),
        has="digit", groups=[f"{name}, spectral", f"{name}, simclr"], by_arm=True,
    )  # fmt: skip


def _study(*names: str, group: str) -> Table:
    """A table of arms against plain training at its temperature and at its best temperature."""
    return Table(
        names,
        (
            Column("arm", "title"), Column("seeds", "seeds"),
            *(
                column
                for measure, title in ACCURACIES.items()
                for column in (Column(f"{title}, minus plain", measure, difference, minus="baseline"),
                               Column(f"{title}, minus plain at its best", measure, difference, minus=BEST))
            ),
            Column("paper", "paper"),
        ),
        groups=(group,), but=("plain",), tuned=True,
    )  # fmt: skip


def _whole(name: str) -> Callable[[], str]:
    """The table of a study, without the measure that chooses candidates."""
    return lambda: study_table(name, but_chosen_by=True)


_KNOWN = "pairs of training"
_SEMANTIC = {
    "frozen": "frozen", "plain": "without antonym versions", "printed": "two versions alone, as printed",
    "in batch": "in the batch", "in batch, margin": "in the batch, margin 0.1", "three parts": "three parts",
}  # fmt: skip
_NOISY = {
    "with": "untreated", "without": "without difficult examples *", "margin": "margin on the band",
    "temperature": "temperature on the band", "drop": "dropping the band", "random margin": "margin, random pairs",
    "random temperature": "temperature, random pairs", "random drop": "dropping random pairs",
    "removal": "difficult examples removed, Nystroem extension *",
    "degree removal": "as many of the largest degree removed", "random removal": "as many at random removed",
    "oracle margin": "margins of Theorem 4.3 *", "oracle temperature": "temperatures of Theorem 4.5 *",
    "class margin": "margin on all pairs of different classes *",
}  # fmt: skip
_DROPPED = {
    "nothing": "nothing", "random": "a random fifth", "scan": "the scan's top fifth",
    "truth": "the true mixes (a fifth)",
}  # fmt: skip
_MASK_ARMS = ("frozen", "plain", "identity", "guide", "guide and difficult", "gist 0", "gist 0.05", "random", "oracle")
_RETRIEVAL = (
    Column("set", "group"), Column("arm", "arm"), Column("nDCG@10 %", "ndcg10", interval()),
    Column("minus plain", "ndcg10", _EXACT_GAIN, minus="plain"),
    Column("minus GIST 0", "ndcg10", _EXACT_GAIN, minus="gist 0", skip=("frozen",)), *_MASKS,
)  # fmt: skip
_FINE_TUNING = (
    Column("set", "group"), Column("arm", "arm"), Column("seeds", "seeds"),
    Column("nDCG@10 %", "ndcg10", _EXACT),
    Column("minus plain", "ndcg10", _EXACT_GAIN, minus="plain", skip=("frozen",)),
    Column("minus GIST 0", "ndcg10", _EXACT_GAIN, minus="gist 0", skip=("frozen",)),
    *(Column(each.title, each.what, _EXACT) for each in _MASKS[:3]), *_MASKS[3:],
)  # fmt: skip


def _gamma(title: str, gamma: str) -> Column:
    """A column with the accuracy of the untreated graph and the changes by arms, at one level of difficult pairs."""
    gain = given_interval(sign="+", scale=100)
    return Column(title, ("arm", "difference", "half_width", "accuracy"),
                  lambda arm, *both_and_all: _PERCENT(both_and_all[2]) if arm == "with" else gain(*both_and_all[:2]),
                  group=gamma)  # fmt: skip


def _apart(values: Sequence[float]) -> str:
    return "same" if values[0] == 0 else f"{values[0]:.0e}"


def _signed(digits: int) -> Show:
    return number(digits, sign="+")


def _campaign(part: str, *columns: Column, total: str = "") -> Table:
    return Table(("benchmarks/campaign",), columns, part=part, total=total)


def _nonzero(values: Sequence[float]) -> str | None:
    return f"{sum(values):,.0f}" if sum(values) else None


TABLES: dict[str, Callable[[], str]] = {
    "loss, all sizes": _loss(
        range(1 << 30), Column("floor of combined", "floor_ms", number(unit=" ms")),
        Column("combined over floor", "combined_over_floor", number(2)),
    ),
    "step": Table(("benchmarks/step",), (
        Column("objective", "objective"), Column("untreated", "untreated_ms", number(0, " ms")),
        Column("combined", "combined_ms", number(0, " ms")), Column("ratio", "combined_over_untreated", number(3)),
    )),
    "views": Table(("benchmarks/input",), (
        Column("views made by", "row"), Column("views a second", "{row}_views_per_second", _COUNT),
        Column("time over ours", "{row}_over_ours", number(1)),
    ), rows={"ours": "ours", "pil": "PIL, image by image", "kornia": "kornia"}),
    "theory": Table(("benchmarks/theory",), (
        Column("vertices", "vertices", _COUNT), Column("closed form", "closed_form_ms", number(1, " µs", 1e3)),
        Column("sparse solver (`eigsh`)", "eigsh_ms", number(unit=" ms")),
        Column("dense solver (`eigh`)", "eigh_ms", number(unit=" ms")),
        Column("largest difference", "largest_error", lambda values: f"{values[0]:.0e}" if values else None),
    ), has="vertices"),
    "startup": Table(("benchmarks/startup",), (
        Column("start", "start", lambda start: f"`{start}`"), Column("median", "ms", number(0, " ms")),
    )),
    "busy": Table(("benchmarks/busy",), (
        Column("processes", "way"), Column("images a second, each", "images_per_second", _COUNT),
        Column("CPU seconds, each", "cpu_s", number(1)),
    )),
    "scan": Table(("benchmarks/scan",), (
        Column("rows", "n", _COUNT), Column("seconds", "pairsift_s", number(1)),
        Column("peak memory, GB", "pairsift_peak_mb", number(2, scale=1e-3)),
        Column("faiss `IndexFlatIP`, k = 100, seconds", "flat_s", number(1)),
        Column("ours over faiss", "time_ratio", number(2)),
    ), has="n"),
    "detection": Table(("benchmarks/detection",), (
        Column("set", "group"), Column("seeds", "seeds"),
        Column("ours", "auroc", bold(number(1, scale=100, rounded=4))),
        Column("average precision", "average_precision", number(0, scale=100)),
        *(Column(peer, "auroc", number(1, scale=100, rounded=4), arm=peer)
          for peer in ("SAS", "prototypes", "centroid gap", "kNN distance", "cleanlab")),
        Column("margin", "auroc", interval(sign="+", scale=100), minus=best_peer),
    ), arms=("pairsift",)),
    "unequal": Table(("benchmarks/unequal",), (
        Column("set", "group"), Column("rows", "n", _COUNT),
        Column("ours", "auroc", bold(number(1, scale=100))),
        Column("rows alike", "auroc", number(1, scale=100), arm="unweighted"),
        *(Column(peer, "auroc", number(1, scale=100), arm=peer) for peer in ("SAS", "centroid gap", "kNN distance")),
        Column("largest class in the set", "base", number(0, " %", 100)),
        Column("in the list", "largest", number(0, " %", 100)),
    ), arms=("pairsift",)),
    "objectives": Table(("cifar10-objectives",), (
        Column("objective", "group", titled({"simclr": "SimCLR", "moco": "MoCo"})), Column("measure", "row"),
        Column("plain", "{row}", interval(), arm="plain"), Column("combined", "{row}", interval(), arm="combined"),
        Column("gain", "{row}", _GAIN, arm="combined", minus="plain"),
    ), arms=("plain",), rows=ACCURACIES),
    "text": Table(("sentences",), (
        Column("arm", "arm"),
        *(column for measure, title in ACCURACIES.items()
          for column in (Column(title, measure, interval()), Column("minus plain", measure, _GAIN, minus="plain"))),
    )),
    "drop": Table(("drop",), (
        Column("dropped", "arm", titled(_DROPPED)),
        Column("planted among them", "planted_among_dropped", number(0, " %", 100)),
        Column("linear probe, by seed", "linear", listed(1)), Column("mean", "linear", number(1)),
        Column("20-NN, mean", "knn20", number(1)),
    ), arms=_DROPPED),
    "demo": Table(("demo",), (
        Column("method", "arm", titled(_DEMO)),
        *(column for measure, title in (("knn", "20-NN %"), ("linear", "linear probe %")) for column in (
            Column(title, measure, number(1)), Column(f"{title}, gain", measure, _EXACT_GAIN, minus="plain"),
        )),
    )),
    "laboratory": Table(("noisy-graphs",), (
        Column("arm", "arm", titled(_NOISY)), _gamma("gamma 0.42", "gamma 0.42"), _gamma("gamma 0.30", "gamma 0.3"),
        _gamma("gamma = beta", "gamma 0.19"),
        Column("purity minus base", "excess", number(1, scale=100, sign="+"), group="gamma 0.42",
               skip=("with", "removal", "degree removal", "random removal")),
    ), arms=_NOISY, by_arm=True),
    "worth": Table(("selection",), (
        Column("images", "group", titled(_SETS)),
        *(column for measure, title in (("knn20", "20-NN %"), ("linear", "linear probe %")) for column in (
            Column(title, measure, number(1)), Column(f"{title}, auto", measure, number(1), arm="patches"),
            Column(f"{title}, gain", measure, _EXACT_GAIN, arm="patches", minus="plain"),
        )),
    ), arms=("plain",), groups=tuple(_SETS)),
    "selection": _trained("selection", [f"cifar10, {tau}" for tau in _TAUS]),
    "selection, imagenette": _trained("selection", ["imagenette, tau 0.2"]),
    "selection, tiny-imagenet": _trained("selection", ["tiny-imagenet, tau 0.2"]),
    "when": _trained("selection-quality", _TAUS),
    "classmates": Table(("near-pairs",), (
        Column("set", "group"),
        *(Column(sign, tuple(f"auroc/{each}" for each in (sign, *_SIGNS)), _best_sign(sign)) for sign in _SIGNS),
        Column("different %", "different", _PERCENT), Column("estimated %", "estimated", _PERCENT),
        Column("calibration error", "calibration_error", number(2)),
    )),
    "bridges": Table(("benchmarks/bridges",), (
        Column("set", ("group", "guide"), lambda name, guide: name + (", with a guide" if guide else "")),
        Column("first 50", "different_50", _PERCENT), Column("first 1,000", "different_1000", bold(_PERCENT)),
        Column("first 1,000 by similarity", "different_1000_by_similarity", _PERCENT),
        Column("random neighbours", "different_random_neighbours", _PERCENT),
        Column("median rank", "median_rank", _COUNT),
        Column("mean probability", "mean_probability", _PERCENT),
    )),
    **{
        f"curation, {task}": Table(("benchmarks/curation",), (
            Column("set", "group"), Column("half", "half"), Column("kind", "arm"),
            *(Column(title, measure, show) for title, measure, show in columns),
        ), part=task)
        for task, columns in _CURATION.items()
    },
    "temporal, fsdd": _temporal("fsdd", "digit", "speaker"), "temporal, pendigits": _temporal("pendigits", "digit"),
    "chains": Table(("chains",), (
        Column("bridging of 16", "bridging"), Column("positives", "arm"), Column("seeds", "seeds"),
        Column("lambda_2", "second", number(2)), Column("half the bound", "half_bound", _COUNT),
        Column("exact squared error", "exact_squared", number(1)), Column("squared error", "squared", interval()),
        Column("error %", "error", interval()), Column("minus temporal", "error", _GAIN, minus="temporal"),
    )),
    "chain estimate": Table(("benchmarks/chains",), (
        Column("transitions", "transitions", _COUNT), Column("states", "states", _COUNT),
        Column("counting, s", "counting", number(1)), Column("ten eigenvalues, s", "eigenvalues", number(1)),
        Column("their errors, s", "errors", number(1)), Column("together, s", "seconds", number(1)),
        Column("peak, GB", "peak_gb", number(1)),
    )),
    "collapse, pendigits": _collapse("pendigits"), "collapse, trec6": _collapse("trec6"),
    "collapse, cifar10": _collapse("cifar10"),
    "campaigns": campaigns,
    "kills": _campaign(
        "kill", Column("command", "arm"), Column("runs", "runs", _COUNT), Column("kills", "kills", _COUNT),
        Column("ended as an uninterrupted run, byte for byte", "outcomes/same", _COUNT),
        Column("finished parts", ("parts", "part"), lambda parts, name: f"{parts[0]:,} {name}"),
        Column("of them made again", "made_twice", _COUNT),
    ),
    "fuzz": _campaign(
        "fuzz", Column("tried", "arm"), Column("inputs", "inputs", _nonzero),
        Column("results that hold", "result", _nonzero),
        Column("refused in words", "refused", _nonzero),
        Column("stopped as by a kill", "stopped", _nonzero), total="all",
    ),
    "soak": _campaign(
        "soak", Column("soak", "arm"), Column("calls", "calls", _COUNT),
        Column("memory, bytes a call", "slope_bytes_a_call", _signed(1)),
        Column("memory, MB in all", "grown_mb", _signed(1)),
        Column("objects", "grown_objects", _signed(0)), Column("open files", "grown_files", _signed(0)),
    ),
    "repeat": _campaign(
        "repeat", Column("what", "arm"), Column("again, one thread", "again", _apart),
        Column("two threads for one", "two_threads", _apart),
        Column("another engine", ("engine", "engine_name"), lambda value, name: f"{name}: {_apart(value)}"),
    ),
    "matrix": Table(("benchmarks/matrix",), (
        Column("Python", "python"), Column("versions", "versions"), Column("PyTorch", "torch"),
        Column("tests passed", "passed", _nonzero), Column("skipped", "skipped", _nonzero),
        Column("failed", "failed", _nonzero), Column("", "reason"), Column("commit", "commit"),
    )),
    "semantic": Table(("semantic-negatives",), (
        Column("set", "group"), Column("arm", "arm", titled(_SEMANTIC)), Column("seeds", "seeds"),
        Column("AUROC", f"{_KNOWN}/auroc", _EXACT), Column("held-out pairs", "held-out pairs/auroc", _EXACT),
        Column("hits", f"{_KNOWN}/hits", _EXACT),
        Column("cosines", (f"{_KNOWN}/cos_synonym", f"{_KNOWN}/cos_antonym"), slashed(number(2), number(2))),
        *(column for measure, title in (("accuracy", "accuracy"), ("ndcg10", "nDCG@10"))
          for column in (Column(title, measure, _EXACT),
                         Column("minus frozen", measure, _EXACT_GAIN, minus="frozen", shared=True))),
        Column("synonym versions", (f"{_KNOWN}/accuracy_synonym", f"{_KNOWN}/accuracy"), between(_EXACT_GAIN)),
        Column("changed answers", (f"{_KNOWN}/changed_synonym", f"{_KNOWN}/changed_antonym"),
               slashed(number(0), number(0))),
    ), arms=_SEMANTIC, groups=("trec6", "newsgroups20", "banking77")),
    "adapted": Table(("adapt",), (
        Column("set", "group"), Column("features", "arm"), Column("seeds", "seeds"),
        *(Column(f"{title} %", measure, _EXACT) for measure, title in (
            ("ndcg10", "nDCG@10"), ("mrr10", "MRR@10"), ("knn20", "20-NN"))),
    )),
    "spectral": Table(("benchmarks/spectral",), (
        Column("pairs", "pairs", _COUNT), Column("dimensions", "dimensions", _COUNT),
        Column("seconds", "fit_s", _COUNT), Column("CPU seconds", "fit_cpu_s", _COUNT),
        Column("peak MB", "peak_mb", _COUNT),
    ), where={"part": ("fit",)}),
    "spectral, others": Table(("benchmarks/spectral",), (
        Column("compared with", "part", titled(_OTHER_WAYS)), Column("pairs", "pairs", _COUNT),
        Column("seconds of the map", "fit_s", number(1)), Column("of the other", "other_s", number(1)),
        Column("log rank of the map", "fit_log_rank", number(2)), Column("of the other", "other_log_rank", number(2)),
    ), where={"part": [*_OTHER_WAYS]}),
    "exact images": Table(("exact-images",), (
        Column("set", "group"), Column("patch layers", "arm"), Column("20-NN %", "knn20", number(1)),
        Column("linear probe %", "linear", number(1)), Column("20-NN without the map %", "patches", number(1)),
        Column("ridge", "ridge", number(3)), Column("CPU seconds of the fit", "fit_cpu_seconds", _COUNT),
    )),
    "retrieval": Table(("retrieval",), _RETRIEVAL, arms=_MASK_ARMS),
    "fine-tuning": Table(
        ("fine-tuning",), _FINE_TUNING, arms=("frozen", "plain", "identity", "guide", "gist 0", "oracle")
    ),
    "pairs": Table(("benchmarks/pairs",), (
        Column("pairs", "pairs", _COUNT), Column("seconds", "seconds", _COUNT),
        Column("peak memory, GB", "peak_mb", number(1, scale=1e-3)), Column("duplicate rows", "duplicate_rows", _COUNT),
        Column("pairs of rows that must not share a batch", "conflicts", _COUNT),
        Column("of the ten nearest found", "recall", number(0, " %", 100)),
    ), has="pairs"),
    "pairs, right": Table(("benchmarks/pairs",), (
        Column("pairs", "rows", _COUNT), Column("likely false negatives of one intent", "precision", _SHARE),
        Column("all pairs of one intent", "base", _SHARE), Column("pairs of one intent found", "found", _SHARE),
        Column("expected in a batch of 256", "expected_256/mean", number(2)),
        Column("by the intents", "base", number(1, scale=255)),
    ), has="precision"),
    "planted near-duplicates": Table(("benchmarks/planted-pairs",), (
        Column("set", "set"), Column("rows", "rows", _COUNT), Column("compared by", "by"),
        Column("planted", "planted", _COUNT), Column("found", "found", _COUNT),
        Column("other rows called near", "others", _COUNT),
    ), where={"kind": ("near-duplicates",)}),
    "planted bad negatives": Table(("benchmarks/planted-pairs",), (
        Column("set", "set"), Column("negatives", "negatives", _COUNT), Column("judged by", "by"),
        Column("planted", "planted", _COUNT), Column("recall", "recall", number(2)),
        Column("precision", "precision", number(2)), Column("pairs that the judge scored", "scored", _COUNT),
    ), where={"kind": ("bad negatives",)}),
    "samplers": Table(("benchmarks/pairs",), (
        Column("sampler", "row"), Column("first epoch, seconds", "{row}_first_s", number(2)),
        Column("a later one, seconds", "{row}_later_s", number(2)),
    ), has="batch", rows={
        "ours": "`DistinctBatchSampler`", "no_duplicates": "`NoDuplicatesBatchSampler`",
        "no_duplicates_hashed": "the same, hashes made before",
    }),
    "semantic views": Table(("benchmarks/semantic",), (
        Column("training texts", ("set", "texts"), lambda name, texts: f"{name}, {texts[0]:,}"),
        Column("words each", "words_per_text", _COUNT),
        *(Column(title, share, number(1, " %", 100)) for share, title in (
            ("with_antonym", "with an antonym version"), ("synonym_share", "words replaced by synonyms"),
            ("antonym_share", "by antonyms"), ("filled_share", "by antonyms and random words"),
            ("own_first", "own antonym version nearest of 256"),
        )),
        Column("texts a second", "texts_per_second", _COUNT), Column("words a second", "words_per_second", _COUNT),
    ), has="set"),
    "semantic cost": Table(("benchmarks/semantic",), (
        Column("N", "n", _COUNT), Column("`NTXentLoss`, N pairs", "ntxent_ms", number(1, " ms")),
        Column("N texts, untreated", "plain_ms", number(1, " ms")),
        Column("N texts, treated", "treated_ms", number(1, " ms")),
        Column("treated over `NTXentLoss`", "treated_over_ntxent", number(2)),
    ), has="n"),
    "study, cifar10": _study("combined", group=""), "study, long-tail": _study("long-tail", group=""),
    "study, strokes": _study("band", "selection-feature", "rho-extremes", group="pendigits"),
    "study, mixing": _whole("mixing"), "study, subsets": _whole("subsets"), "study, objectives": _whole("objectives"),
    "study, pressed": strengths, "study, label-free": lambda: label_free("label-free-choice"),
    "study, label-free, images": lambda: label_free("label-free-images"),
    "study, sets": Table(("band",), (
        Column("set", "group"), Column("arm", "title"), Column("seeds", "seeds"),
        *(Column(f"{title}, minus {other}", measure, difference, minus=to)
          for other, to in (("plain", "baseline"), ("plain at its best", BEST))
          for measure, title in ACCURACIES.items()),
    ), arms=(BEST, "all pairs", "oracle", "band 0.05 to 0.22", "band 0.15 to 0.22"), but=("pendigits",), tuned=True),
    "study, hard-negatives": Table(("hard-negatives",), (
        Column("method", "method"), Column("its best setting", "setting"), Column("seeds", "seeds"),
        *(Column(f"{title} %", measure, _EXACT) for measure, title in ACCURACIES.items()),
        *(Column(f"{title}, minus plain", measure, difference, minus="baseline")
          for measure, title in ACCURACIES.items()),
    ), groups=("pendigits",), has="setting", tuned=True),
    "study, hard-negatives, sets": Table(("hard-negatives",), (
        Column("20-NN, minus plain", "method"),
        Column("", "knn20", difference, minus="baseline", alone=_EXACT),
    ), but=("pendigits",), has="setting", by_arm=True, across=True, tuned=True),
    "study, gaussians": Table(("gaussians",), (
        Column("error, minus plain", "method"), Column("", "error", difference, minus="baseline", alone=_EXACT),
    ), by_arm=True, across=True, tuned=True),
    "study, order": gaussian_orders,
    "study, levels": Table(("levels",), (
        Column("set", "group"), Column("arm", "title"), Column("seeds", "seeds"),
        *(Column(f"{title} x 100", measure, _EXACT) for measure, title in (
            ("alpha", "alpha"), ("beta", "beta"), ("gamma", "gamma"), ("gap", "gamma - beta"))),
        Column("sigma", "sigma", number(2)), Column("rho", "rho", number(2)),
        Column("linear, minus plain", "linear", difference, minus="baseline"),
    ), arms=("plain", "selected on h", "the theory's own sigma and rho"), tuned=True),
    "study, purity": Table(("purity",), (
        Column("set", "group"), Column("trained", "title"),
        *(Column(f"at {part:.0%}", excess_at(part), _EXACT_GAIN) for part in PARTS),
    ), arms=("plain", "oracle", "selected on h"), tuned=True),
}  # fmt: skip


def gain(
    study: str, group: str, arm: str, measure: str = "knn20", beyond: str = "plain", of: str | None = None
) -> Callable[[], str]:
    """A number of a text: an arm minus another arm, which has the same group unless `of` names another one.

    An arm of a tuned study may be a method, which stands for its best candidate. An arm with one run is subtracted from
    all seeds.
    """

    def shown() -> str:
        lines = {line.place: line for line in plain_lines(study)}
        lines |= {line.place: line for line in reversed(tuned_lines(study))}
        values, others = lines[group, arm].values[measure], lines[group if of is None else of, beyond].values[measure]
        if len(others) == 1:
            others = dict.fromkeys(values, next(iter(others.values())))
        return in_text(paired(values, others))

    return shown


def in_text(differences: Sequence[float]) -> str:
    """Paired differences as a text shows them."""
    return _EXACT_GAIN(differences) or ""


def level(name: str, group: str, arm: str, measure: str, show: Show) -> Callable[[], str]:
    """A number of a text: the mean of a measure over the runs of an arm."""
    return lambda: show([*_line(name, group, arm).values[measure].values()]) or ""


def where(name: str, measure: str, show: Show, **settings: float) -> Callable[[], str]:
    """A number of a text: a measure of the run whose other measures have given values."""

    def shown() -> str:
        rows = (row["measures"] for row in runs(name))
        return show([row[measure] for row in rows if settings.items() <= row.items()]) or ""

    return shown


def of_graphs(group: str, arm: str) -> Callable[[], str]:
    """A number of a text: points of accuracy that an arm of the noisy graphs has beyond the untreated graph."""

    def shown() -> str:
        values = _line("noisy-graphs", group, arm).values
        mean, half = (next(iter(values[each].values())) for each in ("difference", "half_width"))
        return given_interval(sign="+", scale=100)([mean], [half]) or ""

    return shown


def _line(name: str, group: str, arm: str) -> Line:
    """The line of an arm; of runs without arms the first one of the group."""
    return next(line for line in plain_lines(name) if line.place[0] == group and arm in ("", line.place[1]))


def strength(plain: str) -> Callable[[], str]:
    """A number of a text: the change of 20-NN by the paper's treatment at a setting of an objective."""
    return lambda: in_text(treated(plain, "", "knn20"))


def ranked(quantity: str) -> Callable[[], str]:
    """A number of a text: a label-free quantity's rank correlation with 20-NN over encoders of images."""
    return lambda: correlations("label-free-images", "cifar10", quantity, "knn20")


# Numbers in the texts of pages, by name.
VALUES: dict[str, Callable[[], str]] = {
    "auto, cifar10": gain("selection", "cifar10, tau 0.2", "patches"),
    "auto, cifar10, linear": gain("selection", "cifar10, tau 0.2", "patches", "linear"),
    "auto, imagenette": gain("selection", "imagenette, tau 0.2", "patches"),
    "auto, tiny": gain("selection", "tiny-imagenet, tau 0.2", "patches"),
    "auto, different": level("selection", "cifar10, tau 0.2", "patches", "different", _PERCENT),
    "random, different": level("selection", "cifar10, tau 0.2", "random", "different", _PERCENT),
    "auto and best": gain("selection", "cifar10, tau 0.2", "patches", of="cifar10, tau 0.15"),
    "auto and shuffled": gain("selection", "cifar10, tau 0.2", "patches", beyond="shuffled"),
    "shuffled, cifar10": gain("selection", "cifar10, tau 0.2", "shuffled"),
    "random, cifar10": gain("selection", "cifar10, tau 0.2", "random"),
    "affinity, cifar10": gain("selection", "cifar10, tau 0.2", "affinity"),
    "guide, cifar10": gain("selection", "cifar10, tau 0.2", "guide"),
    "near pairs, cifar10": level("near-pairs", "CIFAR-10, tau 0.2, seed 0", "", "auroc/affinity", number(2)),
    "near pairs, digits": level("near-pairs", "digits", "", "auroc/affinity", number(2)),
    "cost, confident": level("benchmarks/selection", "", "", "affinity_over_untreated", number(2)),
    "plain, cifar10": level("selection", "cifar10, tau 0.2", "plain", "knn20", number(1)),
    "plain, cifar10, linear": level("selection", "cifar10, tau 0.2", "plain", "linear", number(1)),
    "exact, cifar10": level("exact-images", "cifar10", "one layer", "knn20", number(1)),
    "exact, cifar10, linear": level("exact-images", "cifar10", "one layer", "linear", number(1)),
    "adapt, banking77": gain("adapt", "banking77", "map", "ndcg10", "frozen"),
    "adapt, trec6": gain("adapt", "trec6", "map", "ndcg10", "frozen"),
    "adapt and train, banking77": gain("adapt", "banking77", "map, trained on", "ndcg10", "map"),
    "adapt and train, trec6": gain("adapt", "trec6", "map, trained on", "ndcg10", "map"),
    "exact, imagenette": level("exact-images", "imagenette96", "one layer", "knn20", number(1)),
    "plain, imagenette": level("selection", "imagenette, tau 0.2", "plain", "knn20", number(1)),
    "adapt, newsgroups20": gain("adapt", "newsgroups20", "map", "ndcg10", "frozen"),
    "adapt, newsgroups20, mrr10": gain("adapt", "newsgroups20", "map", "mrr10", "frozen"),
    "mask, banking77": gain("retrieval", "banking77", "guide", "ndcg10"),
    "mask and gist": gain("retrieval", "banking77", "guide", "ndcg10", "gist 0"),
    "mask oracle, banking77": gain("retrieval", "banking77", "oracle", "ndcg10"),
    "mask and difficult": gain("retrieval", "banking77", "guide and difficult", "ndcg10"),
    "mask and gist, tuned": gain("fine-tuning", "banking77", "guide", "ndcg10", "gist 0"),
    "tuned, banking77": gain("fine-tuning", "banking77", "plain", "ndcg10", "frozen"),
    "time, scan": where("benchmarks/scan", "pairsift_s", number(0), n=100_000),
    "cost, mask": level("benchmarks/retrieval", "", "", "ratio/ours", number(2)),
    "cost, gist": level("benchmarks/retrieval", "", "", "ratio/gist", number(2)),
    "detection, planted": level(
        "benchmarks/detection", "cifar10, pixel mixes, encoder none", "pairsift", "auroc", _PERCENT
    ),
    "detection, natural": level("benchmarks/detection", "cifar10, natural", "pairsift", "auroc", _PERCENT),
    "bridges, cifar10": level(
        "benchmarks/bridges", "CIFAR-10, tau 0.2, seed 0", "", "different_1000", number(0, scale=100)
    ),
    "bridges, by similarity": level(
        "benchmarks/bridges", "CIFAR-10, tau 0.2, seed 0", "", "different_1000_by_similarity", number(0, scale=100)
    ),
    "antonyms, frozen": level("semantic-negatives", "trec6", "frozen", f"{_KNOWN}/auroc", number(0)),
    "antonyms, trained": level("semantic-negatives", "trec6", "in batch", f"{_KNOWN}/auroc", number(0)),
    "antonyms, trec6": gain("semantic-negatives", "trec6", "in batch", "accuracy", "frozen"),
    "antonyms, banking77": gain("semantic-negatives", "banking77", "in batch", "accuracy", "frozen"),
    "time and noise": gain("temporal", "fsdd, spectral", "temporal", "digit", "augmentation"),
    "time and untrained": gain("temporal", "fsdd, spectral", "temporal", "digit", "untrained"),
    "band, simclr": gain("cifar10-objectives", "simclr", "combined"),
    "band, moco": gain("cifar10-objectives", "moco", "combined"),
    "band, spectral": gain("cifar10-objectives", "spectral", "combined"),
    "band, sentences": gain("sentences", "", "combined"),
    "drop, scan": gain("drop", "", "scan", beyond="nothing"),
    "drop, scan and random": gain("drop", "", "scan", beyond="random"),
    "drop, truth": gain("drop", "", "truth", beyond="nothing"),
    "strokes, best": gain("band", "pendigits", BEST),
    "strokes, early": gain("band", "pendigits", "band 0.05 to 0.22"),
    "strokes, all pairs": gain("band", "pendigits", "all pairs"),
    "strokes, on z": gain("selection-feature", "pendigits", "selected on z"),
    "strokes, rho": gain("rho-extremes", "pendigits", "rho 1e+09"),
    "strokes, oracle": gain("hard-negatives", "pendigits", "combined, oracle"),
    "fsdd, oracle": gain("hard-negatives", "fsdd", "combined, oracle"),
    "fsdd, hcl": gain("hard-negatives", "fsdd", "hard negatives (HCL)"),
    "gaussians, hcl": gain("hard-negatives", "gaussians", "hard negatives (HCL)"),
    "banking77, decoupled": gain("hard-negatives", "banking77", "decoupled"),
    "gaussians, own settings": gain("levels", "gaussians", "the theory's own sigma and rho", "linear"),
    "cifar10, best": gain("combined", "", BEST),
    "cifar10, combined": gain("combined", "", "combined"),
    "cifar10, combined and random": gain("combined", "", "combined", beyond="combined, random pairs"),
    "cifar10, removal": gain("combined", "", "removal, neutral"),
    "cifar10, all colder": gain("combined", "", "temperature, all pairs"),
    "tail, combined": gain("long-tail", "", "combined"),
    "moco, combined": gain("objectives", "moco", "combined"),
    "moco, paper": strength("moco, temperature 0.2, lr 0.06"),
    "mixed, plain": gain("mixing", "30% mixed", "plain", of="0% mixed"),
    "mixed, eigenvalue": gain("mixing", "30% mixed", "plain", "eigenvalue", of="0% mixed"),
    "subsets, prototypes": gain(
        "subsets", "", "20% of the images, nearest to prototypes", "linear", "random 20% of the images"
    ),
    "graphs, cost": of_graphs("gamma 0.42", "without"),
    "graphs, edit": of_graphs("gamma 0.42", "oracle temperature"),
    "graphs, band": of_graphs("gamma 0.42", "temperature"),
    "graphs, band control": of_graphs("gamma 0.19", "temperature"),
    "graphs, random": of_graphs("gamma 0.42", "random temperature"),
    "cifar10, rankme": ranked("rankme"),
    "cifar10, alignment": ranked("alignment"),
    "mixtures, order": over_mixtures,
}


def pages(root: Path = ROOT) -> list[Path]:
    """The README and the documentation."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def filled(page: str) -> str:
    """A page with new tables and numbers."""
    page = MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[4]}", page)
    return VALUE.sub(lambda found: f"{found[1]}{VALUES[found[2]]()}{found[4]}", page)


def main() -> None:
    """Write or check all pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--write", action="store_true")
    kind.add_argument("--check", action="store_true")
    options = parser.parse_args()
    stale = [page for page in pages() if filled(page.read_text()) != page.read_text()]
    if options.write:
        for page in stale:
            page.write_text(filled(page.read_text()))
    for page in stale:
        print(f"{page.relative_to(ROOT)}: {'tables written' if options.write else 'tables differ: --write makes them'}")
    sys.exit(bool(stale and options.check))


if __name__ == "__main__":
    main()
