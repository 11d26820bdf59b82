"""Copies in the whole set: groups of duplicates, and leaks between splits or into another set.

Where the reference holds every row, its search has found all copies. In a larger set candidates are sought by an
inverted file in a few dimensions, where distances can only be smaller, and full features confirm them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pairsift.data import FeatureSource
from pairsift.neighbors import FloatArray, IntArray
from pairsift.scanning.config import ScanError
from pairsift.scanning.duplicates import Links, Nearness, ReducedIndex, duplicate_table, keepers, unique_links
from pairsift.scanning.reference import BLOCK_ROWS, CANDIDATES, Reference

# Pairs whose features are read at once.
_PAIRS = 8192


class CopySearch:
    """Finds the copies of any row among the rows of a scanned set.

    Args:
        source: the features of the set.
        reference: learned from it.
        skipped: positions of rows that are left out.
        spacing: (N,) local scale of every row.
        seed: of the inverted file of a large set.
    """

    def __init__(
        self, source: FeatureSource, reference: Reference, skipped: IntArray, spacing: NDArray[np.float64], seed: int
    ) -> None:
        self._source, self._reference, self._skipped, self._spacing = source, reference, skipped, spacing
        good = source.shape[0] - len(skipped)
        self._nearness: Nearness = reference.nearness.among(len(reference.rows) / good)
        self._index: ReducedIndex | None = None
        if len(reference.rows) < good:
            sample = reference.unit(source.take(reference.rows))
            self._index = ReducedIndex(reference.reduced, sample, good, seed)
            for rows, unit in self._blocks():
                self._index.add(unit, rows)

    def duplicates(self) -> pa.Table:
        """Groups of copies in the set, see `pairsift.Scan.duplicates`."""
        n, reference = self._source.shape[0], self._reference
        if self._index is None:
            keeper, cosine = np.arange(n), np.ones(n, np.float32)
            keeper[reference.rows] = reference.rows[reference.keepers]
            cosine[reference.rows] = reference.keeper_cosines
            return duplicate_table(keeper, cosine)
        first, second = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for rows, unit in self._blocks():
            found, least = self._index.candidates(unit)
            scale = np.minimum(self._spacing[rows][:, None], self._spacing[found])
            i, j = np.nonzero((found >= 0) & (found != rows[:, None]) & self._nearness.near(least, scale))
            first.append(np.minimum(rows[i], found[i, j]))
            second.append(np.maximum(rows[i], found[i, j]))
        pairs = np.unique(np.stack([np.concatenate(first), np.concatenate(second)]), axis=1)
        cosines = [np.zeros(0, np.float32)]
        for start in range(0, pairs.shape[1], _PAIRS):
            one, other = pairs[:, start : start + _PAIRS]
            cosines.append(np.einsum("pd,pd->p", self._unit(one), self._unit(other)))
        links = self._confirmed(pairs[0], pairs[1], np.concatenate(cosines))
        return duplicate_table(*keepers(links, n))

    def copies_of(self, other: FeatureSource) -> pa.Table:
        """Rows of another set with a copy in this one, each with its nearest: `against_row`, `row`, `similarity`.

        Raises:
            ScanError: a row of the other set is not finite.
        """
        found: list[tuple[IntArray, IntArray, NDArray[np.float32]]] = []
        for start, features in other.blocks(BLOCK_ROWS, 0, other.shape[0]):
            bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
            if len(bad):
                raise ScanError(f"{other.name}: row {start + bad[0]:,} is not finite: mend the encoder's output")
            found.append(self._nearest_copies(start + np.arange(len(features)), self._reference.unit(features)))
        rows, copies, cosines = (np.concatenate(each) for each in zip(*found, strict=True))
        return pa.table({
            "against_row": other.rows[rows], "row": self._source.rows[copies], "similarity": cosines,
        })  # fmt: skip

    def _nearest_copies(self, rows: IntArray, unit: FloatArray) -> tuple[IntArray, IntArray, NDArray[np.float32]]:
        """Those of some rows that have a copy, the position of the nearest, and its cosine."""
        reference = self._reference
        near, cosines = reference.nearest(unit, CANDIDATES)
        scale = reference.nearness.scale(near, cosines)
        if self._index is None:
            best, cosine = near[:, 0], cosines[:, 0]
            copies = (best >= 0) & reference.nearness.copies(cosine, scale, reference.spacing[best])
            return rows[copies], reference.rows[best[copies]], cosine[copies].astype(np.float32)
        found, least = self._index.candidates(unit)
        possible = (found >= 0) & self._nearness.near(least, np.minimum(scale[:, None], self._spacing[found]))
        i, j = np.nonzero(possible)
        cosine = np.einsum("pd,pd->p", unit[i], self._unit(found[i, j])) if len(i) else np.zeros(0, np.float32)
        copies = self._nearness.copies(cosine, scale[i], self._spacing[found[i, j]])
        i, j, cosine = i[copies], j[copies], cosine[copies]
        order = np.lexsort((-cosine, i))
        order = order[np.unique(i[order], return_index=True)[1]]
        return rows[i[order]], found[i[order], j[order]], cosine[order].astype(np.float32)

    def _blocks(self) -> Iterator[tuple[IntArray, FloatArray]]:
        """Positions and unit features of all rows that are not left out, block by block."""
        for start, features in self._source.blocks(BLOCK_ROWS, 0, self._source.shape[0]):
            rows = np.arange(start, start + len(features))
            kept = ~np.isin(rows, self._skipped)
            if kept.any():
                yield rows[kept], self._reference.unit(features[kept])

    def _unit(self, rows: IntArray) -> FloatArray:
        """Unit features of rows in any order, each read once."""
        unique, places = np.unique(rows, return_inverse=True)
        unit: FloatArray = self._reference.unit(self._source.take(unique))[places]
        return unit

    def _confirmed(self, first: IntArray, second: IntArray, cosines: FloatArray) -> Links:
        copies = self._nearness.copies(cosines, self._spacing[first], self._spacing[second])
        return unique_links(first[copies], second[copies], cosines[copies])


def leaks_between_splits(duplicates: pa.Table, known: pa.Table, rows: IntArray) -> pa.Table:
    """Duplicates of the groups that lie in more than one split, with row numbers and what is known of them.

    Args:
        duplicates: as in `pairsift.Scan.duplicates`.
        known: what is known of every row (N rows), with a column `split`.
        rows: (N,) row of each position in the set it came from.
    """
    positions = duplicates.column("position").to_numpy()
    group = duplicates.column("group").to_numpy()
    splits = np.unique(
        known.column("split").take(positions).to_numpy(zero_copy_only=False).astype(str), return_inverse=True
    )
    count = np.zeros((int(group.max(initial=-1)) + 1, len(splits[0])), bool)
    count[group, splits[1]] = True
    chosen = np.flatnonzero((count.sum(axis=1) > 1)[group])
    table = pa.table({
        "group": group[chosen], "row": rows[positions[chosen]],
        "similarity": duplicates.column("similarity").to_numpy()[chosen],
    })  # fmt: skip
    for name in known.column_names:
        table = table.append_column(name, known.column(name).take(positions[chosen]))
    return table
