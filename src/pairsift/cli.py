"""The command line: parse, call, print."""

from __future__ import annotations

import inspect
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pairsift.train.config import EXPLAINED, TrainConfig

app = typer.Typer(
    name="pairsift", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Find and treat the pairs of examples that hurt contrastive learning (arXiv 2501.01317).",
)  # fmt: skip
console = Console()
notes = Console(stderr=True, highlight=False)
# click's UsageError, which newer typer carries inside itself and older typer imports.
_UsageError: Any = typer.BadParameter.__base__

DataArgument = Annotated[
    str, typer.Argument(metavar="DATA", help="parquet, image folder, .npy/.npz, digits, hf:NAME or torchvision:NAME")
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="run directory of a finished training run")]
LabelColumn = Annotated[str | None, typer.Option(help="column of the classes ('none' ignores labels)")]
PerClass = Annotated[int | None, typer.Option(help="only the first so many images of each class", min=1)]
SkipCorrupt = Annotated[bool, typer.Option("--skip-corrupt", help="leave out images that cannot be decoded")]
Device = Annotated[str, typer.Option(help="cpu, cuda or mps")]


def main() -> None:
    """Run the command line; errors are a line or two, `--debug` shows where they come from."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    warnings.showwarning = lambda message, *_: notes.print(f"[yellow]warning:[/] {message}", soft_wrap=True)
    sys.exit(_guarded(arguments, debug))


def _guarded(arguments: list[str], debug: bool) -> int:
    from pairsift.train import Interrupted, first_process

    try:
        code = app(arguments, standalone_mode=False)
        return int(code or 0)
    except _UsageError as error:
        error.show()
        return int(error.exit_code)
    except Interrupted as stop:
        if first_process():
            notes.print(str(stop), soft_wrap=True)
        return 130
    except (KeyboardInterrupt, typer.Abort):
        notes.print("stopped")
        return 130
    except Exception as error:
        if debug:
            traceback.print_exc()
        known = isinstance(error, (ValueError, OSError, MemoryError)) or type(error).__module__.startswith("pairsift.")
        text = str(error) if known and str(error) else f"{type(error).__name__}: {error}"
        notes.print("[red]error:[/] ", end="")
        notes.print(text if debug or known else f"{text} (--debug shows where)", markup=False, soft_wrap=True)
        return 1


@app.callback()
def _common(debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False) -> None:
    pass


def _train(data: str | None, config: Path | None, **flags: Any) -> None:
    """Train an encoder on DATA with plain or treated pairs: SimCLR, MoCo or the spectral loss.

    Settings come from --config (YAML, the same names with underscores), then from flags. The run directory then holds
    the resolved configuration, versions, metrics, checkpoints and the encoder. Ctrl-C leaves a run that --resume
    continues to the same result.
    """
    from pairsift.train import Interrupted, Run, first_process, pretrain

    given = {name: value for name, value in flags.items() if value is not None} | ({"data": data} if data else {})
    if given.get("resume"):
        base = Run.open(given.get("run_dir", TrainConfig.model_fields["run_dir"].default)).config_file
        if config is not None:
            given = TrainConfig.load(config, **given).model_dump()
        settings = TrainConfig.load(base, **given)
    else:
        settings = TrainConfig.build(given) if config is None else TrainConfig.load(config, **given)
    start = time.perf_counter()
    say = notes.print if settings.progress else lambda line: None
    try:
        result = pretrain(settings, say=say)
    except Interrupted as stop:
        raise Interrupted(f"{stop}; continue with: pairsift train --resume --run-dir {settings.run_dir}") from None
    seconds = time.perf_counter() - start
    if first_process():
        console.print(f"trained in {seconds:,.0f} s: {result.run.path}", highlight=False, soft_wrap=True)


def _flags_of_config() -> inspect.Signature:
    """One option per field of `TrainConfig`, so that flags, YAML keys and fields cannot drift apart."""
    help_config = "YAML file of settings; flags win over it"
    parameters = [
        _parameter("data", str | None, typer.Argument(metavar="[DATA]", help=str(_description("data")))),
        _parameter("config", Path | None, typer.Option("--config", help=help_config)),
    ]
    for name, field in TrainConfig.model_fields.items():
        if name == "data":
            continue
        flag = "--" + name.replace("_", "-")
        names = [f"{flag}/--no-{name.replace('_', '-')}"] if field.annotation is bool else [flag]
        if name == "run_dir":
            names.append("-o")
        extra = field.json_schema_extra
        option = typer.Option(
            *names,
            help=f"{_description(name)}" + ("" if field.default is None else f" (default: {field.default})"),
            show_default=False,
            rich_help_panel=str(extra["panel"]) if isinstance(extra, dict) else None,
        )
        parameters.append(_parameter(name, Optional[field.annotation], option))  # noqa: UP045
    for name in EXPLAINED:  # what is no field is refused by the configuration, which says why
        parameters.append(_parameter(name, int | None, typer.Option("--" + name.replace("_", "-"), hidden=True)))
    return inspect.Signature(parameters)


def _description(name: str) -> str | None:
    return TrainConfig.model_fields[name].description


def _parameter(name: str, kind: Any, option: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


_train.__signature__ = _flags_of_config()  # type: ignore[attr-defined]
_train.__annotations__ = {p.name: p.annotation for p in _train.__signature__.parameters.values()}  # type: ignore[attr-defined]
app.command("train")(_train)


@app.command()
def embed(
    run: RunArgument,
    data: DataArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="parquet file to write")],
    label_column: LabelColumn = None,
    per_class: PerClass = None,
    skip_corrupt: SkipCorrupt = False,
    device: Device = "cpu",
) -> None:
    """Write the features of DATA as parquet: row, features, label and path where known."""
    from pairsift.train import Run, write_features
    from pairsift.train import embed as embed_images

    _check_output(output)
    encoder = Run.open(run).load_encoder().to(device)
    images = _images(run, data, label_column, per_class, skip_corrupt)
    features = embed_images(encoder, images)
    write_features(output, features, images)
    console.print(f"{len(features):,} x {features.shape[1]} features: {output}", highlight=False, soft_wrap=True)


@app.command("scan")
def scan_features(
    features: Annotated[
        Path,
        typer.Argument(metavar="FEATURES", help="parquet, a folder of parquet shards, .npy or .npz, as embed writes"),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder to write to; a killed scan continues there")],
    images: Annotated[
        str | None, typer.Option(help="images of the rows, for the page: any DATA that train reads")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="column of classes, for levels by labels ('none' ignores them)")
    ] = None,
    n_classes: Annotated[int | None, typer.Option(help="rough number of classes (default: estimated)")] = None,
    drop: Annotated[float, typer.Option(help="share of the set that drop.csv lists")] = 0.08,
    pos_high: Annotated[
        float | None, typer.Option(help="band of the levels, upper edge (default: 1 / classes)")
    ] = None,
    pos_low: Annotated[float | None, typer.Option(help="band of the levels, lower edge (default: 2 / classes)")] = None,
    reference: Annotated[int, typer.Option(help="rows to learn from")] = 50_000,
    max_pairs: Annotated[int, typer.Option(help="bridging pairs to keep")] = 10_000,
    memory: Annotated[float, typer.Option(help="GB that the scan may take")] = 2.0,
    seed: Annotated[int, typer.Option(help="seed of the sample and the clusters", min=0)] = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads (default: all)", min=1)] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="leave out rows that are not finite")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the scan in the output folder")] = False,
    engine: Annotated[Literal["local", "ray"], typer.Option(help="ray scores parquet by Ray Data")] = "local",
    address: Annotated[str | None, typer.Option(help="Ray cluster ('auto'); default: Ray on this machine")] = None,
) -> None:
    """Find difficult examples in embeddings, without labels: scores, bridging pairs, a drop list, a page to look at."""
    from pairsift.curate import scan
    from pairsift.data import open_features, open_source
    from pairsift.evaluate import detection
    from pairsift.pairs import RankBand
    from pairsift.report import tables
    from pairsift.train import Interrupted

    if (pos_high is None) != (pos_low is None):
        raise ValueError("--pos-high and --pos-low make a band together: give both or neither")
    band = None if pos_high is None or pos_low is None else RankBand(pos_high, pos_low)
    source = open_features(features, labels)
    if images is not None:
        open_source(images)  # a wrong name is said before the scan, not after it
    start = time.perf_counter()
    try:
        with Progress(console=notes, transient=True) as bar:
            task = bar.add_task("scanning", total=source.shape[0])
            result = scan(
                source, n_classes, band, reference=reference, max_pairs=max_pairs, memory=memory, seed=seed,
                threads=threads, skip_bad=skip_bad, out=output, fraction=drop, overwrite=overwrite, engine=engine,
                address=address, say=lambda line: notes.print(line, soft_wrap=True),
                progress=lambda done, _: bar.update(task, completed=done),
            )  # fmt: skip
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; the same command continues the scan in {output}") from None
    page = output / "report.html"
    result.report(page, images, fraction=drop)
    console.print(tables.levels_table(result.levels))
    for reason in result.advice.reasons:
        console.print(f"- {reason}", highlight=False, soft_wrap=True)
    if source.mixed is not None:
        console.print(
            f"AUROC against the planted mixes: {detection(result.scores, source.mixed).auroc:.3f}", highlight=False
        )
    console.print(
        f"{len(result):,} examples in {time.perf_counter() - start:,.1f} s; {len(result.drop(drop)):,} to drop, "
        f"{len(result.pairs):,} bridging pairs: {page}", highlight=False, soft_wrap=True,
    )  # fmt: skip


@app.command()
def probe(
    run: RunArgument,
    train: Annotated[str, typer.Argument(metavar="TRAIN", help="labelled data the classifiers learn from")],
    test: Annotated[str, typer.Argument(metavar="TEST", help="labelled data they are scored on")],
    protocol: Annotated[
        Literal["lbfgs", "sgd"],
        typer.Option(help="lbfgs: logistic regression and kNN on features; sgd: the papers' probe"),
    ] = "lbfgs",
    lr: Annotated[float, typer.Option(help="learning rate of --protocol sgd")] = 1.0,
    epochs: Annotated[int, typer.Option(help="epochs of --protocol sgd", min=1)] = 100,
    label_column: LabelColumn = None,
    per_class: Annotated[int | None, typer.Option(help="first so many images of each class of TRAIN", min=1)] = None,
    skip_corrupt: SkipCorrupt = False,
    device: Device = "cpu",
) -> None:
    """Measure the encoder of RUN: linear probe and kNN accuracy on TEST, learned from TRAIN."""
    from pairsift.evaluate import knn, linear_probe, linear_probe_sgd
    from pairsift.files import write_json
    from pairsift.train import Run
    from pairsift.train import embed as embed_images

    results: dict[str, float] = {}
    start = time.perf_counter()
    encoder = Run.open(run).load_encoder().to(device)
    if protocol == "sgd":
        splits = [_labelled(run, spec, label_column, n, skip_corrupt) for spec, n in ((train, per_class), (test, None))]
        results["linear probe (SGD)"] = linear_probe_sgd(encoder, *splits, lr=lr, epochs=epochs)
    else:
        x, y = [], []
        for spec, n in ((train, per_class), (test, None)):
            images = _labelled(run, spec, label_column, n, skip_corrupt)
            x.append(embed_images(encoder, images))
            y.append(images.labels)
        fitted = linear_probe(x[0], y[0], x[1], y[1])
        results["linear probe"] = fitted.accuracy
        for k in (20, 200):
            if k <= len(x[0]):
                results[f"{k}-NN"] = knn(x[0], y[0], x[1], y[1], k=k)
    table = Table("measure", "accuracy %")
    for name, value in results.items():
        table.add_row(name, f"{100 * value:.2f}")
    console.print(table)
    record = {"train": train, "test": test, "per_class": per_class, "protocol": protocol, "accuracy": results}
    write_json(run / f"probe-{protocol}.json", record | {"seconds": time.perf_counter() - start})


@app.command()
def demo(
    run_dir: Annotated[Path, typer.Option("--run-dir", "-o", help="where the runs are written")] = Path("runs/demo"),
    seeds: Annotated[int, typer.Option(help="number of seeds", min=1)] = 3,
    epochs: Annotated[int, typer.Option(help="epochs of each run", min=1)] = 30,
) -> None:
    """Plain SimCLR and the combined treatment on digits, a fifth of them mixed: a table in three minutes, a scan."""
    from pairsift.studies.demo import run_demo, table, verdict

    start = time.perf_counter()
    report = run_demo(run_dir, seeds=seeds, epochs=epochs, say=lambda line: notes.print(line))
    console.print(table(report))
    console.print(verdict(report), highlight=False)
    console.print(f"{time.perf_counter() - start:,.0f} s; runs, metrics and encoders: {run_dir}", highlight=False)
    console.print(
        f"what the scan found, to look at: {run_dir / 'none-seed0' / 'scan' / 'report.html'}", highlight=False
    )


def _option(panel: str | None, description: str, *names: str, **limits: Any) -> Any:
    return typer.Option(*names, help=description, rich_help_panel=panel, **limits)


@app.command()
def theory(
    alpha: Annotated[float | None, _option("Graph", "similarity inside a class")] = None,
    beta: Annotated[float | None, _option("Graph", "similarity between classes")] = None,
    gamma: Annotated[float | None, _option("Graph", "similarity of difficult pairs")] = None,
    n: Annotated[int | None, _option("Graph", "augmented examples of a class (default: 10000)")] = None,
    r: Annotated[int | None, _option("Graph", "number of classes minus one (default: 9)")] = None,
    n_d: Annotated[int | None, _option("Graph", "difficult examples of a class (default: 800)")] = None,
    pairing: Annotated[Literal["block", "matched"], _option("Graph", "which of the paper's two graphs")] = "block",
    delta: Annotated[float, _option(None, "labelling error, in [0, 1]")] = 0.05,
    k: Annotated[int | None, _option(None, "feature dimension (default: r + 1)")] = None,
    plot: Annotated[Path | None, _option(None, "HTML page of figures to write")] = None,
    features: Annotated[Path | None, _option("Features", "measure the levels of these embeddings instead")] = None,
    label_column: Annotated[str | None, _option("Features", "column of the classes ('none': by the band)")] = None,
    fraction: Annotated[float, _option("Features", "share of each class taken as difficult")] = 0.08,
    pos_high: Annotated[float, _option("Features", "without labels: upper edge of the band")] = 0.15,
    pos_low: Annotated[float, _option("Features", "without labels: lower edge of the band")] = 0.22,
    n_classes: Annotated[int | None, _option("Features", "without labels: classes (default: 1 / pos-high)")] = None,
    laboratory: Annotated[
        bool, _option("Laboratory", "treatments on noisy graphs (n 50, r 4, n-d 10 unless given)", "--laboratory")
    ] = False,
    epsilon: Annotated[float, _option("Laboratory", "standard deviation of the noise")] = 0.6,
    draws: Annotated[int, _option("Laboratory", "noise draws, some 5 a second", min=1)] = 200,
    seed: Annotated[int, _option("Laboratory", "seed of the draws", min=0)] = 0,
    output: Annotated[Path | None, _option("Laboratory", "JSON of all arms to write", "--output", "-o")] = None,
) -> None:
    """The similarity graph of given or measured levels: exact spectrum, printed bounds beside exact ones, advice."""
    _check_output(plot)
    _check_output(output)
    given = {"alpha": alpha, "beta": beta, "n": n, "r": r, "n_d": n_d, "gamma": gamma, "k": k}
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if laboratory:
        _laboratory(settings | {"epsilon": epsilon, "pairing": pairing}, draws, seed, output, plot)
        return
    from pairsift.report import tables
    from pairsift.report.theory import theory_page
    from pairsift.theory import SimilarityGraph, bounds

    if features is not None:
        graph = _measured_graph(features, label_column, fraction, (pos_high, pos_low), n_classes, pairing)
    else:
        missing = [f"--{name}" for name in ("alpha", "beta", "gamma") if name not in settings]
        if missing:
            raise ValueError(f"the graph needs {', '.join(missing)}; or give --features FILE to measure them")
        settings.pop("k", None)
        settings = {"n": 10_000, "r": 9, "n_d": 800, "pairing": pairing} | settings
        graph = SimilarityGraph(**settings)
    if graph is None:
        if plot is not None:
            raise ValueError("these levels make no similarity graph, so there is nothing to plot")
        return
    dimension = graph.n_classes if k is None else k
    console.print(tables.comparison_table(bounds.compare(graph, delta, dimension), delta, dimension))
    console.print(tables.spectrum_table(graph))
    if plot is not None:
        theory_page(plot, graph, delta, dimension)
        console.print(f"figures: {plot}", highlight=False, soft_wrap=True)


def _measured_graph(
    file: Path,
    label_column: str | None,
    fraction: float,
    edges: tuple[float, float],
    n_classes: int | None,
    pairing: str,
) -> Any:
    """Print the levels of embeddings and what they advise; the graph they make, or None where they make none."""
    from pairsift.data import open_features
    from pairsift.pairs import RankBand
    from pairsift.report import tables
    from pairsift.theory import advise, measure_levels

    data, band = open_features(file, label_column), RankBand(*edges)
    levels = measure_levels(
        data.take(np.arange(data.shape[0])), data.labels, fraction=fraction, band=band, n_classes=n_classes
    )
    console.print(tables.levels_table(levels))
    if levels.t is not None:
        console.print(f"Welch's t of gamma against beta: {levels.t:.4g} (p = {levels.p:.3g})", highlight=False)
    for reason in advise(levels).reasons:
        console.print(f"- {reason}", highlight=False, soft_wrap=True)
    graph_like = levels.beta.mean <= levels.gamma.mean < levels.alpha.mean
    return levels.graph(pairing) if levels.n_d is not None and graph_like else None


def _laboratory(settings: dict[str, Any], draws: int, seed: int, output: Path | None, plot: Path | None) -> None:
    from pairsift.report.laboratory import laboratory_page
    from pairsift.report.tables import laboratory_table
    from pairsift.theory.laboratory import Laboratory, run_laboratory

    gamma = settings.pop("gamma", None)
    if gamma is not None:
        settings["gammas"] = tuple(dict.fromkeys((gamma, settings.get("beta", Laboratory.beta))))
    report = run_laboratory(Laboratory(**settings), draws, seed, say=notes.print)
    console.print(laboratory_table(report))
    if output is not None:
        report.save(output)
    if plot is not None:
        laboratory_page(plot, report)
    for file in (output, plot):
        if file is not None:
            console.print(f"written: {file}", highlight=False, soft_wrap=True)


def _check_output(path: Path | None) -> None:
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"the folder of {path} does not exist")


def _labelled(run: Path, spec: str, label_column: str | None, per_class: int | None, skip_corrupt: bool) -> Any:
    images = _images(run, spec, label_column, per_class, skip_corrupt)
    if images.labels is None:
        raise ValueError(f"{spec} has no labels to score against: name their column with --label-column")
    return images


def _images(run: Path, spec: str, label_column: str | None, per_class: int | None, skip_corrupt: bool) -> Any:
    from pairsift.data import load_images
    from pairsift.train import Run

    config = Run.open(run).config()
    images = load_images(
        spec, label_column=label_column or config.label_column, per_class=per_class, image_size=config.image_size,
        skip_corrupt=skip_corrupt, memory=config.memory,
    )  # fmt: skip
    notes.print(f"{spec}: {images.where}", soft_wrap=True)
    if images.corrupt:
        notes.print(
            f"left out {len(images.corrupt)} images that cannot be decoded, the first at row {images.corrupt[0]}"
        )
    return images


if __name__ == "__main__":
    main()
