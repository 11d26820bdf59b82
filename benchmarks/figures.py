"""Figures of the pages, from the result files: `python benchmarks/figures.py [NAME ...]` writes docs/figures/NAME.svg.

Drawn by plotly in headless Chromium (playwright, and a chromium on the path).
"""

from __future__ import annotations

import argparse
import json
import shutil
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from pairsift.studies.intervals import t_interval

ROOT = Path(__file__).parents[1]
MEASURES = {"linear": "linear probe", "knn20": "20-NN"}


def results(study: str) -> list[dict[str, Any]]:
    """Results of single runs of a study."""
    return [json.loads(file.read_text()) for file in sorted((ROOT / "studies/results" / study).glob("*.json"))]


def gains(runs: list[dict[str, Any]], arm: str, temperature: float, measure: str) -> tuple[float, float] | None:
    """Mean gain on plain training, paired by seed, and half its 95 % interval (nan for one seed); None without runs."""
    at = [each for each in runs if each["temperature"] == temperature]
    plain = {each["seed"]: each[measure] for each in at if each["arm"] == "plain"}
    gained = [each[measure] - plain[each["seed"]] for each in at if each["arm"] == arm and each["seed"] in plain]
    return t_interval(gained) if gained else None


FIGURES: dict[str, Callable[[], go.Figure]] = {}


def svg(figure: go.Figure) -> str:
    """The figure as Chromium draws it."""
    from playwright.sync_api import sync_playwright

    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=next(filter(None, found)), args=["--no-sandbox"])
        page = browser.new_page()
        page.set_content("<div id='figure'></div>")
        page.add_script_tag(content=get_plotlyjs())
        draw = "async figure => Plotly.toImage(await Plotly.newPlot('figure', figure), {format: 'svg'})"
        image: str = page.evaluate(draw, json.loads(figure.to_json()))
        browser.close()
    return urllib.parse.unquote(image.partition(",")[2])


def main() -> None:
    """Write the figures asked for, all unless some are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*FIGURES, []], default=list(FIGURES))
    for name in parser.parse_args().names:
        file = ROOT / "docs/figures" / f"{name}.svg"
        file.parent.mkdir(exist_ok=True)
        file.write_text(svg(FIGURES[name]()))
        print(file.relative_to(ROOT))


if __name__ == "__main__":
    main()
