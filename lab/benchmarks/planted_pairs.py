"""What `pairsift pairs` finds of planted near-duplicates and of planted bad mined negatives.

    PAIRSIFT_DATA=... python -m lab.benchmarks.planted_pairs [--sets banking77 trec6 newsgroups20]
        [--rows 800 500 300] [--output lab/benchmarks/results/planted-pairs.jsonl]

Pairs are two texts of one class. Near-duplicates: 90 rows come once more, both texts changed in one of six ways: case,
punctuation, order of the halves, two letters of the longest word exchanged, a greeting or thanks added, a small word
left out. They are looked for by spelling alone, and with the packaged MiniLM. Where semhash is installed it compares
both texts of a row as one record, under the same MiniLM and at its own threshold. A planted row counts as found if
semhash takes it for a copy of any row.

Bad negatives: each row has the four texts of other classes that MiniLM finds most similar, and 15 % of them are
replaced by a text of the row's own class. They are looked for without a judge, and with an oracle of the
classes.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lab.benchmarks._common import emit, environment, versions

PLANTED, NEGATIVES, SHARE_BAD, MOST_LETTERS = 90, 4, 0.15, 1000
_SMALL = ("the", "a", "an", "my", "to", "of", "is", "in", "i")


def changed(text: str, way: int, rng: random.Random) -> str:
    """A text that says the same, in one of six ways."""
    words = text.split()
    if way == 0:
        return (text.upper() if rng.random() < 0.5 else text.title()) + rng.choice(["!!", "...", "", " ?"])
    if way == 1:
        return re.sub(r"[?.!,;:']", "", text) + rng.choice([".", " -"])
    if way == 2:
        return " ".join(words[len(words) // 2 :] + words[: len(words) // 2])
    if way == 3:
        at = max(range(len(words)), key=lambda i: len(words[i]) + rng.random())
        word = words[at]
        if len(word) > 3:
            i = rng.randrange(1, len(word) - 2)
            words[at] = word[:i] + word[i + 1] + word[i] + word[i + 2 :]
        return " ".join(words)
    if way == 4:
        greeting = rng.choice(["Hi, ", "Please: ", "Hello there, ", "Sorry, "])
        return greeting + text if rng.random() < 0.5 else text + rng.choice([" Thanks.", " please", " Thank you!"])
    small = [i for i, word in enumerate(words) if word.lower() in _SMALL]
    del words[rng.choice(small) if small else 0]
    return " ".join(words)


def paired(data: Path, name: str, rows: int) -> tuple[list[str], list[str], NDArray[np.int64]]:
    """Anchors, positives of the same class, and classes; no anchor twice."""
    table = pq.read_table(data / name / "train.parquet")
    texts, classes = table["text"].to_pylist(), table["label"].to_numpy()
    rng, first, second = np.random.default_rng(1), [], []
    known = dict.fromkeys(t for t in texts if len(t.split()) >= 4 and len(t) < MOST_LETTERS)
    of = {text: int(label) for text, label in zip(texts, classes.tolist(), strict=True)}
    fine = np.array(list(known), dtype=object)
    labels = np.array([of[text] for text in fine])
    for each in np.unique(labels):
        chosen = rng.permutation(np.flatnonzero(labels == each))
        half = len(chosen) // 2
        first += chosen[:half].tolist()
        second += chosen[half : 2 * half].tolist()
    picked = rng.permutation(len(first))[:rows]
    return (
        [fine[first[i]] for i in picked], [fine[second[i]] for i in picked], labels[[first[i] for i in picked]]
    )  # fmt: skip


class Remembers:
    """An encoder that encodes each text once in a run."""

    def __init__(self) -> None:
        from pairsift.retrieval.guides import load_encoder

        self._encoder, self._known = load_encoder("minilm"), dict[str, Any]()
        self.max_seq_length = getattr(self._encoder, "max_seq_length", None)

    def encode(self, texts: list[str], **_: Any) -> Any:
        """(N, D) features; options of semhash are not heeded."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, np.asarray(self._encoder.encode(new)), strict=True))
        return np.stack([self._known[text] for text in texts])


