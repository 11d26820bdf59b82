"""Batches for the three-part objective: texts masked, and which word pieces of their versions were replaced."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pairsift.text.heads import IGNORED
from pairsift.text.semantic import View, ViewMaker

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# (text, where characters were replaced) of a version; None where there is none.
_Version = tuple[str, list[tuple[int, int]]]


class SemanticCollator:
    """Makes the batches of a `ThreePartModel`: `transformers.Trainer(..., data_collator=SemanticCollator(tokenizer))`.

    A row is a text, or a mapping with "text". One that also has "synonym" and "antonym" and the columns of their
    changes, as `pairsift text-views` writes them, is taken as it is; of others the versions are made here, the same for
    a text each time. A text without a synonym version is its own (dropout tells them apart); one without an antonym
    version has none, which `present` says.

    Args:
        tokenizer: a fast one, which knows where in the text its pieces stand.
        masked: share of a text's tokens that are masked for MLM, in [0, 1): 80 % by the mask, 10 % by a random token.
        max_length: tokens of a text at most.
        classes: labels of replaced tokens: 2, or 3 to tell synonym (1) from antonym versions (2).
        **views: `synonyms`, `antonyms`, `random_share`, `seed`, `relations`, `thesaurus`; see `semantic_views`. The
            seed is also that of the masks.

    Raises:
        ValueError: a slow tokenizer, one without a mask token, or a setting out of range.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        masked: float = 0.15,
        max_length: int = 128,
        classes: int = 2,
        **views: Any,
    ) -> None:
        from transformers import DataCollatorForLanguageModeling

        if not tokenizer.is_fast:
            raise ValueError(f"{type(tokenizer).__name__} is a slow tokenizer, which does not say where pieces stand")
        if not 0 <= masked < 1:
            raise ValueError(f"masked must be a share of the tokens in [0, 1), got {masked}")
        if classes not in (2, 3):
            raise ValueError(f"classes must be 2 or 3, got {classes}")
        self.tokenizer, self.max_length, self.classes = tokenizer, max_length, classes
        self.maker = ViewMaker(**views)
        # The library refuses a share of 0, which here means no masks.
        self._masks = None
        if masked:
            self._masks = DataCollatorForLanguageModeling(tokenizer, mlm_probability=masked, seed=self.maker.seed)

    def __call__(self, rows: Sequence[str | Mapping[str, Any]]) -> dict[str, Tensor]:
        """The batch of N rows; see `ThreePartModel.forward`.

        Raises:
            ValueError: a row without a text.
        """
        versions = [self._versions(row) for row in rows]
        originals = [text for text, _, _ in versions]
        synonyms = [(text, []) if synonym is None else synonym for text, synonym, _ in versions]
        antonyms = [(text, []) if antonym is None else antonym for text, _, antonym in versions]
        # The fast tokenizer answers with offsets and special tokens beside its usual names.
        batch = self.tokenizer(
            [*originals, *(text for text, _ in (*synonyms, *antonyms))], padding=True, truncation=True,
            max_length=self.max_length, return_offsets_mapping=True, return_special_tokens_mask=True,
            return_tensors="pt",
        )  # fmt: skip
        places = batch.pop("offset_mapping").numpy()
        special = batch.pop("special_tokens_mask").bool()
        n = len(rows)
        present = torch.tensor([antonym is not None for _, _, antonym in versions])
        replaced = torch.full_like(batch["input_ids"][n:], IGNORED)
        for at, (text, spans) in enumerate((*synonyms, *antonyms)):
            if at < n or present[at - n]:
                label = 2 if self.classes == 3 and at >= n else 1
                flags = torch.from_numpy(_overlaps(len(text), spans, places[n + at])).long() * label
                replaced[at] = flags.where(~special[n + at], IGNORED)
        labels = torch.full_like(batch["input_ids"][:n], IGNORED)
        if self._masks is not None:
            masked, labels = self._masks.torch_mask_tokens(batch["input_ids"][:n].clone(), special[:n].clone())
            batch["input_ids"][:n] = masked
        return {**batch, "mlm_labels": labels, "replaced_labels": replaced, "present": present}

    def _versions(self, row: str | Mapping[str, Any]) -> tuple[str, _Version | None, _Version | None]:
        if isinstance(row, str):
            row = {"text": row}
        if not isinstance(row.get("text"), str):
            raise ValueError(f"a row must be a text or have one under 'text', got {sorted(row)}")
        if {"synonym", "antonym", "synonym_changes", "antonym_changes"} <= row.keys():
            return row["text"], _stored(row, "synonym"), _stored(row, "antonym")
        views = self.maker.views(row["text"])
        return row["text"], _made(views.synonym), _made(views.antonym)


def _made(view: View | None) -> _Version | None:
    return None if view is None else (view.text, [(change.start, change.stop) for change in view.changes])


def _stored(row: Mapping[str, Any], name: str) -> _Version | None:
    if row[name] is None:
        return None
    return row[name], [(change["start"], change["stop"]) for change in row[f"{name}_changes"]]


def _overlaps(length: int, spans: list[tuple[int, int]], places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(T,) whether a piece at (start, stop) holds a replaced character."""
    marks = np.zeros(length + 1, dtype=np.int64)
    for start, stop in spans:
        marks[start + 1 : stop + 1] = 1
    before = marks.cumsum()
    held: np.ndarray[Any, Any] = before[places[:, 1]] > before[places[:, 0]]
    return held
