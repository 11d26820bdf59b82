"""`pairsift adapt`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.table import Table

from pairsift._base.files import give_usual_modes, write_tensors
from pairsift._base.words import counted
from pairsift.cli.app import console, in_flags, notes
from pairsift.cli.progress import progress
from pairsift.data import DataError, open_features
from pairsift.data.columns import NO_LABELS
from pairsift.pairs import text_keys
from pairsift.retrieval import PairsConfig, PairsError
from pairsift.retrieval.guides import load_encoder, no_bars
from pairsift.retrieval.index import contents
from pairsift.retrieval.read import PairsSource, read_labels
from pairsift.spectral import SpectralError, SpectralMap

if TYPE_CHECKING:
    from pairsift.spectral.head import Training

Engine = Literal["local", "ray"]
_FILES = (".npy", ".parquet")
# Texts that one call of the encoder gets, and rows of the page's table.
_TEXTS, _CHANGED, _LETTERS = 4096, 30, 200


@dataclass
class _Features:
    """Features of both sides of N rows.

    Attributes:
        first, second: (N, D) and (N, E).
        kept: (N,) which rows are positive pairs.
        texts: of both sides, where there are any.
        model: the encoder of the texts.
    """

    first: Any
    second: Any
    kept: NDArray[np.bool_]
    texts: tuple[list[str], list[str]] | None = None
    model: Any = None

    def arrays(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Both sides of the positive pairs, in memory."""
        first, second = (
            each if isinstance(each, np.ndarray) else np.concatenate([block for _, block in each.blocks(8192)])
            for each in (self.first, self.second)
        )
        return np.asarray(first[self.kept], np.float32), np.asarray(second[self.kept], np.float32)


def adapt(
    pairs: Annotated[
        Path, typer.Argument(metavar="PAIRS", help="file or folder of pairs: anchor and positive, texts or embeddings")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder to write to")],
    encoder: Annotated[
        str | None,
        typer.Option(help="encoder of texts: 'minilm' (packaged), a sentence-transformers name or folder, or a file of "
                     "features (.parquet with the columns of the pairs, or .npy: all anchors, then all positives)"),
    ] = None,
    anchor: Annotated[str | None, typer.Option(help="column of anchors (default: the usual one)")] = None,
    positive: Annotated[str | None, typer.Option(help="column of positives (default: the usual one)")] = None,
    split: Annotated[str | None, typer.Option(help="split of a data set that has several")] = None,
    dimensions: Annotated[int | None, typer.Option(help="width of the map (default: chosen)", min=1)] = None,
    ridge: Annotated[float | None, typer.Option(help="relative variance added to features (default: chosen)")] = None,
    power: Annotated[float | None, typer.Option(help="exponent of the eigenvalues (default: chosen)")] = None,
    towers: Annotated[int | None, typer.Option(help="1: one map of both sides; 2: a map of each")] = None,
    train: Annotated[bool, typer.Option("--train", help="go on by gradient while held-out pairs improve")] = False,
    embed: Annotated[Path | None, typer.Option(help="parquet file for the adapted features of the pairs")] = None,
    held_out: Annotated[float, typer.Option(help="share of the pairs that a fold holds out to choose by")] = 0.1,
    seed: Annotated[int, typer.Option(help="seed of held-out pairs and of training", min=0)] = 0,
    memory_gb: Annotated[float, typer.Option(help="GB that the fit may take")] = 4.0,
    engine: Annotated[Engine, typer.Option(help="ray reads parts of the pairs in Ray tasks")] = "local",
    address: Annotated[str | None, typer.Option(help="Ray cluster (default: Ray on this machine)")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads (default: all)", min=1)] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace what is in the output folder")] = False,
) -> None:  # fmt: skip
    """Adapt frozen embeddings to pairs: a linear map in closed form, its settings chosen on held-out pairs.

    Writes the map, a sentence-transformers folder where the encoder is one, and a page. No labels are needed.
    """
    start = time.perf_counter()
    if threads is not None:
        torch.set_num_threads(threads)
    _check_folder(output, overwrite)
    _check_file(embed)
    output.mkdir(parents=True, exist_ok=True)
    found = _features(pairs, encoder, PairsConfig(anchor=anchor, positive=positive, split=split))
    if train:
        _check_trainable(found, towers, memory_gb)
    fitted = SpectralMap.fit(
        found.first, found.second, dimensions=dimensions, ridge=ridge, power=power, towers=towers, drop=~found.kept,
        held_out=held_out, seed=seed, memory_gb=memory_gb, engine=engine, address=address, log=_say,
    )  # fmt: skip
    fitted.save(output / "map.safetensors")
    _save_model(found.model, fitted, output)
    trained: Training | None = None
    if train:
        trained = _trained(found, fitted, seed, output)
    _tell(fitted, trained, found, output, str(pairs))
    if embed is not None:
        _write_features(embed, found, fitted, trained)
        console.print(f"adapted features: {embed}", highlight=False, soft_wrap=True)
    console.print(
        f"adapted in {time.perf_counter() - start:,.1f} s: {output / 'report.html'}", highlight=False, soft_wrap=True
    )


