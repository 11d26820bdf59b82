"""Draws the figures of the documentation from the result files.

python -m lab.figures --write         # docs/figures/NAME.svg, if the content has changed
python -m lab.figures --write NAME    # draw it again, for another look
python -m lab.figures --check         # fail where a figure differs from its result files
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lab.comparison import paired
from lab.drawing import Figure, Panel, Series, alike, curve, kept, save, shown
from lab.rows import ROOT
from lab.small_encoders import BEST, PARTS, excess_at
from lab.studies.chains import STATES, exact
from lab.tables import Line, plain_lines, runs, tuned_lines
from pairsift.evaluate import t_interval
from pairsift.theory import SimilarityGraph, bounds, within_class_share

ACCURACIES = {"linear": "linear probe", "knn20": "20-NN"}
SETS = {"pendigits": "pen strokes", "digits": "images of digits", "fsdd": "spoken digits",
        "gaussians": "mixtures of Gaussians", "banking77": "questions to a bank"}  # fmt: skip
# Arms of the study of vectors and of that of CIFAR-10 under one title; "" where a study has none.
TREATMENTS = {
    "plain, its best temperature": (BEST, BEST), "all pairs": ("all pairs", ""),
    "random pairs": ("random pairs, as many", "combined, random pairs"),
    "the paper's band": ("band 0.15 to 0.22", "combined"), "band from 0.05": ("band 0.05 to 0.22", ""),
    "labels say which (oracle)": ("oracle", "combined, oracle"),
}  # fmt: skip
_FEWEST = 3  # seeds of which an interval is drawn: that of two is wider than the figure
_COLLAPSE_BATCH = 256


def _by_place(study: str, tuned: bool = True) -> dict[tuple[str, str], Line]:
    return {line.place: line for line in reversed(tuned_lines(study) if tuned else plain_lines(study))}


def _gains(lines: Mapping[tuple[str, str], Line], place: tuple[str, str], measure: str) -> list[float]:
    """Differences of a line from its baseline, paired by seed."""
    line = lines[place]
    assert line.baseline is not None
    return paired(line.values[measure], lines[line.baseline].values[measure])


def treatments() -> Figure:
    """Gains of treatments and controls over plain training at the same temperature, for each set."""
    vectors, images = _by_place("band"), _by_place("combined")
    panels = {
        title: {row: (vectors, (group, arm)) for row, (arm, _) in TREATMENTS.items()} for group, title in SETS.items()
    }
    panels["CIFAR-10, 16 pixels"] = {row: (images, ("", arm)) for row, (_, arm) in TREATMENTS.items() if arm}
    return _forest(panels, list(TREATMENTS), "points beyond plain training, temperature 0.5")


def methods() -> Figure:
    """Gains of methods at their best over plain training at its best, for each set."""
    lines = _by_place("hard-negatives")
    rows = [
        line.place[1]
        for line in tuned_lines("hard-negatives")
        if line.place[0] == "pendigits" and line.place[1] != "plain"
    ]
    panels = {title: {row: (lines, (group, row)) for row in rows} for group, title in SETS.items()}
    return _forest(panels, rows, "points beyond plain training at its best temperature")


def _forest(
    panels: Mapping[str, Mapping[str, tuple[Mapping[tuple[str, str], Line], tuple[str, str]]]], rows: list[str], x: str
) -> Figure:
    """Mean gains with their 95 % intervals, a panel for each set. Points are hollow if the interval holds 0."""
    found = []
    for title, own in panels.items():
        series = []
        for i, (measure, name) in enumerate(ACCURACIES.items()):
            both = {row: t_interval(_gains(*place, measure)) for row, place in own.items()}
            series.append(
                Series(
                    name, [mean for mean, _ in both.values()], [rows.index(row) + 0.15 - 0.3 * i for row in both],
                    [half for _, half in both.values()], look=i + 1, hollow=True,
                )
            )  # fmt: skip
        found.append(Panel(series, title, rows=rows, zero=True))
    return Figure(found, across=3, height=0.8 + 0.28 * len(rows), share_y=True, x=x)


def mixing() -> Figure:
    """Accuracy on CIFAR-10 by the share of mixed images, and the theory's eigenvalue of the measured levels."""
    lines = tuned_lines("mixing")
    shares = {group: float(group.split("%")[0]) for group in dict.fromkeys(line.place[0] for line in lines)}
    titles = {"linear": "linear probe %", "knn20": "20-NN %", "eigenvalue": "eigenvalue x 10^5, as printed"}
    panels = []
    for measure, title in titles.items():
        series = []
        for i, arm in enumerate(("plain", "without the mixes", "combined", "combined, random pairs")):
            own = {shares[line.place[0]]: [*line.values[measure].values()] for line in lines if line.place[1] == arm}
            series.append(_apart(curve(arm, own, i), 0.012 * (max(own) - min(own)) * (i - 1)))
        panels.append(Panel(series, title, "% of images mixed", ticks=list(shares.values())))
    return Figure(panels, across=3, height=3.2)


