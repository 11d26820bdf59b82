"""Judges: models or functions that score a query with a text, for the few pairs that a guide cannot decide.

A judge reads both texts of a pair at once, so it is slower than a guide and right more often. It is asked about mined
negatives that could be positives, about the positives of their rows, and about positives that the guide ranks low.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pairsift._base.checks import first_line
from pairsift._base.extras import needs
from pairsift.retrieval.config import PairsConfig, PairsError
from pairsift.retrieval.index import Pairing, texts_of
from pairsift.retrieval.read import IntArray, PairsSource

# Scores of (query, text) pairs, each in [0, 1].
Score = Callable[[list[tuple[str, str]]], ArrayLike]
# Pairs that one call of a judge gets.
_PAIRS = 1024


@dataclass(frozen=True)
class Judgement:
    """What a judge said.

    Attributes:
        name: of the judge.
        asked: pairs of texts that it scored.
        positives: (n,) score of each anchor with its positive, nan where it was not asked.
        negatives: (M,) score of each anchor with a mined negative, nan where it was not asked.
        floor: score from which a pair is a positive one.
    """

    name: str
    asked: int
    positives: NDArray[np.float64]
    negatives: NDArray[np.float64]
    floor: float

    @property
    def right(self) -> NDArray[np.bool_]:
        """(n,) rows whose positive the judge calls one."""
        return np.asarray(self.positives >= self.floor)

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """(n,) rows whose positive the judge calls none."""
        return np.asarray(self.positives < self.floor)


class Judge:
    """Scores pairs of texts of a pairing, each pair once.

    Args:
        name: for messages.
        score: the model or function.
        source: holds the texts.
        pairing: numbers them.
        tell: hears how many pairs are done, and how many there are.
    """

    def __init__(
        self, name: str, score: Score, source: PairsSource, pairing: Pairing, tell: Callable[[int, int], None]
    ) -> None:
        self.name, self.asked = name, 0
        self._score, self._source, self._pairing, self._tell = score, source, pairing, tell
        self._known: dict[int, float] = {}

    def __call__(self, anchors: IntArray, texts: IntArray) -> NDArray[np.float64]:
        """(P,) scores of anchors with texts, in [0, 1].

        Raises:
            PairsError: the judge fails, or gives other than a number in [0, 1] for each pair.
        """
        codes = self._pairing.code(anchors, texts)
        new = np.array([code for code in np.unique(codes).tolist() if code not in self._known], np.int64)
        n = self._pairing.n_texts
        held = texts_of(self._source, self._pairing, np.concatenate([new // n, new % n]))
        for start in range(0, len(new), _PAIRS):
            some = new[start : start + _PAIRS]
            scores = self._checked([(held[code // n], held[code % n]) for code in some.tolist()])
            self._known.update(zip(some.tolist(), scores.tolist(), strict=True))
            self._tell(start + len(some), len(new))
        self.asked += len(new)
        return np.array([self._known[code] for code in codes.tolist()], np.float64)

    def _checked(self, pairs: list[tuple[str, str]]) -> NDArray[np.float64]:
        try:
            scores = np.asarray(self._score(pairs), np.float64)
        except Exception as error:  # models and services each fail in their own ways
            raise PairsError(f"the judge {self.name} failed: {first_line(error)}") from error
        if scores.shape != (len(pairs),) or not (np.isfinite(scores) & (scores >= 0) & (scores <= 1)).all():
            shown = f"shape {scores.shape}" if scores.shape != (len(pairs),) else f"values such as {_outside(scores):g}"
            raise PairsError(
                f"the judge {self.name} gave {shown} for {len(pairs):,} pairs: it must give a number in [0, 1] for "
                "each, 1 where the text answers the query"
            )
        return scores


def _outside(scores: NDArray[np.float64]) -> float:
    return float(scores[~((scores >= 0) & (scores <= 1))][0])


def open_judge(source: PairsSource, config: PairsConfig, judge: Score | None) -> tuple[str, Score] | None:
    """The name of the judge and the function that scores; None where there is none.

    Args:
        source: the pairs.
        config: names a cross-encoder, or a function as `module:function`.
        judge: a function to use instead.

    Raises:
        PairsError: it cannot be loaded, or the pairs are embeddings.
    """
    if judge is None and config.judge is None:
        return None
    name = str(config.judge or getattr(judge, "__name__", type(judge).__name__))
    if source.kind == "embeddings":
        raise PairsError(f"the judge {name} reads texts, and {source.name} holds embeddings: leave `judge` out")
    if not any(source.columns.negatives) and config.guide_model is None and judge is None:
        raise PairsError(
            f"{source.name} has no mined negatives, and without a guide no positive is suspicious: there is nothing "
            f"to ask {name!r}"
        )
    if judge is not None:
        return name, judge
    module, _, function = name.rpartition(":")
    return name, _imported(name, module, function) if module and not Path(name).exists() else _cross_encoder(
        name, config.guide_device
    )


def _imported(name: str, module: str, function: str) -> Score:
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise PairsError(
            f"the judge {name!r} cannot be imported ({first_line(error)}): give module:function, with the module on "
            "the path (PYTHONPATH=.)"
        ) from error
    if not callable(found):
        raise PairsError(f"the judge {name!r} is {type(found).__name__}, not a function of (query, text) pairs")
    score: Score = found
    return score


def _cross_encoder(name: str, device: str | None) -> Score:
    with needs("text", f"the judge {name!r}", PairsError):
        from sentence_transformers import CrossEncoder
        from torch import nn
    try:
        model = CrossEncoder(name, device=device)
    except Exception as error:  # hub, network and files each fail in their own ways
        raise PairsError(
            f"the judge {name!r} cannot be loaded ({first_line(error)}): give the name or folder of a cross-encoder, "
            "or module:function"
        ) from error
    if model.num_labels != 1:
        raise PairsError(f"the judge {name!r} gives {model.num_labels} scores for a pair: give a cross-encoder of one")

    def score(pairs: Sequence[tuple[str, str]]) -> Any:
        return model.predict(list(pairs), activation_fn=nn.Sigmoid(), show_progress_bar=False)

    return score