def _say(line: str) -> None:
    notes.print(in_flags(line, "adapt"), soft_wrap=True)


def _check_folder(output: Path, overwrite: bool) -> None:
    if output.is_file():
        raise PairsError(f"{output} is a file: choose a folder")
    if output.is_dir() and any(output.iterdir()):
        if not overwrite:
            raise PairsError(f"{output} is not empty: replace it with `overwrite=True`, or choose another folder")
        if not (output / "map.safetensors").exists():
            raise PairsError(f"{output} holds something else than an adaptation (no map.safetensors): choose another")


def _check_file(embed: Path | None) -> None:
    if embed is None:
        return
    if embed.suffix != ".parquet":
        raise PairsError(f"adapted features are written as parquet, got {embed}: give a file that ends in .parquet")
    if not embed.parent.is_dir():
        raise PairsError(f"there is no folder {embed.parent} for the adapted features: make it first")


def _check_trainable(found: _Features, towers: int | None, memory_gb: float) -> None:
    (n, d), (_, e) = found.first.shape, found.second.shape
    if towers == 2 or d != e:
        raise PairsError("training goes on from one map of both sides, and these are two: leave `train` out")
    if 4 * n * (d + e) > memory_gb * 1e9:
        raise PairsError(
            f"training holds all features in memory, which takes {4 * n * (d + e) / 1e9:.2g} GB, and "
            f"`memory_gb={memory_gb:g}` are allowed: raise it, or leave `train` out"
        )


def _features(pairs: Path, encoder: str | None, config: PairsConfig) -> _Features:
    """Features of the pairs, from the file itself, from an encoder, or from a file of features."""
    source = PairsSource(pairs, config)
    labels = read_labels(source, config)
    kept = np.ones(source.rows, bool) if labels is None else ~labels.negative
    names = source.columns.anchor.name, source.columns.positive.name
    if encoder is not None and Path(encoder).suffix in _FILES:
        return _told(_Features(*_of_file(Path(encoder), names, source.rows), kept))
    if source.columns.kind == "embeddings":
        if encoder is not None:
            raise PairsError(f"{source.name} holds embeddings, which an encoder cannot read: leave `encoder` out")
        first, second = (open_features(str(pairs), NO_LABELS, name) for name in names)
        return _told(_Features(first, second, kept))
    if encoder is None:
        raise PairsError(
            f"{source.name} holds texts: give the `encoder` to adapt: 'minilm', a sentence-transformers name or "
            "folder, or a file of their features"
        )
    model = load_encoder(encoder, setting="encoder")
    columns = source.columns.anchor, source.columns.positive
    texts = [[text for part in contents(source, column) for text in part] for column in columns]
    kept &= np.array([bool(a and a.strip() and b and b.strip()) for a, b in zip(*texts, strict=True)])
    sides = [[text for text, keep in zip(each, kept, strict=True) if keep] for each in texts]
    if len(sides[0]) < source.rows:
        _say(f"left out {counted(source.rows - len(sides[0]), 'row')}: no positive pair, or without a text")
    return _Features(*_encoded(model, sides), kept[kept], (sides[0], sides[1]), model)


def _told(found: _Features) -> _Features:
    if not found.kept.all():
        _say(f"left out {counted(int((~found.kept).sum()), 'row')}: no pair by the label")
    return found


def _of_file(file: Path, names: tuple[str, str], rows: int) -> tuple[Any, Any]:
    if file.suffix == ".parquet":
        first, second = (open_features(str(file), NO_LABELS, name) for name in names)
        if first.shape[0] != rows:
            raise DataError(f"{file} has {counted(first.shape[0], 'row')} for {rows:,} pairs: it needs a row for each")
        return first, second
    shape = open_features(str(file), NO_LABELS).shape  # refuses anything but an array of features
    if shape[0] != 2 * rows:
        raise DataError(
            f"{file} has shape {shape} and there are {rows:,} pairs: it needs a row for every anchor, then one for "
            "every positive"
        )
    stacked = np.load(file, mmap_mode="r")
    return stacked[:rows], stacked[rows:]