def _apart(series: Series, step: float) -> Series:
    return replace(series, x=[each + step for each in series.x])


def mixtures() -> Figure:
    """Errors of untreated training against the exact bound, and changes by treatments, for each mixture."""
    lines = _by_place("gaussians")
    groups = list(dict.fromkeys(line.place[0] for line in tuned_lines("gaussians")))
    plain = [lines[group, "plain"].values for group in groups]
    errors = {next(iter(values["bound"].values())): [*values["error"].values()] for values in plain}
    series = []
    for i, title in enumerate(("margin", "temperature", "difficult examples dropped")):
        own = {float(place): _gains(lines, (group, title), "error") for place, group in enumerate(groups)}
        series.append(_apart(curve(title, own, i + 1, line=False), 0.18 * (i - 1)))
    return Figure(
        [
            Panel([curve("", errors, line=False)], "plain training: error % against the exact bound", "exact bound"),
            Panel(series, "error minus plain, points", columns=[g.replace(", ", "\n") for g in groups], zero=True),
        ],
        across=2, height=3.4,
    )  # fmt: skip


def purity() -> Figure:
    """Purity of the band minus that of all pairs, over training."""
    lines = _by_place("purity")
    titles = {"plain": "plain", "selected on h": "the paper's band", "oracle": "labels say which (oracle)"}
    panels = []
    for group in dict.fromkeys(line.place[0] for line in tuned_lines("purity")):
        series = [
            _apart(
                curve(name, {100 * part: [*lines[group, arm].values[excess_at(part)].values()] for part in PARTS}, i),
                1.2 * (i - 1),
            )
            for i, (arm, name) in enumerate(titles.items())
        ]
        panels.append(Panel(series, SETS[group], "% of training", "points beyond all pairs"))
    return Figure(panels, across=2, height=3.2)


def semantic() -> Figure:
    """Similarity of texts to their two versions, before and after training."""
    titles = {"frozen": "frozen", "plain": "no antonyms", "printed": "as printed", "in batch": "in batch",
              "in batch, margin": "margin 0.1", "three parts": "three parts"}  # fmt: skip
    lines = _by_place("semantic-negatives", tuned=False)
    places = [
        (group, arm) for group in ("trec6", "newsgroups20", "banking77") for arm in titles if (group, arm) in lines
    ]
    series = [
        curve(
            f"{version} version",
            {i: [*lines[at].values[f"pairs of training/cos_{version}"].values()] for i, at in enumerate(places)},
            look, line=False,
        )
        for version, look in (("synonym", 5), ("antonym", 1))
    ]  # fmt: skip
    columns = [f"{titles[arm]}\n{group}".replace(" ", "\n", 1) for group, arm in places]
    return Figure([Panel(series, y="cosine of a text and its version", columns=columns)])


def tolerance() -> Figure:
    """Gain over plain training against the quality of the estimate of same-class pairs."""
    lines = _by_place("selection-quality", tuned=False)
    (judged,) = (row["measures"] for row in runs("near-pairs") if row["group"] == "CIFAR-10, tau 0.2, seed 0")
    known = {name: judged[f"auroc_at_equal_cosine/{name}"] for name in ("affinity", "patches", "guide")}
    ignorant = {"band": "paper's band", "shuffled": "shuffled", "hard-negatives": "HCL",
                "debiased": "debiased", "cancellation": "cancellation"}  # fmt: skip
    places = {f"judged-{quality:g}": quality for quality in (0.5, 0.6, 0.7, 0.8, 0.9, 1)}
    groups = {
        "estimate of known quality": (5, True, places, {}),
        "no estimate": (0, False, dict.fromkeys(ignorant, 0.5), ignorant),
        "pairsift": (1, False, known, dict(zip(known, known, strict=True))),
    }
    panels = []
    for measure, title in ACCURACIES.items():
        for tau in ("tau 0.5", "tau 0.2"):
            series = [
                _against_plain(name, lines, tau, measure, at, look, line, texts)
                for name, (look, line, at, texts) in groups.items()
            ]
            control = paired(lines[tau, "random"].values[measure], lines[tau, "plain"].values[measure])
            panels.append(
                Panel(
                    series, f"{title}, {tau}", "AUROC of same class at equal similarity", "points beyond plain",
                    levels={"random pairs": float(np.mean(control))}, limits=((0.47, 1.03), None),
                )
            )  # fmt: skip
    return Figure(panels, across=2, height=3.8)


