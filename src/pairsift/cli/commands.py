"""The table of commands, which is readable before the packages of any command are imported."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Command(NamedTuple):
    """A command of `pairsift`.

    Attributes:
        extra: the extra of pairsift that installs the packages of the command.
        summary: the first paragraph of the command's help.
        renamed: flags of earlier versions, and their names today.
        accepted: the renamed flags that work for one more release, with a note.
    """

    extra: str
    summary: str
    renamed: Mapping[str, str] = MappingProxyType({})
    accepted: Mapping[str, str] = MappingProxyType({})


_OUTPUT = {"--run-dir": "--output"}
_BAND = {"--pos-high": "--band-start", "--pos-low": "--band-stop"}
COMMANDS = {
    "train": Command(
        "train",
        "Train an encoder on DATA with plain or treated pairs: SimCLR, MoCo or the spectral loss.",
        {
            **_OUTPUT,
            "--class-mates": "--same-class-weight",
            "--key-groups": "--bn-splits",
            "--memory": "--memory-gb",
            **_BAND,
        },
        {"--chunk": "--mini-batch-size"},
    ),
    "embed": Command("train", "Write the features of DATA as parquet: row, features, label and path where known."),
    "scan": Command(
        "scan",
        "Find difficult examples in embeddings, without labels: scores, close pairs of different clusters, a list to "
        "drop, a page to look at.",
        {
            "--drop": "--drop-fraction",
            "--guide": "--guide-features",
            "--labels": "--label-column",
            "--memory": "--memory-gb",
            "--out": "--output",
            **_BAND,
        },
    ),
    "pairs": Command(
        "scan",
        "Find what hurts a retriever in its training pairs: duplicates, likely false negatives, bad mined negatives.",
    ),
    "adapt": Command(
        "train",
        "Adapt frozen embeddings to pairs: a linear map in closed form, its settings chosen on held-out pairs.",
    ),
    "probe": Command("train", "Measure the encoder of RUN: linear probe and kNN accuracy on TEST, learned from TRAIN."),
    "export": Command("train", "Write the encoder of RUN as a folder for the Hugging Face Hub, with a model card."),
    "demo": Command(
        "all",
        "Compare plain and treated SimCLR on digits, find their difficult pairs, and write a page; a minute.",
        _OUTPUT,
    ),
    "theory": Command(
        "report",
        "Compute the theory's graph of given levels, measure the levels of embeddings, or predict class collapse.",
        _BAND,
    ),
    "study": Command(
        "cli", "Studies are not part of the package: run `python -m lab NAME` in a checkout of the repository."
    ),
    "text-views": Command(
        "text", "Write a synonym and an antonym version of every text: semantic negatives (arXiv 2107.00440)."
    ),
}


def called(arguments: list[str]) -> tuple[str, str]:
    """The extra that a command line needs, and the name of the command for a message."""
    name = command_of(arguments)
    return (COMMANDS[name].extra, f"pairsift {name}") if name in COMMANDS else ("all", "pairsift")


def command_of(arguments: list[str]) -> str | None:
    """The name of the command that a command line calls, if any."""
    return next((each for each in arguments if not each.startswith("-")), None)
