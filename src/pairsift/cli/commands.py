"""The commands by name, known before any of them is loaded: which extra brings what each needs, and what it does."""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """The extra, and a line of the list of commands: the first paragraph of the command's own help."""

    extra: str
    summary: str


COMMANDS = {
    "train": Command(
        "train", "Train an encoder on DATA with plain or treated pairs: SimCLR, MoCo or the spectral loss."
    ),
    "embed": Command("train", "Write the features of DATA as parquet: row, features, label and path where known."),
    "scan": Command(
        "scan",
        "Find difficult examples in embeddings, without labels: scores, bridging pairs, a drop list, a page to look "
        "at.",
    ),
    "pairs": Command(
        "scan",
        "Find what hurts a retriever in its training pairs: duplicates, likely false negatives, bad mined negatives.",
    ),
    "probe": Command("train", "Measure the encoder of RUN: linear probe and kNN accuracy on TEST, learned from TRAIN."),
    "demo": Command(
        "all",
        "Plain SimCLR and the combined treatment on digits, a fifth of them mixed: a table, a scan; some minutes.",
    ),
    "theory": Command(
        "report",
        "The similarity graph of given or measured levels: exact spectrum, printed bounds beside exact ones, advice; "
        "what labels in a loss do to classes.",
    ),
    "study": Command(
        "cli", "Studies are not part of the package: run `python -m lab NAME` in a checkout of the repository."
    ),
    "text-views": Command(
        "text", "Write a synonym and an antonym version of every text: semantic negatives (arXiv 2107.00440)."
    ),
}


def called(arguments: list[str]) -> tuple[str, str]:
    """The extra that brings what a command line needs, and how a message names what needs it."""
    name = command_of(arguments)
    return (COMMANDS[name].extra, f"pairsift {name}") if name in COMMANDS else ("all", "pairsift")


def command_of(arguments: list[str]) -> str | None:
    """The name of the command that a command line calls, if any."""
    return next((each for each in arguments if not each.startswith("-")), None)
