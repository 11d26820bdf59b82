"""The demo: plain SimCLR against the combined treatment on scikit-learn's digits, a fifth of them mixed."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from pairsift._base.extras import versions
from pairsift._base.files import write_json
from pairsift.data import ArrayFeatures, load_images
from pairsift.evaluate import detection, knn, linear_probe, t_interval
from pairsift.scanning import scan
from pairsift.train import TrainConfig, TrainResult, embed, pretrain

COLUMNS = {
    "linear": "linear probe %",
    "knn": "20-NN %",
    "seconds": "seconds",
    "different": "different-class pairs in band %",
    "auroc": "mixes found, AUROC %",
}

# Digits have no colour and a mirrored digit is another shape: crops and light only.
_SETTINGS = dict(
    data="digits:train", mix=0.2, image_size=16, epochs=30, batch_size=256, lr=0.5, crop_min=0.4, flip=0.0, hue=0.0,
    saturation=0.0, grey=0.0, temperature=0.5, pos_high=0.15, pos_low=0.22, margin=0.03, temperature_scale=0.6,
)  # fmt: skip


def run_demo(
    out: Path, seeds: int = 3, epochs: int | None = None, say: Callable[[str], None] = print, **settings: Any
) -> dict[str, Any]:
    """Train both losses on the same seeds, evaluate and scan both, and write ``demo.json`` beside the run directories.

    Features are probed on the clean training digits against the 500 test digits; the encoders saw the mixed ones.

    Args:
        out: folder of the run directories; earlier demo runs in it are replaced.
        seeds: number of seeds, 0, 1, ...
        epochs: epochs of each run; None takes 30.
        say: told in words what is done.
        settings: fields of `TrainConfig` to change.

    Returns:
        ``{"rows": [one per run], "differences": {measure: [mean, half-width of its 95 % interval or nan]}}``
        and the ``"versions"``, as ``demo.json`` holds it.
    """
    train, test = load_images("digits:train", image_size=16), load_images("digits:test", image_size=16)
    train_y, test_y = np.asarray(train.labels), np.asarray(test.labels)
    rows: list[dict[str, Any]] = []
    for seed in range(seeds):
        for treatment in ("none", "combined"):
            run_dir = out / f"{treatment}-seed{seed}"
            values = (
                _SETTINGS | {"treatment": treatment, "seed": seed, "run_dir": run_dir, "overwrite": True} | settings
            )
            if epochs is not None:
                values["epochs"] = epochs
            say(f"seed {seed}, treatment {treatment} -> {run_dir}")
            start = time.perf_counter()
            result = pretrain(TrainConfig.build(values))
            seconds = time.perf_counter() - start
            train_x, test_x = embed(result.encoder, train), embed(result.encoder, test)
            rows.append({
                "treatment": treatment,
                "seed": seed,
                "linear": 100 * linear_probe(train_x, train_y, test_x, test_y).accuracy,
                "knn": 100 * knn(train_x, train_y, test_x, test_y, k=20),
                "seconds": seconds,
                "different": 100 * result.metrics[-1]["different"],
                "different_base": 100 * result.metrics[-1]["different_base"],
                "auroc": 100 * _scan(result, run_dir),
            })  # fmt: skip
    differences = {name: paired_difference(rows, name) for name in COLUMNS}
    report = {"versions": versions("torch", "numpy"), "rows": rows, "differences": differences}
    write_json(out / "demo.json", report)
    return report


def _scan(result: TrainResult, run_dir: Path) -> float:
    """Scan the features of the training images, write the scan and its page; how well it finds the mixed ones."""
    features = ArrayFeatures(embed(result.encoder, result.images), "features of the training images")
    found = scan(features, out=run_dir / "scan")
    found.report(run_dir / "scan" / "report.html", result.images.images, result.images.labels)
    return detection(found.scores, np.asarray(result.images.mixed)).auroc


def paired_difference(rows: list[dict[str, Any]], name: str) -> tuple[float, float]:
    """Combined minus plain, paired by seed: mean and half-width of its 95 % t interval (nan for one seed)."""
    plain, treated = ([row[name] for row in rows if row["treatment"] == t] for t in ("none", "combined"))
    return t_interval(np.subtract(treated, plain))


def table(report: dict[str, Any]) -> Table:
    """The report as a table: means over seeds, and the paired difference with its interval."""
    rows = report["rows"]
    out = Table(title="digits, 20 % mixed: means over seeds, last row paired by seed with its 95 % interval")
    out.add_column("")
    for title in COLUMNS.values():
        out.add_column(title, justify="right")
    for treatment, title in (("none", "plain SimCLR"), ("combined", "combined treatment")):
        chosen = [row for row in rows if row["treatment"] == treatment]
        out.add_row(title, *(f"{np.mean([row[name] for row in chosen]):.2f}" for name in COLUMNS))
    out.add_section()
    cells = (
        f"{mean:+.2f}" if np.isnan(half) else f"{mean:+.2f} ± {half:.2f}"
        for mean, half in report["differences"].values()
    )
    out.add_row("difference", *cells)
    return out


def verdict(report: dict[str, Any]) -> str:
    """What the table shows, in words, whichever way it went."""
    lines = []
    for name in ("linear", "knn"):
        mean, half = report["differences"][name]
        if np.isnan(half):
            lines.append(f"{COLUMNS[name]}: {mean:+.2f} from one seed says nothing about seed noise")
        elif abs(mean) <= half:
            lines.append(f"{COLUMNS[name]}: no difference beyond seed noise ({mean:+.2f} ± {half:.2f})")
        else:
            lines.append(
                f"{COLUMNS[name]}: the treatment {'gains' if mean > 0 else 'loses'} {abs(mean):.2f} ± {half:.2f}"
            )
    found = [np.mean([row["auroc"] for row in report["rows"] if row["treatment"] == t]) for t in ("none", "combined")]
    lines.append(
        f"A scan of the features, without labels, finds the mixed digits with an AUROC of {found[0] / 100:.3f} (plain) "
        f"and {found[1] / 100:.3f} (combined); 0.5 is chance."
    )
    base = np.mean([row["different_base"] for row in report["rows"]])
    share = np.mean([row["different"] for row in report["rows"]])
    lines.append(
        f"Of the pairs in the band {share:.1f} % are of different classes, of all pairs {base:.1f} %: "
        + ("the band finds them better than chance." if share > base else "the band finds them no better than chance.")
    )
    return "\n".join(lines)