def _encoded(model: Any, sides: Sequence[list[str]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features of both sides; equal texts are encoded once and have equal features."""
    numbers = {text: i for i, text in enumerate(dict.fromkeys(text for side in sides for text in side))}
    unique, parts = list(numbers), []
    with progress("encoding texts") as tell:
        for start in range(0, len(unique), _TEXTS):
            parts.append(np.asarray(model.encode(unique[start : start + _TEXTS]), np.float32))
            tell(min(start + _TEXTS, len(unique)), len(unique))
    features = np.concatenate(parts)
    first, second = (features[[numbers[text] for text in side]] for side in sides)
    return first, second


def _trained(found: _Features, fitted: SpectralMap, seed: int, output: Path) -> Training | None:
    """The network trained from the map; None where training was stopped, or there are too few pairs."""
    from pairsift.spectral.head import train_head

    first, second = found.arrays()
    keys = None if found.texts is None else (text_keys(found.texts[0]), text_keys(found.texts[1]))
    try:
        with progress("training") as tell:
            trained = train_head(first, second, fitted, keys=keys, seed=seed, progress=tell)
    except KeyboardInterrupt:
        _say(f"training stopped: {output} keeps the map")
        return None
    except SpectralError as error:  # too few pairs
        _say(f"not trained: {error}")
        return None
    _say(str(trained))
    if trained.head is not None:
        write_tensors(output / "head.safetensors", dict(trained.head.state_dict()), {"pairsift.head": "1"})
        _save_model(found.model, fitted, output, trained)
    return trained


def _save_model(model: Any, fitted: SpectralMap, output: Path, trained: Training | None = None) -> None:
    """The sentence-transformers folder; of two towers one for each side."""
    if model is None or not hasattr(model, "save_pretrained"):
        return
    if trained is not None and trained.head is not None:
        from pairsift.spectral.modules import extended

        models = {"model": extended(model, trained.head.stages())}
    elif fitted.towers == 1:
        models = {"model": fitted.sentence_transformer(model)}
    else:
        models = {
            "anchor_model": fitted.sentence_transformer(model),
            "positive_model": fitted.sentence_transformer(model, second=True),
        }
    for name, each in models.items():
        with no_bars():
            each.save_pretrained(str(output / name))
        give_usual_modes(output / name)


def _tell(fitted: SpectralMap, trained: Training | None, found: _Features, output: Path, name: str) -> None:
    """Print how held-out pairs rank, and write the page."""
    from pairsift.spectral.page import cells_of, write_adapt_page

    held = fitted.held_out
    if held is None:
        _say("no pairs were held out, so there is nothing to compare: give more pairs")
        return
    rankings = [] if held.frozen is None else [("frozen", held.frozen)]
    rankings.append(("adapted", held.adapted))
    if trained is not None and trained.head is not None:
        rankings.append(("adapted and trained (other held-out pairs)", trained.head_ranking))
    table = Table("features", "MRR %", "recall@10 %")
    for each, ranking in rankings:
        table.add_row(each, *cells_of(ranking))
    console.print(table)
    lines = [f"Chosen: {held}."]
    if held.gain is not None:
        lines.append(_gain(*held.gain))
    if trained is not None:
        lines.append(f"Training: {trained}.")
    for line in lines:
        console.print(f"- {line}", highlight=False, soft_wrap=True)
    write_adapt_page(output / "report.html", f"Adapted to {name}", held, rankings, lines, _changed(fitted, found))


def _gain(mean: float, half: float) -> str:
    """The gain of the mean reciprocal rank in words."""
    words = f"Mean reciprocal rank, adapted less frozen: {100 * mean:+.1f} ± {100 * half:.1f} points"
    if abs(mean) <= half:
        return f"{words}: no clear gain."
    return f"{words}." + (" Held-out pairs rank worse than before: stay with the frozen features." if mean < 0 else "")


def _changed(fitted: SpectralMap, found: _Features) -> list[tuple[str, str, str]]:
    """Held-out queries whose first hit changed, with both hits, as texts or by row."""
    held = fitted.held_out
    if held is None or held.first_hits is None:
        return []

    def words(row: int, side: int, own: int) -> str:
        text = f"row {row:,}" if found.texts is None else found.texts[side][row][:_LETTERS]
        return f"* {text}" if side and row == own else text

    changed = held.first_hits[held.first_hits[:, 1] != held.first_hits[:, 2]][:_CHANGED].tolist()
    return [(words(own, 0, own), words(before, 1, own), words(after, 1, own)) for own, before, after in changed]


def _write_features(file: Path, found: _Features, fitted: SpectralMap, trained: Training | None) -> None:
    """Adapted unit features of both sides, as parquet with columns anchor and positive."""
    import pyarrow as pa

    from pairsift.data.tables import write_table

    if trained is not None and trained.head is not None:
        sides = [trained.head.transform(each) for each in found.arrays()]
    else:
        sides = [fitted.transform(found.first)[found.kept], fitted.transform_second(found.second)[found.kept]]
        sides = [each / np.maximum(np.linalg.norm(each, axis=1, keepdims=True), 1e-30) for each in sides]
    columns = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(each).ravel()), each.shape[1])
        for name, each in zip(("anchor", "positive"), sides, strict=True)
    }
    write_table(file, pa.table(columns))
