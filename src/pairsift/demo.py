"""The demo: plain SimCLR, treated pairs and the exact solution on scikit-learn's digits, with a page."""

from __future__ import annotations

import base64
import io
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from pairsift._base.extras import versions
from pairsift._base.files import write_json
from pairsift.data import ArrayFeatures, ImageSet, load_images
from pairsift.evaluate import detection, knn, linear_probe, t_interval
from pairsift.report.drawing import Axis, Drawing, Mark, points, polyline
from pairsift.report.page import page_template, write_page
from pairsift.scanning import Scan, scan
from pairsift.train import Run, TrainConfig, embed, pretrain, training_images

# Digits have no colour, and a mirrored digit is another shape: crops and light only.
SETTINGS: dict[str, Any] = dict(
    data="digits:train", mix=0.2, image_size=16, epochs=5, batch_size=256, lr=0.5, temperature=0.2,
    crop_min=0.4, flip=0.0, hue=0.0, saturation=0.0, grey=0.0,
)  # fmt: skip
# The names of the compared runs, what they are called, and the settings that differ.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("plain SimCLR", {"treatment": "none"}),
    "band": ("the paper's band", {"treatment": "combined"}),
    "auto": ("auto", {"treatment": "auto"}),
    "exact": ("solved exactly", {"method": "exact", "filters": 50, "views": 2}),
}
MEASURES = {"knn": "20-NN", "linear": "linear probe"}
_PAIRS, _EXAMPLES, _THUMBNAIL = 12, 24, 64


class Difference(NamedTuple):
    """A method minus plain SimCLR in points, paired by seed: mean and half of the 95 % t interval, nan for one seed."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:+.1f}" + ("" if math.isnan(self.half) else f" ± {self.half:.1f}")


def run_demo(
    out: Path,
    seeds: int = 3,
    epochs: int | None = None,
    say: Callable[[str], None] = print,
    processes: int | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Train every method on the same seeds, measure it, scan the features of one run, and write a page.

    A fifth of the training digits is mixed with a digit of another class. Accuracies are on the 500 clean test digits,
    by neighbours and a linear probe among the clean training digits.

    Args:
        out: folder of the run directories, ``demo.json`` and ``demo.html``; earlier demo runs in it are replaced.
        seeds: number of seeds, 0, 1, ...
        epochs: epochs of each run; None takes those of `SETTINGS`.
        say: receives a line for every finished run.
        processes: runs at the same time, one thread each; None takes the number of processors.
        settings: fields of `TrainConfig` that differ from `SETTINGS`.

    Returns:
        The content of ``demo.json``: ``rows``, one a run; ``differences`` to plain SimCLR by method and measure;
        ``found``, how well the scan finds the mixed digits; ``versions``.
    """
    changed = SETTINGS | settings | ({} if epochs is None else {"epochs": epochs})
    tasks = [
        changed | own | {
            "seed": seed, "run_dir": out / f"{name}-seed{seed}", "overwrite": True, "threads": 1, "progress": False
        }
        for seed in range(seeds) for name, (_, own) in METHODS.items()
    ]  # fmt: skip
    rows = _run(tasks, processes or len(os.sched_getaffinity(0)), say)
    found, images, rate = _scan(out / "auto-seed0")
    differences = {
        name: {measure: difference(rows, name, measure) for measure in MEASURES}
        for name in METHODS if name != "plain"
    }  # fmt: skip
    report = {
        "rows": rows, "differences": differences, "found": rate, "versions": versions("torch", "scikit-learn")
    }  # fmt: skip
    write_json(out / "demo.json", report)
    demo_page(out / "demo.html", report, found, images)
    return report


