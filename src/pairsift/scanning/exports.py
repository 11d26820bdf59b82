"""A finished scan in the words of other tools: one table, and plain columns for cleanlab and FiftyOne."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pairsift.scanning.scanned import _Scanned


def row_table(scan: _Scanned) -> pa.Table:
    """One line a row (N): the columns of scores.parquet, and what was found of the row.

    Further columns: with labels `label_issue` (bool) and `suggested` (class, null where there is no issue); `duplicate`
    (bool, a copy of a row that stays) and `copies_of` (the row to keep, null for rows without copies).
    """
    table, n = scan.score_table(), len(scan)
    if scan.label_issues is not None:
        at = scan.label_issues.column("position").to_numpy()
        issue, suggested = np.zeros(n, bool), np.zeros(n, np.int64)
        issue[at], suggested[at] = True, scan.label_issues.column("suggested").to_numpy()
        table = table.append_column("label_issue", pa.array(issue))
        table = table.append_column("suggested", pa.array(suggested, mask=~issue))
    if scan.duplicates is not None:
        at = scan.duplicates.column("position").to_numpy()
        extra, keeper = np.zeros(n, bool), np.full(n, -1)
        extra[at] = ~scan.duplicates.column("keep").to_numpy(zero_copy_only=False)
        keeper[at] = scan.duplicates.column("keeper").to_numpy()
        table = table.append_column("duplicate", pa.array(extra))
        table = table.append_column("copies_of", pa.array(scan.rows[keeper], mask=keeper < 0))
    return table


def cleanlab_columns(scan: _Scanned) -> dict[str, NDArray[Any]]:
    """The columns of cleanlab's `Datalab.get_issues()`, each (N,); scores lie in [0, 1], and lower ones are worse.

    `is_outlier_issue` holds for rows that score 0.95 or more, two robust standard deviations above the median row.
    Without labels there are no columns of label issues.
    """
    table = row_table(scan)
    columns: dict[str, NDArray[Any]] = {"outlier_score": 1 - scan.scores, "is_outlier_issue": scan.scores >= _OUTLIER}
    if scan.label_scores is not None:
        columns |= {
            "label_score": 1 - scan.label_scores,
            "is_label_issue": table.column("label_issue").to_numpy(zero_copy_only=False),
        }
    if scan.duplicates is not None:
        copied, distance = np.zeros(len(scan), bool), np.ones(len(scan))
        at = scan.duplicates.column("position").to_numpy()
        copied[at] = True
        distance[at] = 1 - scan.duplicates.column("similarity").to_numpy()
        columns |= {"near_duplicate_score": np.clip(distance, 0, 1), "is_near_duplicate_issue": copied}
    return columns


def fiftyone_fields(scan: _Scanned) -> dict[str, list[Any]]:
    """Fields of FiftyOne samples, N values each in the order of the rows, for `dataset.set_values(name, values)`.

    `hardness` is the difficulty score and `mistakenness` the label score, by the names of FiftyOne's brain.
    """
    table = row_table(scan)
    fields: dict[str, list[Any]] = {
        "hardness": _numbers(scan.scores), "cluster": [int(each) for each in scan.clusters],
    }  # fmt: skip
    if scan.label_scores is not None:
        fields["mistakenness"] = _numbers(scan.label_scores)
        fields["possible_label"] = table.column("suggested").to_pylist()
    if scan.duplicates is not None:
        fields["duplicate"] = table.column("duplicate").to_pylist()
        fields["copies_of"] = table.column("copies_of").to_pylist()
    return fields


# Two robust standard deviations above the median row.
_OUTLIER = 0.95


def _numbers(values: NDArray[Any]) -> list[float | None]:
    return [float(each) if np.isfinite(each) else None for each in values]
