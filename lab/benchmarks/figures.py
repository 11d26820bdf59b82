"""Figures of the pages, from the result files and the theory.

    python -m lab.benchmarks.figures --write         # docs/figures/NAME.svg, where what they show has changed
    python -m lab.benchmarks.figures --write NAME    # anew, when its look has changed
    python -m lab.benchmarks.figures --check         # fail where a figure differs from its result files

They are drawn by plotly in headless Chromium (playwright, and a chromium on the path). Every file holds, under
`<metadata>`, the numbers that it shows: pixels differ from one Chromium to the next, these do not.
"""

from __future__ import annotations

import argparse
import html
import json
import math
import re
import shutil
import sys
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from lab.benchmarks._study_figures import STUDY_FIGURES
from lab.chains import STATES, exact
from lab.collapse import BATCH
from pairsift.evaluate import t_interval
from pairsift.theory import SimilarityGraph, within_class_share
from pairsift.theory.page import phases

ROOT = Path(__file__).parents[2]
_FEWEST = 3  # seeds of which an interval is drawn: that of two is wider than the figure
MEASURES = {"linear": "linear probe", "knn20": "20-NN"}


def results(study: str) -> list[dict[str, Any]]:
    """Results of single runs of a study."""
    return [json.loads(file.read_text()) for file in sorted((ROOT / "lab/results" / study).glob("*.json"))]


def gains(runs: list[dict[str, Any]], arm: str, temperature: float, measure: str) -> tuple[float, float] | None:
    """Mean gain on plain training, paired by seed, and half its 95 % interval (nan for few seeds); None without any."""
    at = [each for each in runs if each["temperature"] == temperature]
    plain = {each["seed"]: each[measure] for each in at if each["arm"] == "plain"}
    gained = [each[measure] - plain[each["seed"]] for each in at if each["arm"] == arm and each["seed"] in plain]
    if not gained:
        return None
    mean, half = t_interval(gained)
    return mean, half if len(gained) >= _FEWEST else math.nan


def semantic() -> go.Figure:
    """How near texts are to their two versions, before and after training."""
    titles = {"frozen": "frozen", "plain": "no antonyms", "printed": "as printed", "in batch": "in batch",
              "in batch, margin": "margin 0.1", "three parts": "three parts"}  # fmt: skip
    runs = results("semantic")
    figure = go.Figure()
    for version, colour in (("synonym", "#1b7f79"), ("antonym", "#c2452d")):
        for at, name in enumerate(sorted({each["set"] for each in runs}, reverse=True)):
            groups = {arm: [each for each in runs if (each["set"], each["arm"]) == (name, arm)] for arm in titles}
            told = {titles[arm]: found for arm, found in groups.items() if found}
            cosines = [[run["pairs of training"][f"cos_{version}"] for run in found] for found in told.values()]
            figure.add_scatter(
                x=[[name] * len(told), list(told)], y=[sum(each) / len(each) for each in cosines], mode="markers",
                marker={"color": colour, "size": 10}, name=f"{version} version", showlegend=at == 0,
                error_y={"array": [0 if len(each) < 2 else t_interval(each)[1] for each in cosines]},
            )  # fmt: skip
    return figure.update_layout(
        width=860, height=380, template="plotly_white", margin={"l": 60, "r": 10, "t": 30, "b": 90},
        yaxis_title="cosine of a text and its version", legend={"orientation": "h", "y": 1.12},
    )  # fmt: skip