def near(name: str, anchors: list[str], positives: list[str], encoder: Remembers) -> Any:
    """Rows of the results: how many of the planted rows are found, and how many others are called near."""
    from pairsift.retrieval import inspect_pairs

    n, rng = len(anchors), random.Random(1)
    of = np.random.default_rng(2).choice(n, PLANTED, replace=False).tolist()
    more = [(changed(anchors[i], at % 6, rng), changed(positives[i], at % 6, rng)) for at, i in enumerate(of)]
    anchors, positives = anchors + [a for a, _ in more], positives + [p for _, p in more]
    for by in ("spelling", "spelling and guide"):
        found = inspect_pairs(
            pa.table({"anchor": anchors, "positive": positives}), encoder=encoder if "guide" in by else None
        )
        near_of, same = (found.rows[column].to_pylist() for column in ("near_duplicate_of", "duplicate_of"))
        hits = sum(i in (near_of[n + at], same[n + at]) for at, i in enumerate(of))
        others = sum(each is not None for each in near_of[:n])
        yield {"set": name, "rows": n, "kind": "near-duplicates", "by": by, "planted": PLANTED, "found": hits,
               "others": others}  # fmt: skip
    kept = _kept_by_semhash(anchors, positives, encoder)
    if kept is not None:
        yield {
            "set": name, "rows": n, "kind": "near-duplicates", "by": "semhash", "planted": PLANTED,
            "found": sum(n + at not in kept for at in range(PLANTED)), "others": sum(i not in kept for i in range(n)),
        }  # fmt: skip


def _kept_by_semhash(anchors: list[str], positives: list[str], encoder: Remembers) -> set[int] | None:
    """The rows that semhash keeps; None where it is not installed."""
    try:
        from semhash import SemHash
    except ImportError:
        print("semhash is not installed: its rows are left out", file=sys.stderr)
        return None
    records = [
        {"id": str(i), "anchor": a, "positive": p} for i, (a, p) in enumerate(zip(anchors, positives, strict=True))
    ]
    done = SemHash.from_records(records, columns=["anchor", "positive"], model=encoder).self_deduplicate()
    return {int(each["id"]) for each in done.selected}


def bad(name: str, anchors: list[str], positives: list[str], classes: NDArray[np.int64], encoder: Remembers) -> Any:
    """Rows of the results: recall and precision of planted bad negatives, and how many pairs the judge scored."""
    from pairsift.retrieval import inspect_pairs

    a, p = (np.asarray(encoder.encode(each), np.float64) for each in (anchors, positives))
    a, p = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (a, p))
    similar = a @ p.T
    rng, n = np.random.default_rng(3), len(anchors)
    other = classes[:, None] != classes[None]
    mined = np.argsort(-np.where(other, similar, -2), axis=1)[:, :NEGATIVES]
    planted = rng.random(mined.shape) < SHARE_BAD
    alike = ~other & ~np.eye(n, dtype=bool)
    for row, column in np.argwhere(planted).tolist():
        mates = np.flatnonzero(alike[row])
        mined[row, column] = rng.choice(mates) if len(mates) else mined[row, column]
        planted[row, column] = bool(len(mates))
    lists = [[positives[j] for j in row] for row in mined.tolist()]
    table = pa.table({"anchor": anchors, "positive": positives, "negatives": lists})
    of = dict(zip(positives, classes.tolist(), strict=True)) | dict(zip(anchors, classes.tolist(), strict=True))

    def oracle(pairs: list[tuple[str, str]]) -> list[float]:
        return [float(of[query] == of[text]) for query, text in pairs]

    for judge in (None, oracle):
        found = inspect_pairs(table, encoder=encoder, judge=judge)
        called = np.array([[each["decision"] != "kept" for each in row] for row in found.rows["negatives"].to_pylist()])
        hits, facts = int((called & planted).sum()), found.facts["mined_negatives"]
        yield {
            "set": name, "rows": n, "kind": "bad negatives", "by": "guide" if judge is None else "guide and oracle",
            "planted": int(planted.sum()), "found": hits, "recall": round(hits / planted.sum(), 4),
            "precision": round(hits / max(called.sum(), 1), 4), "negatives": int(planted.size),
            "scored": facts.get("judge", {}).get("asked", 0),
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="*", default=["banking77", "trec6", "newsgroups20"])
    parser.add_argument("--rows", type=int, nargs="*", default=[800, 500, 300], help="of each set")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if len(options.rows) != len(options.sets):
        parser.error(f"--rows has {len(options.rows)} numbers for {len(options.sets)} sets: give one for each set")
    data, encoder, rows = Path(os.environ["PAIRSIFT_DATA"]), Remembers(), []
    facts = {"benchmark": "planted-pairs"} | environment(int(os.environ.get("OMP_NUM_THREADS", "1")))
    facts |= versions("semhash")
    for name, count in zip(options.sets, options.rows, strict=True):
        anchors, positives, classes = paired(data, name, count)
        of_set = near(name, anchors, positives, encoder), bad(name, anchors, positives, classes, encoder)
        for row in chain(*of_set):
            rows.append(row | facts)
            emit(rows, options.output)


if __name__ == "__main__":
    main()