def _against_plain(
    name: str, lines: Mapping[tuple[str, str], Line], group: str, measure: str, at: Mapping[str, float], look: int,
    line: bool, texts: Mapping[str, str],
) -> Series:  # fmt: skip
    """Gains of arms over plain training, with the quality of each arm."""
    plain = lines[group, "plain"].values[measure]
    found = {arm: paired(lines[group, arm].values[measure], plain) for arm in at if (group, arm) in lines}
    both = {arm: t_interval(gains) for arm, gains in found.items() if gains}
    halves = [half if len(found[arm]) >= _FEWEST else math.nan for arm, (_, half) in both.items()]
    return Series(
        name, [at[arm] for arm in both], [mean for mean, _ in both.values()], halves, look, line,
        labels=[texts.get(arm, "") for arm in both],
    )  # fmt: skip


def collapse() -> Figure:
    """Share of variance within classes against the weight of the self-supervised part, measured and by theory."""
    panels = []
    for name, classes in (("pendigits", 5), ("trec6", 6)):
        lines = [line for line in plain_lines("collapse") if line.place[0] == name]
        series = []
        for tau, look in ((0.1, 5), (0.5, 1)):
            alphas = [i / 200 for i in range(201)]
            said = [100 * within_class_share(alpha, classes, _COLLAPSE_BATCH / classes, tau) for alpha in alphas]
            series.append(Series(f"theory, tau {tau}", alphas, said, look=look, line=True, points=False))
            own = {
                line.keys["alpha"]: [100 * value for value in line.values["within_class"].values()]
                for line in lines
                if line.keys["temperature"] == tau
            }
            series.append(curve(f"measured, tau {tau}", own, look, line=False))
        title = "alpha, weight of the self-supervised part"
        panels.append(Panel(series, name, title, "% of variance within classes"))
    return Figure(panels, across=2, height=3.4, share_y=True)


def chains() -> Figure:
    """Squared error of a probe against the number of bridging states, measured and exact."""
    said = [exact(bridging) for bridging in range(STATES + 1)]
    series = []
    for name, title, look in (("exact_squared", "exact", 0), ("half_bound", "half the bound", 2)):
        values = [math.nan if value is None else value for value in (row[name] for row in said)]
        series.append(Series(title, list(range(STATES + 1)), values, look=look, line=True, points=False))
    for arm, look in (("temporal", 5), ("both", 3), ("augmentation", 1)):
        own = {
            line.keys["bridging"]: [*line.values["squared"].values()]
            for line in plain_lines("chains")
            if line.place[1] == arm
        }
        series.append(curve(arm, own, look, line=False))
    panel = Panel(series, "", "bridging states of 16", "squared error of the probe x 100", limits=(None, (0, 100)))
    return Figure([panel])


def loss() -> Figure:
    """Time and memory of a loss, forward and backward, against views."""
    rows = [row["measures"] for row in runs("benchmarks/loss")]
    contenders = {
        "untreated": "ours untreated", "combined": "ours combined", "lightly": "lightly",
        "dense": "dense cross_entropy", "pytorch_metric_learning": "pytorch-metric-learning",
    }  # fmt: skip
    panels = []
    for unit, title in (("ms", "ms"), ("peak_mb", "MB beyond the inputs")):
        series = []
        for i, (name, words) in enumerate(contenders.items()):
            own = {row["views"]: row[f"{name}_{unit}"] for row in rows if row.get(f"{name}_{unit}") is not None}
            series.append(Series(words, list(own), list(own.values()), look=i, line=True))
        panels.append(Panel(series, "", "views", title, log="xy", ticks=[row["views"] for row in rows]))
    return Figure(panels, across=2, height=3.6)