def tolerance() -> go.Figure:
    """Gain on plain training against how well class-mates are told from others at equal similarity, by temperature."""
    runs = results("when")
    judged = json.loads((ROOT / "lab/results/classmates.json").read_text())["sets"]["CIFAR-10, tau 0.2, seed 0"]
    known = {name: judged["auroc_at_equal_cosine"][name] for name in ("affinity", "patches", "guide")}
    ignorant = {"band": "paper's band", "shuffled": "shuffled", "hard-negatives": "HCL",
                "debiased": "debiased", "cancellation": "cancellation"}  # fmt: skip
    places = {f"judged-{quality:g}": quality for quality in (0.5, 0.6, 0.7, 0.8, 0.9, 1)}
    temperatures = sorted({each["temperature"] for each in runs}, reverse=True)
    titles = [f"{title}, tau {tau:g}" for title in MEASURES.values() for tau in temperatures]
    figure = make_subplots(2, len(temperatures), subplot_titles=titles, shared_xaxes=True, vertical_spacing=0.12)
    groups = {
        "estimate of known quality": ("#1b7f79", "lines+markers", places, dict.fromkeys(places, "")),
        "no estimate": ("#8a8a8a", "markers", dict.fromkeys(ignorant, 0.5), ignorant),
        "pairsift": ("#c2452d", "markers", known, dict(zip(known, known, strict=True))),
    }
    for row, measure in enumerate(MEASURES, 1):
        for column, tau in enumerate(temperatures, 1):
            for name, (colour, mode, at, texts) in groups.items():
                found = {arm: gains(runs, arm, tau, measure) for arm in at}
                told = {arm: gain for arm, gain in found.items() if gain is not None}
                figure.add_scatter(
                    x=[at[arm] for arm in told], y=[gain for gain, _ in told.values()], mode=mode + "+text", name=name,
                    error_y={"array": [0 if math.isnan(half) else half for _, half in told.values()], "thickness": 0.6},
                    text=[texts[arm] for arm in told], textposition="middle right", marker={"color": colour, "size": 8},
                    showlegend=row == column == 1, row=row, col=column,
                )  # fmt: skip
            control = gains(runs, "random", tau, measure)
            if control is not None:
                figure.add_hline(
                    control[0], line={"dash": "dash", "color": "#444"}, row=row, col=column,
                    annotation={"text": "random pairs", "font": {"size": 11}}, annotation_position="bottom right",
                )  # fmt: skip
    figure.update_xaxes(range=[0.47, 1.03]).update_yaxes(title_text="points beyond plain", col=1)
    figure.update_xaxes(title_text="AUROC of same class at equal similarity", row=2)
    return figure.update_layout(
        width=430 * len(temperatures) + 60, height=900, template="plotly_white",
        margin={"l": 60, "r": 10, "t": 60, "b": 50}, legend={"orientation": "h", "y": 1.1},
    )  # fmt: skip


def collapse() -> go.Figure:
    """Share of variance within classes against the weight of the self-supervised part, beside theory's."""
    names = [name for name in ("pendigits", "trec6") if (ROOT / f"lab/results/collapse-{name}.json").exists()]
    figure = make_subplots(1, len(names), subplot_titles=names, shared_yaxes=True)
    for column, name in enumerate(names, 1):
        record = json.loads((ROOT / f"lab/results/collapse-{name}.json").read_text())
        alphas = [i / 200 for i in range(201)]
        for tau, colour in ((0.1, "#1b7f79"), (0.5, "#c2452d")):
            rows = [row for row in record["summary"] if row["temperature"] == tau]
            per_class = BATCH / record["classes"]
            said = [100 * within_class_share(alpha, record["classes"], per_class, tau) for alpha in alphas]
            shown = {"legendgroup": str(tau), "showlegend": column == 1, "row": 1, "col": column}
            figure.add_scatter(
                x=alphas, y=said, mode="lines", line={"color": colour}, name=f"theory, tau {tau}", **shown
            )
            figure.add_scatter(
                x=[row["alpha"] for row in rows], y=[row["within_class"]["mean"] for row in rows], mode="markers",
                error_y={"array": [row["within_class"]["half_width"] for row in rows]},
                marker={"color": colour, "size": 8}, name=f"measured, tau {tau}", **shown,
            )  # fmt: skip
    figure.update_xaxes(title_text="alpha, weight of the self-supervised part")
    figure.update_yaxes(title_text="% of variance within classes", col=1)
    return figure.update_layout(
        width=420 * len(names) + 60, height=380, template="plotly_white", margin={"l": 60, "r": 10, "t": 60, "b": 50},
        legend={"orientation": "h", "y": 1.22},
    )  # fmt: skip


def chains() -> go.Figure:
    """Squared error of a probe against the number of bridging states, beside the population's."""
    rows = json.loads((ROOT / "lab/results/chains.json").read_text())["summary"]
    said = [exact(bridging) for bridging in range(STATES + 1)]
    figure = go.Figure()
    for name, title, dash in (("exact_squared", "exact", "solid"), ("half_bound", "half the bound", "dot")):
        figure.add_scatter(
            y=[row[name] for row in said], mode="lines", name=title, line={"color": "#5a5a5a", "dash": dash}
        )
    for arm, colour in (("temporal", "#1b7f79"), ("both", "#7a5195"), ("augmentation", "#c2452d")):
        runs = [row for row in rows if row["arm"] == arm]
        figure.add_scatter(
            x=[row["bridging"] for row in runs], y=[row["squared"]["mean"] for row in runs], mode="markers", name=arm,
            error_y={"array": [row["squared"]["half_width"] for row in runs]}, marker={"color": colour, "size": 9},
        )  # fmt: skip
    figure.update_xaxes(title_text="bridging states of 16")
    figure.update_yaxes(title_text="squared error of the probe x 100", range=[0, 100])
    return figure.update_layout(
        width=640, height=380, template="plotly_white", margin={"l": 60, "r": 10, "t": 40, "b": 50},
        legend={"orientation": "h", "y": 1.15},
    )  # fmt: skip