def _run(tasks: list[dict[str, Any]], processes: int, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """The measures of all runs, in the order of the tasks, trained side by side."""
    rows: list[dict[str, Any]] = [{}] * len(tasks)

    def finish(i: int, row: dict[str, Any], done: int) -> None:
        rows[i] = row
        say(f"{done} of {len(tasks)}: {METHODS[row['method']][0]}, seed {row['seed']}: {row['seconds']:.0f} s")

    if processes == 1:
        for i, task in enumerate(tasks):
            finish(i, train_and_measure(task), i + 1)
        return rows
    # A fork of a process in which PyTorch has used threads may hang.
    context = multiprocessing.get_context("spawn")
    with one_thread_each(), ProcessPoolExecutor(min(processes, len(tasks)), mp_context=context) as pool:
        # The runs that take longest come first, so that no processor waits for the last one.
        order = sorted(range(len(tasks)), key=lambda i: tasks[i].get("treatment") != "auto")
        jobs = {pool.submit(train_and_measure, tasks[i]): i for i in order}
        try:
            for done, job in enumerate(as_completed(jobs), 1):
                finish(jobs[job], job.result(), done)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return rows


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Give one thread to each process that is started inside, for OpenMP and BLAS too.

    The threads of several processes on the same cores wait for each other at every barrier, which doubles the time.
    """
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def train_and_measure(settings: dict[str, Any]) -> dict[str, Any]:
    """Train one run and measure its encoder; a row of ``demo.json``."""
    start = time.perf_counter()
    config = TrainConfig.build(settings)
    encoder = pretrain(config).encoder
    seconds = time.perf_counter() - start
    train, test = (load_images(f"digits:{part}", image_size=config.image_size) for part in ("train", "test"))
    train_x, test_x = embed(encoder, train), embed(encoder, test)
    train_y, test_y = np.asarray(train.labels), np.asarray(test.labels)
    return {
        "method": config.run_dir.name.partition("-")[0], "seed": config.seed,
        "knn": 100 * knn(train_x, train_y, test_x, test_y, k=20),
        "linear": 100 * linear_probe(train_x, train_y, test_x, test_y).accuracy,
        "seconds": seconds,
    }  # fmt: skip


def difference(rows: list[dict[str, Any]], method: str, measure: str) -> Difference:
    """A method minus plain SimCLR, paired by seed."""
    values = {(row["method"], row["seed"]): row[measure] for row in rows}
    gains = np.array([value - values["plain", seed] for (name, seed), value in values.items() if name == method])
    return Difference(*t_interval(gains))


def summary(report: dict[str, Any]) -> list[str]:
    """What the table shows, a sentence a method."""
    seeds = len({row["seed"] for row in report["rows"]})
    lines = []
    for name, differences in report["differences"].items():
        title, (mean, half) = METHODS[name][0], differences["knn"]
        if math.isnan(half):
            lines.append(f"{title}: {mean:+.1f} points of 20-NN. One seed cannot tell a gain from chance.")
        elif abs(mean) <= half:
            lines.append(f"{title}: no clear difference in 20-NN ({mean:+.1f} ± {half:.1f} points over {seeds} seeds).")
        else:
            verb = "gains" if mean > 0 else "loses"
            lines.append(f"{title}: {verb} {abs(mean):.1f} ± {half:.1f} points of 20-NN over {seeds} seeds.")
    found = report["found"]
    lines.append(
        f"The scan, without labels: {found['mixed']} of its {found['shown']} most difficult digits are mixed ones "
        f"(AUROC {found['auroc']:.2f}, chance 0.5)."
    )
    return lines


def _scan(run_dir: Path) -> tuple[Scan, ImageSet, dict[str, Any]]:
    """Scan the features of the training images of a run, and write its page.

    Returns:
        The scan, the images, and how well the scan finds the mixed ones.
    """
    run = Run.open(run_dir)
    images = training_images(run.config())
    found = scan(
        ArrayFeatures(embed(run.load_encoder(), images), "digits, a fifth of them mixed"), output=run_dir / "scan"
    )
    found.report(run_dir / "scan" / "report.html", images, images.labels)
    mixed = np.asarray(images.mixed)
    first = np.argsort(-found.scores, kind="stable")[:_EXAMPLES]
    rate = {
        "auroc": detection(found.scores, mixed).auroc, "shown": len(first), "mixed": int(mixed[first].sum()),
    }  # fmt: skip
    return found, images, rate


def demo_page(path: Path, report: dict[str, Any], found: Scan, images: ImageSet) -> None:
    """Write the page of the demo: difficult pairs as pictures, the comparison, and the most difficult examples."""
    mixed = np.asarray(images.mixed)
    pairs = [
        (_picture(images, pair["anchor"]), _picture(images, pair["other"]), f"{pair['similarity']:.2f}")
        for pair in found.pairs.slice(0, _PAIRS).to_pylist()
    ]
    first = np.argsort(-found.scores, kind="stable")[:_EXAMPLES]
    examples = [(_picture(images, row), f"{found.scores[row]:.2f}", bool(mixed[row])) for row in first.tolist()]
    write_page(
        path, page_template("demo.html"), title="pairsift on handwritten digits",
        words=f"{len(images):,} digits, a fifth of them mixed with a digit of another class, and no labels.",
        pairs=pairs, examples=examples, figure=_figure(report["rows"]), table=table(report), lines=summary(report),
    )  # fmt: skip


def table(report: dict[str, Any]) -> list[list[str]]:
    """Rows of the comparison: the method, accuracy in percent and gain in points for each measure, and seconds."""
    lines = []
    for name, (title, _) in METHODS.items():
        rows = [row for row in report["rows"] if row["method"] == name]
        cells = [title]
        for measure in MEASURES:
            gain = report["differences"].get(name, {}).get(measure)
            cells += [f"{np.mean([row[measure] for row in rows]):.1f}", "" if gain is None else str(Difference(*gain))]
        lines.append([*cells, f"{np.mean([row['seconds'] for row in rows]):.0f}"])
    return lines


def _figure(rows: list[dict[str, Any]]) -> Drawing:
    """20-NN accuracy of every run as a dot, and the mean of every method as a line."""
    names = list(METHODS)
    values = [row["knn"] for row in rows]
    x = Axis.of_names([METHODS[name][0] for name in names], "")
    y = Axis(math.floor(min(values) - 0.5), min(100.0, math.ceil(max(values) + 0.5)), "20-NN accuracy, %")
    at = [names.index(row["method"]) for row in rows]
    means = "".join(
        polyline(x, y, [i - 0.2, i + 0.2], [np.mean([r["knn"] for r in rows if r["method"] == name])] * 2)
        for i, name in enumerate(names)
    )
    marks = (Mark(means, "line b", "mean"), Mark(points(x, y, at, values), "points c", "one seed"))
    return Drawing("methods", "20-NN accuracy by method", x, y, marks)


def _picture(images: ImageSet, row: int) -> str:
    """An image as a data address."""
    pixels = images.images[np.array([row])][0].transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.NEAREST).save(
        buffer, "PNG"
    )
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
