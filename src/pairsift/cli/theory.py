"""`pairsift theory`: the similarity graph of given levels, the levels of embeddings, and class collapse."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer
from rich import box
from rich.table import Table
from typer.core import TyperGroup

from pairsift.cli.app import console
from pairsift.cli.options import LabelColumn, check_output, column_of_labels

if TYPE_CHECKING:
    from pairsift.theory import Levels, SimilarityGraph
    from pairsift.theory.bounds import Comparison

# Weights of the self-supervised part that `collapse` shows without --alpha.
_WEIGHTS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)


def _option(description: str, *names: str, **limits: Any) -> Any:
    return typer.Option(*names, help=description, **limits)


Pairing = Annotated[Literal["block", "matched"], _option("which of the paper's two graphs")]
Delta = Annotated[float, _option("labelling error, in [0, 1]")]
Dimension = Annotated[int | None, _option("feature dimension (default: r + 1)", "--k")]
Output = Annotated[Path | None, _option("HTML page of figures to write", "--output", "-o")]


class _Theory(TyperGroup):
    """The sub-commands. The options of 0.2, without a sub-command, give an error that names the new form."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments, refused where they have the form of 0.2."""
        if args and args[0].startswith("-") and "--help" not in args:
            raise ValueError(f"`pairsift theory` has sub-commands now: {_new_form(args)}")
        return super().parse_args(ctx, args)


theory = typer.Typer(
    cls=_Theory, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)  # fmt: skip


@theory.callback()
def group() -> None:
    """Compute the theory's graph of given levels, measure the levels of embeddings, or predict class collapse."""


@theory.command()
def graph(
    alpha: Annotated[float, _option("similarity inside a class")],
    beta: Annotated[float, _option("similarity between classes")],
    gamma: Annotated[float, _option("similarity of difficult pairs")],
    n: Annotated[int, _option("augmented examples of a class", "--n")] = 10_000,
    r: Annotated[int, _option("number of classes minus one", "--r")] = 9,
    n_d: Annotated[int, _option("difficult examples of a class", "--n-d")] = 800,
    pairing: Pairing = "block",
    delta: Delta = 0.05,
    k: Dimension = None,
    output: Output = None,
) -> None:
    """Compute the similarity graph of given levels: its exact spectrum, and the printed bounds with the exact ones."""
    from pairsift.theory import SimilarityGraph

    check_output(output)
    _show(SimilarityGraph(n, r, n_d, alpha, beta, gamma, pairing), delta, k, output)


@theory.command()
def measure(
    features: Annotated[
        Path, typer.Argument(metavar="FEATURES", help="parquet, a folder of parquet shards, .npy or .npz")
    ],
    column: Annotated[str | None, _option("column, or columns, of the features")] = None,
    label_column: LabelColumn = None,
    no_labels: Annotated[bool, _option("measure by a rank band, even where there are labels", "--no-labels")] = False,
    fraction: Annotated[float, _option("share of each class taken as difficult")] = 0.08,
    band_start: Annotated[float, _option("without labels: upper edge of the band")] = 0.15,
    band_stop: Annotated[float, _option("without labels: lower edge of the band")] = 0.22,
    n_classes: Annotated[int | None, _option("without labels: number of classes (default: 1 / band-start)")] = None,
    pairing: Pairing = "block",
    delta: Delta = 0.05,
    k: Dimension = None,
    output: Output = None,
) -> None:
    """Measure alpha, beta and gamma of embeddings, and show the treatment and the graph that follow from them."""
    from pairsift.data import UNLABELLED, open_features
    from pairsift.pairs import RankBand
    from pairsift.theory import advise, measure_levels

    check_output(output)
    data = open_features(features, column_of_labels(label_column, no_labels), column)
    band = RankBand(band_start, band_stop)
    rows, labels = np.arange(data.shape[0]), data.labels
    if labels is not None:
        rows, labels = rows[labels != UNLABELLED], labels[labels != UNLABELLED]
    levels = measure_levels(data.take(rows), labels, fraction=fraction, band=band, n_classes=n_classes)
    console.print(levels_table(levels))
    if levels.t is not None:
        console.print(f"Welch's t of gamma against beta: {levels.t:.4g} (p = {levels.p:.3g})", highlight=False)
    for reason in advise(levels).reasons:
        console.print(f"- {reason}", highlight=False, soft_wrap=True)
    missing = _no_graph(levels)
    if not missing:
        _show(levels.graph(pairing), delta, k, output)
    elif output is not None:
        raise ValueError(f"there is no similarity graph to draw: {missing}")


@theory.command()
def collapse(
    alpha: Annotated[float | None, _option("weight of the self-supervised part (default: several)")] = None,
    classes: Annotated[int, _option("classes of a batch")] = 10,
    per_class: Annotated[float, _option("images of a class in a batch, with two views each")] = 26,
    temperature: Annotated[float, _option("temperature of the loss")] = 0.1,
) -> None:
    """Predict whether a loss with labels maps every class to one point."""
    console.print(_collapse_table(classes, per_class, temperature, _WEIGHTS if alpha is None else (alpha,)))


