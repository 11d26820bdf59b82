"""`pairsift text-views`: write synonym and antonym versions of texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairsift.cli.app import console
from pairsift.cli.progress import progress


def text_views(
    texts: Annotated[
        Path,
        typer.Argument(metavar="TEXTS", help="table with a column of texts (parquet, jsonl, csv), or .txt, one a line"),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="parquet file to write")],
    column: Annotated[str | None, typer.Option(help="column of the texts (default: text or sentence)")] = None,
    synonyms: Annotated[float, typer.Option(help="share of words that a synonym version replaces")] = 0.4,
    antonyms: Annotated[float, typer.Option(help="share of words that an antonym version replaces")] = 0.2,
    random_share: Annotated[float, typer.Option(help="share of antonym versions that get random words")] = 0.0,
    seed: Annotated[int, typer.Option(help="seed of all draws")] = 0,
    wordnet: Annotated[Path | None, typer.Option(help="folder of WordNet files (default: the installed one)")] = None,
) -> None:
    """Write a synonym and an antonym version of every text: semantic negatives (arXiv 2107.00440)."""
    from pairsift.text import WordNet, write_views

    with progress("texts") as tell:
        summary = write_views(
            texts, output, column, progress=tell, synonyms=synonyms, antonyms=antonyms, random_share=random_share,
            seed=seed, thesaurus=WordNet(wordnet),
        )  # fmt: skip
    say = console.print
    say(
        f"{summary.texts:,} texts, {summary.texts / summary.seconds:,.0f} a second: {output}",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    say(f"both versions: {summary.both / summary.texts:.1%}", highlight=False)
    for name in ("synonym", "antonym"):
        count, share = getattr(summary, name), getattr(summary, f"{name}_share")
        say(f"{name} version: {count / summary.texts:.1%}, words replaced in it: {share:.1%}", highlight=False)
    for views in summary.examples:
        for version in (views.synonym, views.antonym):
            assert version is not None
            changes = ", ".join(f"{change.old} -> {change.new}" for change in version.changes)
            say(f"  {version.text:.100} ({changes:.80})", highlight=False, markup=False, soft_wrap=True)