def loss() -> go.Figure:
    """Time and memory of a loss, forward and backward, against views."""
    lines = (ROOT / "lab/benchmarks/results/loss.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if "views" in row]
    contenders = {
        "untreated": ("ours untreated", "#1b7f79", "dot"), "combined": ("ours combined", "#1b7f79", "solid"),
        "lightly": ("lightly", "#c2452d", "dash"), "dense": ("dense cross_entropy", "#8a8a8a", "dashdot"),
        "pytorch_metric_learning": ("pytorch-metric-learning", "#5b4b8a", "solid"),
    }  # fmt: skip
    figure = make_subplots(1, 2, horizontal_spacing=0.12)
    for column, unit in enumerate(("ms", "peak_mb"), 1):
        for name, (title, colour, dash) in contenders.items():
            told = {row["views"]: row[f"{name}_{unit}"] for row in rows if row.get(f"{name}_{unit}") is not None}
            figure.add_scatter(
                x=list(told), y=list(told.values()), mode="lines+markers", name=title, legendgroup=name,
                showlegend=column == 1, line={"color": colour, "dash": dash}, row=1, col=column,
            )  # fmt: skip
    sizes = [row["views"] for row in rows]
    figure.update_xaxes(type="log", title_text="views", tickvals=sizes, ticktext=[f"{size:,}" for size in sizes])
    figure.update_yaxes(type="log", dtick=1, title_text="ms", col=1).update_yaxes(
        title_text="MB beyond the inputs", col=2
    )
    return figure.update_layout(
        width=900, height=400, template="plotly_white", margin={"l": 60, "r": 10, "t": 60, "b": 50},
        legend={"orientation": "h", "y": 1.18},
    )  # fmt: skip


def theory_phases() -> go.Figure:
    """Which treatments lower the bound, for the levels of Table 10: the figure of `pairsift theory --plot`."""
    graph = SimilarityGraph(n=10_000, r=9, n_d=800, alpha=0.472, beta=0.191, gamma=0.209)
    return phases(graph, delta=0.05, k=graph.n_classes).update_layout(
        width=860, height=420, margin={"l": 60, "r": 10, "t": 20, "b": 50}
    )


FIGURES: dict[str, Callable[[], go.Figure]] = {
    "semantic-negatives": semantic, "tolerance": tolerance, "class-collapse": collapse, "chains": chains, "loss": loss,
    "theory-phases": theory_phases, **STUDY_FIGURES,
}  # fmt: skip


def file_of(name: str) -> Path:
    """Where a figure is kept."""
    return ROOT / "docs/figures" / f"{name}.svg"


# What of a trace is data; the rest is its look.
_SHOWN = ("name", "text", "x", "y", "z", "error_x", "error_y")


def shown(figure: go.Figure) -> list[dict[str, Any]]:
    """What a figure shows: of every trace its name, texts and numbers, as JSON holds them."""
    return [_plain({key: trace[key] for key in _SHOWN if key in trace}) for trace in figure.to_dict()["data"]]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if key not in ("color", "thickness", "width")}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(each) for each in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def kept(file: Path) -> Any:
    """What a drawn figure says that it shows; None without a file, or one that does not say."""
    found = re.search("<metadata>(.*?)</metadata>", file.read_text(), re.DOTALL) if file.exists() else None
    return None if found is None else json.loads(html.unescape(found[1]))


def alike(a: Any, b: Any) -> bool:
    """Whether two figures show the same, but for the last of six digits, which processors may round apart."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    numbers = all(isinstance(each, (int, float)) for each in (a, b))
    return math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-9) if numbers else a == b


def svg(figure: go.Figure) -> str:
    """The figure as Chromium draws it, and what it shows."""
    from playwright.sync_api import sync_playwright

    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=next(filter(None, found), None), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content("<div id='figure'></div>")
        page.add_script_tag(content=get_plotlyjs())
        draw = "async figure => Plotly.toImage(await Plotly.newPlot('figure', figure), {format: 'svg'})"
        image: str = page.evaluate(draw, json.loads(figure.to_json()))
        browser.close()
    drawn = urllib.parse.unquote(image.partition(",")[2])
    data = html.escape(json.dumps(shown(figure), separators=(",", ":")), quote=False)
    return drawn.removesuffix("</svg>") + f"<metadata>{data}</metadata></svg>"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--write", action="store_true")
    kind.add_argument("--check", action="store_true")
    parser.add_argument("names", nargs="*", choices=[*FIGURES, []], default=[])
    options = parser.parse_args()
    made = {file_of(name): FIGURES[name]() for name in options.names or FIGURES}
    anew = options.write and options.names
    stale = {file: figure for file, figure in made.items() if anew or not alike(kept(file), shown(figure))}
    for file, figure in stale.items():
        if options.write:
            file.write_text(svg(figure))
        print(f"{file.relative_to(ROOT)}: {'written' if options.write else 'differs: --write draws it'}")
    sys.exit(bool(stale and options.check))


if __name__ == "__main__":
    main()