def levels_table(levels: Levels) -> Table:
    """The measured alpha, beta and gamma as a table."""
    table = Table(title="similarity levels (cosine)", title_justify="left")
    table.add_column("level")
    for title in ("mean", "standard deviation", "pairs"):
        table.add_column(title, justify="right")
    # Scans that were loaded no longer know which examples were difficult.
    with_labels = levels.difficult is not None or levels.gamma_both is not None
    names = {
        "alpha: same class" if with_labels else "alpha: ranked above the band": levels.alpha,
        "beta: different classes, easy" if with_labels else "beta: ranked below the band": levels.beta,
        "gamma: different classes, one difficult or both" if with_labels else "gamma: ranked in the band": levels.gamma,
    }
    if levels.gamma_both is not None:
        names["   both difficult"] = levels.gamma_both
    for name, level in names.items():
        table.add_row(name, _number(level.mean), _number(math.sqrt(level.variance)), f"{level.pairs:,}")
    return table


def _show(graph: SimilarityGraph, delta: float, k: int | None, output: Path | None) -> None:
    """Print the bounds and the spectrum of a graph, and write its page."""
    from pairsift.theory import bounds

    dimension = graph.n_classes if k is None else k
    console.print(_comparison_table(bounds.compare(graph, delta, dimension), delta, dimension))
    console.print(_spectrum_table(graph))
    if output is not None:
        from pairsift.theory.page import theory_page

        theory_page(output, graph, delta, dimension)
        console.print(f"figures: {output}", highlight=False, soft_wrap=True)


def _no_graph(levels: Levels) -> str:
    """The reason why levels make no similarity graph; empty where they make one."""
    if levels.n_d is None:
        return "levels that were measured by ranks have no number of difficult examples"
    alpha, beta, gamma = levels.alpha.mean, levels.beta.mean, levels.gamma.mean
    if beta <= gamma < alpha:
        return ""
    return f"it needs beta <= gamma < alpha, and the measured levels are {beta:.4g}, {gamma:.4g}, {alpha:.4g}"


def _comparison_table(rows: Sequence[Comparison], delta: float, k: int) -> Table:
    """The printed statements with the exact values."""
    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False,
        title=f"bounds on the linear-probe error, delta = {delta:g}, k = {k}", title_justify="left",
        caption=None if all(row.printed.holds for row in rows) else "* outside the statement's own conditions",
        caption_justify="left",
    )  # fmt: skip
    # Headers of two lines leave all numbers whole on 80 columns.
    table.add_column("\nstatement", no_wrap=True)
    for title in ("lambda:\npaper", "\nexact", "bound:\npaper", "\nexact"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("the\npaper's is", no_wrap=True)
    for row in rows:
        numbers = (row.printed.eigenvalue, row.eigenvalue, row.printed.value, row.exact)
        status = row.status + ("" if row.printed.holds else " *")
        table.add_row(f"{row.printed.source}, {row.statement}", *(_number(value) for value in numbers), status)
    return table


def _spectrum_table(graph: SimilarityGraph) -> Table:
    """Eigenvalues with their multiplicities. Lifted eigenvalues are marked."""
    table = Table(title=f"spectrum of the normalised adjacency, {len(graph):,} vertices", title_justify="left")
    table.add_column("eigenvalue", justify="right")
    table.add_column("multiplicity", justify="right")
    table.add_column("lifted by difficult examples")
    lifted = {mode.value: mode for mode in graph.slow_modes()}
    for value, count in zip(*(array.tolist() for array in graph.spectrum()), strict=True):
        mode = lifted.get(value)
        table.add_row(_number(value), f"{count:,}", f"by {mode.lift:.3g}" if mode else "")
    return table


def _collapse_table(n_classes: int, per_class: float, temperature: float, alphas: Sequence[float]) -> Table:
    """The weights at which classes collapse, and the variance that classes keep at the others."""
    from pairsift.theory import collapse_temperature, collapse_threshold, within_class_share

    threshold = collapse_threshold(n_classes, per_class, temperature)
    table = Table(
        title=f"classes collapse up to alpha = {threshold:.4g}", title_justify="left",
        caption=f"{n_classes} classes of {per_class:g}, temperature {temperature:g}", caption_justify="left",
    )  # fmt: skip
    for title in ("alpha", "share within classes", "collapses from temperature"):
        table.add_column(title, justify="right")
    table.add_column("")
    for alpha in sorted({*alphas, threshold}):
        share = within_class_share(alpha, n_classes, per_class, temperature)
        hottest = collapse_temperature(alpha, n_classes, per_class)
        status = "collapsed" if alpha <= threshold else ""
        table.add_row(_number(alpha), f"{share:.4f}", "never" if alpha == 1 else _number(hottest), status)
    return table


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "-" if math.isnan(value) else "unbounded"


def _new_form(args: Sequence[str]) -> str:
    """The command of today for the arguments of `pairsift theory` in 0.2."""
    words = [part for each in args for part in (each.split("=", 1) if each.startswith("--") else [each])]
    words = ["--output" if each == "--plot" else each for each in words]
    if "--laboratory" in words:
        words.remove("--laboratory")
        return f"give python -m lab {shlex.join(['laboratory', *words])} in a checkout of the repository"
    if "--collapse" in words:
        words.remove("--collapse")
        return f"give pairsift theory {shlex.join(['collapse', *words])}"
    if "--features" not in words:
        return f"give pairsift theory {shlex.join(['graph', *words])}"
    at = words.index("--features")
    file = words[at + 1 : at + 2] or ["FEATURES"]
    words[at : at + 2] = []
    for at, pair in enumerate(pairwise(words)):
        if pair == ("--label-column", "none"):
            words[at : at + 2] = ["--no-labels"]
            break
    return f"give pairsift theory {shlex.join(['measure', *file, *words])}"
