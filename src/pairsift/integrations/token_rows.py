"""Finds which examples a batch of tokens holds: by a hash of the tokens of each text."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# Texts tokenised at once, which are padded to the longest of them.
_AT_ONCE = 1024
# As text_keys: 53 bits are exact in float64 too.
_BITS = 53


class TokenRows:
    """Finds the positions of examples by the tokens of their texts.

    Args:
        preprocess: texts to a dictionary of tokens, as the model in training makes them.
        columns: N texts of each column.

    Raises:
        ValueError: a tokeniser that gives no `input_ids`.
    """

    def __init__(self, preprocess: Callable[[list[str]], dict[str, Any]], columns: Sequence[Sequence[str]]) -> None:
        self._rows: dict[bytes, int] = {}
        self._columns = len(columns)
        for start in range(0, len(columns[0]), _AT_ONCE):
            tokens = [preprocess(list(column[start : start + _AT_ONCE])) for column in columns]
            for row, key in enumerate(_examples(tokens), start):
                self._rows.setdefault(key, row)

    def of(self, columns: Sequence[dict[str, Any]]) -> Tensor:
        """(B,) positions of a batch's examples.

        Raises:
            ValueError: another number of columns than the examples have, or texts that none of them has.
        """
        if len(columns) != self._columns:
            raise ValueError(f"the guide mask was fitted to {self._columns} columns, and the batch has {len(columns)}")
        keys = _examples(columns)
        missing = sum(key not in self._rows for key in keys)
        if missing:
            raise ValueError(
                f"{missing} of {len(keys)} examples of the batch are none that the guide mask was fitted to: fit it to "
                "the columns that are trained on, in their order, with the prompts that the trainer puts before them"
            )
        return torch.tensor([self._rows[key] for key in keys])

    def knows(self, columns: Sequence[dict[str, Any]]) -> bool:
        """Whether `of` finds every example of a batch."""
        return len(columns) == self._columns and all(key in self._rows for key in _examples(columns))


def token_keys(tokens: dict[str, Any]) -> Tensor:
    """(B,) int64 in [0, 2^53), equal where the tokens of texts are.

    Raises:
        ValueError: tokens without `input_ids` or `attention_mask`.
    """
    return torch.tensor([int.from_bytes(each[:8], "big") >> (64 - _BITS) for each in _hashes(tokens)])


def _examples(columns: Sequence[dict[str, Any]]) -> list[bytes]:
    """One key an example, of all its texts."""
    hashed = [_hashes(tokens) for tokens in columns]
    return [b"".join(parts) for parts in zip(*hashed, strict=True)]


def _hashes(tokens: dict[str, Any]) -> list[bytes]:
    if "input_ids" not in tokens or "attention_mask" not in tokens:
        raise ValueError(
            f"texts are found by input_ids and attention_mask, and the tokens hold {sorted(tokens)}: pad batches "
            "(no flattened inputs), and use a transformer"
        )
    ids, lengths = tokens["input_ids"].cpu(), tokens["attention_mask"].cpu().bool()
    return [
        hashlib.blake2b(row[real].to(torch.int32).numpy().tobytes(), digest_size=10).digest()
        for row, real in zip(ids, lengths, strict=True)
    ]
