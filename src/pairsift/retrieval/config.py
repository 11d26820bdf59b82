"""Settings of an inspection: every option of `pairsift pairs` and every YAML key is a field of `PairsConfig`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from pairsift._base.settings import Settings, setting

# Old names of settings, and their replacements.
_RENAMED = {
    "guide": "use `guide_model` for an encoder, `guide_features` for a file of features",
    "out": "it is `output` since 0.3",
}
# The least that a number may be.
_LEAST = {"neighbours": 1, "sample": 2, "examples": 0, "max_conflicts": 1, "guide_batch_size": 1}
# Shares in (0, 1] of a whole.
_SHARES = {
    "cap": "the candidates", "spelling": "shingles", "judge_floor": "the highest score",
    "judge_share": "the positive's score", "refill_share": "the positive's similarity",
}  # fmt: skip


class PairsError(ValueError):
    """Pairs that cannot be inspected as asked; the message gives the reason and the remedy."""


class PairsConfig(Settings):
    """Settings of `pairsift.retrieval.inspect_pairs`.

    Raises:
        PairsError: unknown fields (the nearest known name is given) or bad values, each named.

    Example:
        >>> import pairsift as ps
        >>> config = ps.retrieval.PairsConfig(guide_model="minilm", margin=0.05)
        >>> config.margin, config.cap
        (0.05, 0.1)
    """

    error = PairsError
    unsaved = frozenset({"overwrite"})

    split: str | None = setting(
        None, "Input", "split of a folder or data set that has several (None: train where there is one)"
    )
    anchor: str | None = setting(None, "Input", "column of anchors (None: the usual one)")
    positive: str | None = setting(None, "Input", "column of positives (None: the usual one)")
    negatives: str | None = setting(
        None, "Input", "columns of mined negatives, commas between (None: the usual ones; 'none' for none)"
    )
    label: str | None = setting(
        None, "Input", "column of labels or scores of the pairs (None: the usual one; 'none': every row is a positive "
        "pair)",
    )  # fmt: skip
    positive_label: str | None = setting(None, "Input", "labels of positive pairs, commas between (None: 1 and true)")
    min_score: float | None = setting(
        None, "Input", "score from which a pair is a positive one (None: 0.5 for scores in [0, 1])"
    )

    against: Path | None = setting(
        None, "Evaluation", "evaluation set: a table, or a folder of BEIR. The training pairs must not hold its texts"
    )
    against_column: str | None = setting(
        None, "Evaluation", "column of its texts (None: the usual one of anchors, 'text', or the only one)"
    )
    against_split: str | None = setting(
        None, "Evaluation", "split of it, where it has several (None: test, or the only one)"
    )
    leaks: Literal["drop", "keep"] = setting(
        "drop",
        "Evaluation",
        "drop or keep rows that share a text with the evaluation set, or nearly",
    )

    guide_model: str | None = setting(
        None, "Guide", "encoder that compares texts: 'minilm' (packaged), a sentence-transformers name or folder"
    )
    guide_features: Path | None = setting(
        None, "Guide", "file of features that compare texts, .parquet, .npy or .npz (without a guide, embeddings are "
        "compared directly, and texts by their spelling alone)",
    )  # fmt: skip
    query_prompt: str | None = setting(
        None, "Guide", "prompt that the guide reads before each anchor (None: the encoder's encode_query)"
    )
    document_prompt: str | None = setting(
        None, "Guide", "prompt that the guide reads before all other texts (None: the encoder's encode_document)"
    )
    guide_device: str | None = setting(None, "Guide", "device of the guide model: cpu, cuda or mps (None: the best)")
    guide_batch_size: int | None = setting(None, "Guide", "texts that the guide model encodes at once (None: its own)")
    margin: float | None = setting(
        None, "Guide", "how far below its own positive a candidate may be, as a part of that similarity (None: the "
        "spread of known positives)",
    )  # fmt: skip
    floor: float | None = setting(
        None, "Guide", "similarity below which nothing is a false negative (None: the 90th percentile of known "
        "positives; -1: none)",
    )  # fmt: skip
    cap: float = setting(
        0.1, "Guide", "share of the candidates above a known positive from which the guide is ignored for the row",
    )  # fmt: skip
    near: float | None = setting(
        None, "Guide", "similarity from which two texts are near-duplicates (None: from the distances of neighbours)"
    )
    spelling: float = setting(
        0.8, "Guide", "share of common shingles from which two texts are near-duplicates by spelling (1: the same "
        "words)",
    )  # fmt: skip
    neighbours: int = setting(50, "Guide", "most similar candidates of a row that are compared one by one")
    sample: int = setting(2048, "Guide", "rows on which rates are measured, against all candidates")
    seed: int = setting(0, "Guide", "seed of samples, search and refilled negatives", ge=0)

    judge: str | None = setting(
        None, "Judge", "cross-encoder (name or folder), or module:function, that scores suspicious negatives and "
        "low-ranked positives, in [0, 1]",
    )  # fmt: skip
    judge_floor: float = setting(0.5, "Judge", "least score of a positive pair")
    judge_share: float = setting(
        0.95, "Judge", "share of the own positive's score from which a negative is a bad one, above the floor"
    )
    judged_positives: Literal["drop", "relabel"] = setting(
        "drop", "Judge", "negatives that score as high as their row's positive: drop removes them, relabel also adds a "
        "row with each of them as positive",
    )  # fmt: skip

    corpus: Path | None = setting(
        None, "Clean", "further texts to replace bad negatives with: a table, or a folder of BEIR (None: positives of "
        "other rows alone)",
    )  # fmt: skip
    corpus_column: str | None = setting(None, "Clean", "column of its texts (None: the usual one, or the only one)")
    corpus_split: str | None = setting(
        None, "Clean", "split of it, where it has several (None: train, or the only one)"
    )
    refill_share: float | None = setting(
        None, "Clean", "largest similarity of a new negative, as a share of the positive's (None: 1 less `margin`)",
    )  # fmt: skip
    drop_near: bool = setting(False, "Clean", "leave near-duplicate rows out of clean.parquet, not only duplicates")
    labelled_negatives: Literal["drop", "keep"] = setting(
        "drop", "Clean", "drop rows that are labelled as no pair, or keep them unchanged"
    )
    wrong_positives: Literal["keep", "drop"] = setting(
        "keep", "Clean", "keep or drop rows whose positive the guide ranks below more than `cap` of the candidates"
    )
    bad_negatives: Literal["refill", "drop", "null"] = setting(
        "refill", "Clean", "mined negatives that look like positives, or are missing: refill takes another text (a "
        "list keeps its others), drop leaves the row out, null leaves the cell empty",
    )  # fmt: skip

    threads: int | None = setting(None, "Machine", "CPU threads (None or 0: all)")

    output: Path | None = setting(None, "Output", "folder to write to")
    examples: int = setting(30, "Output", "of each kind on the page")
    max_conflicts: int = setting(10_000_000, "Output", "pairs of conflicts.parquet; the most similar are kept")
    overwrite: bool = setting(False, "Output", "replace the inspection in the output folder")

    @model_validator(mode="after")
    def _in_range(self) -> PairsConfig:
        for name in ("margin", "floor", "near", "min_score"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value}")
        if self.near is not None and not -1 <= self.near <= 1:
            raise ValueError(f"near must lie in [-1, 1], got {self.near}: it is a cosine")
        for name, of in _SHARES.items():
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {value}: it is a share of {of}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        return self

    @model_validator(mode="after")
    def _named(self) -> PairsConfig:
        for name in type(self).model_fields:
            if getattr(self, name) == "" and not name.endswith("_prompt"):
                raise ValueError(f"{name} is empty: give a name, or leave it out")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> PairsConfig:
        if (self.threads or 0) < 0:
            raise ValueError(f"threads must be positive, got {self.threads}")
        for one, other in (("guide_model", "guide_features"), ("positive_label", "min_score")):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ValueError(f"give `{one}` or `{other}`, not both")
        return self

    @classmethod
    def hint(cls, name: str) -> str | None:
        """The replacement of an unknown name."""
        return _RENAMED.get(name) or super().hint(name)