def adapted() -> Figure:
    """nDCG@10 and 20-NN of frozen features, of the map and of the network, set by set."""
    lines = {line.place: line for line in plain_lines("adapt")}
    sets, arms = (list(dict.fromkeys(place[i] for place in lines)) for i in (0, 1))
    panels = []
    for measure, title in (("ndcg10", "nDCG@10 %"), ("knn20", "20-NN %")):
        series = []
        for look, arm in enumerate(arms):
            found = {i: lines[name, arm] for i, name in enumerate(sets) if (name, arm) in lines}
            own = {float(i): [*line.values[measure].values()] for i, line in found.items()}
            series.append(_apart(curve(arm, own, look, line=False), 0.15 * (look - 1)))
        panels.append(Panel(series, title, columns=sets))
    return Figure(panels, across=2, height=3.2)


def exact_images() -> Figure:
    """20-NN of solved encoders of images with the map and without it, and their linear probe."""
    lines = plain_lines("exact-images")
    rows = [f"{line.place[0]}, {line.place[1]}" for line in lines]
    titles = {"patches": "20-NN, patches alone", "knn20": "20-NN", "linear": "linear probe"}
    series = [
        Series(title, [next(iter(line.values[name].values())) for line in lines], list(range(len(lines))), look=look)
        for look, (name, title) in enumerate(titles.items())
    ]
    return Figure([Panel(series, rows=rows, x="% of test images")], height=0.8 + 0.4 * len(rows))


# Which treatments lower the bound of the untreated graph, from none to all.
_REGIONS = ("none", "margin", "margin, removal", "margin, temperature", "all three", "removal without margin")


def theory_phases() -> Figure:
    """Treatments that lower the bound, over gamma - beta and n_d / n, for the levels of Table 10."""
    graph = SimilarityGraph(n=10_000, r=9, n_d=800, alpha=0.472, beta=0.191, gamma=0.209)
    gaps = np.linspace(0, 0.995 * (graph.alpha - graph.beta), 60).tolist()
    counts = np.unique(np.linspace(0, graph.n - 1, 60).astype(int)).tolist()
    regions = [
        [_region(replace(graph, n_d=count, gamma=graph.beta + gap), 0.05, graph.n_classes) for gap in gaps]
        for count in counts
    ]
    here = Series("this graph", [graph.gamma - graph.beta], [graph.n_d / graph.n], look=4)
    areas = (gaps, [count / graph.n for count in counts], regions, _REGIONS)
    x, y = "gamma - beta (cosine similarity)", "share of difficult examples, n_d / n"
    return Figure([Panel([here], "lower the bound", x, y, areas=areas)])


def _region(graph: SimilarityGraph, delta: float, k: int) -> int:
    untreated = bounds.exact(graph, delta, k)

    def lowers(value: float) -> bool:
        return value < untreated and not math.isclose(value, untreated, rel_tol=1e-12)

    removal = (
        graph.n_d < graph.n and k < len(graph.remove_difficult()) and lowers(float(bounds.removed(graph, delta, k)))
    )
    if not lowers(float(bounds.margin(graph, delta, k))):
        return 5 if removal else 0
    return 1 + removal + 2 * (graph.beta > 0 and lowers(float(bounds.temperature(graph, delta, k))))


FIGURES: dict[str, Callable[[], Figure]] = {
    "semantic-negatives": semantic, "tolerance": tolerance, "class-collapse": collapse, "chains": chains, "loss": loss,
    "theory-phases": theory_phases, "study-treatments": treatments, "study-methods": methods, "study-mixing": mixing,
    "study-mixtures": mixtures, "study-purity": purity, "adapted": adapted, "exact-images": exact_images,
}  # fmt: skip


def file_of(name: str) -> Path:
    """The file of a figure."""
    return ROOT / "docs/figures" / f"{name}.svg"


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw or check figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--write", action="store_true")
    kind.add_argument("--check", action="store_true")
    parser.add_argument("names", nargs="*", choices=[*FIGURES, []], default=[])
    options = parser.parse_args(arguments)
    made = {file_of(name): FIGURES[name]() for name in options.names or FIGURES}
    anew = options.write and options.names
    stale = {file: figure for file, figure in made.items() if anew or not alike(kept(file), shown(figure))}
    for file, figure in stale.items():
        if options.write:
            save(figure, file)
        print(f"{file.relative_to(ROOT)}: {'written' if options.write else 'differs: --write draws it'}")
    sys.exit(bool(stale and options.check))


if __name__ == "__main__":
    main()
