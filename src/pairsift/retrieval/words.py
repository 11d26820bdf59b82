"""The figures of an inspection in words, for the terminal and the page."""

from __future__ import annotations

from typing import Any

from pairsift.retrieval.rates import BATCHES

Facts = dict[str, Any]


def numbers(facts: Facts) -> list[tuple[str, str]]:
    """Name and value of what stands on top."""
    repeats = facts["duplicates"]
    lines = [
        ("rows", f"{facts['rows']:,}"),
        ("with anchor and positive", f"{facts['usable_rows']:,}"),
        ("duplicate rows", f"{repeats['rows']['repeats']:,}"),
        ("anchors that repeat one", f"{repeats['anchors']['repeats']:,}"),
        ("positives that repeat one", f"{repeats['positives']['repeats']:,}"),
    ]
    near, guide, found, mined = (
        facts[name] for name in ("near_duplicates", "guide", "false_negatives", "mined_negatives")
    )
    if near is not None:
        lines.append(("near-duplicate rows", f"{near['rows']:,}"))
    if guide is not None and found is not None:
        lines += [
            ("rows with likely false negatives", f"{found['rows_with_some']:,}"),
            ("rows the guide is unreliable for", f"{guide['unreliable_rows']:,}"),
        ]
    if mined is not None:
        lines.append(("bad mined negatives", f"{mined['identical'] + mined['likely']:,} of {mined['negatives']:,}"))
    return [*lines, ("conflicts", f"{facts['conflicts']:,}"), ("rows of clean.parquet", f"{facts['clean_rows']:,}")]


def expectations(facts: Facts) -> list[tuple[str, list[str]]]:
    """For each rule, the false negatives that a row meets in batches of `BATCHES`; none for a single row."""
    found = facts["false_negatives"]
    if found is None:
        return []
    rules = {"identical": "by identity of texts", "likely": "likely, by identity or guide",
             "margin_alone": "the same without the floor"}  # fmt: skip
    if facts["guide"] is None:
        del rules["likely"]
    return [
        (words, [_expected(found[rule]["expected"][str(batch)]) for batch in BATCHES])
        for rule, words in rules.items()
        if found[rule] is not None
    ]


def notes(facts: Facts) -> list[str]:
    """What is to be known about the figures."""
    said = []
    guide, near, found = facts["guide"], facts["near_duplicates"], facts["false_negatives"]
    if guide is None:
        said.append(
            "Without a guide texts are compared as texts only: nothing is said of those that mean the same in "
            "other words."
        )
    elif guide["off_because"]:
        said.append(_sentence(guide["off_because"]))
    else:
        said.append(
            f"A candidate is a likely false negative where its similarity under {facts['guide_name']} exceeds "
            f"{guide['floor']:.3f} and the row's own positive's less {guide['margin']:.1%} of it."
        )
    if near is not None:
        said += [_near_words(name, near[name]["threshold"]) for name in ("anchors", "positives")]
    if guide is not None and guide["unreliable_rows"] and not guide["off_because"]:
        said.append(
            f"In {guide['unreliable_rows']:,} rows the guide ranks the known positive below more than "
            f"{guide['cap']:.0%} of the candidates: nothing is said of false negatives there."
        )
    if found is not None and found.get("rows_cut_at_neighbours"):
        said.append(
            f"{found['rows_cut_at_neighbours']:,} rows have more likely false negatives than the "
            f"{facts['settings']['neighbours']} candidates that were looked at: the conflicts do not hold them all."
        )
    if found is not None and facts["usable_rows"] < BATCHES[-1]:
        said.append("Batches larger than the set stand for more data of this kind.")
    recall = facts["search"].get("recall")
    if recall is not None:
        said.append(f"The search is approximate: it finds {recall:.1%} of the ten nearest.")
    wrong = {
        reason: count
        for reason, count in facts["reasons"].items()
        if reason.split()[-1] in ("missing", "empty", "finite")
    }
    if wrong:
        said.append("Left out: " + ", ".join(f"{reason} in {count:,} rows" for reason, count in wrong.items()) + ".")
    mined = facts["mined_negatives"]
    if mined is not None and mined["rows"]:
        gone = "leave clean.parquet" if facts["settings"]["bad_negatives"] == "drop" else "stay there without them"
        said.append(f"{mined['rows']:,} rows have bad mined negatives and {gone}.")
    return said


def _expected(value: dict[str, float]) -> str:
    """Mean and half of the interval, to three digits."""
    half = value["high"] - value["mean"]
    return _short(value["mean"]) + (f" ± {_short(half)}" if half else "")


def _short(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 else f"{value:.0e}"


def _near_words(name: str, threshold: float | None) -> str:
    if threshold is None:
        return f"There are too few different {name} to tell which are near-duplicates."
    return f"{_sentence(name)} are near-duplicates from a similarity of {threshold:.3f} on."


def _sentence(words: str) -> str:
    words = words[0].upper() + words[1:]
    return words if words.endswith(".") or len(words) < 20 else words + "."
