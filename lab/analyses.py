"""Tables that are not lists of columns: rank correlations, orders of bounds and sums over campaigns."""

from __future__ import annotations

from lab.bound_order import orders, over_groups
from lab.cells import difference, markdown
from lab.comparison import paired
from lab.studies import label_free_choice, objectives
from lab.studies.gaussians import STATED
from lab.tables import origin, runs

_MEASURES = {"linear": "linear probe", "knn20": "20-NN"}


def gaussian_orders() -> str:
    """The order of errors on mixtures of Gaussians next to that of the theory's bounds."""
    cells = []
    for order in orders(runs("gaussians"), STATED):
        crossed = [("pays" if pays else "does not pay", found) for pays, found in order.crossings.values()]
        cells.append([order.group, order.theory, order.measured, *(cell for pair in crossed for cell in pair)])
    titles = ["mixture", "order of the bounds", "errors", "dropping examples, by Cor 4.1", "measured",
              "temperature, by Thm 4.5", "measured"]  # fmt: skip
    found = over_groups(runs("gaussians"))
    assert found is not None
    said = f"Untreated, over mixtures: Spearman of exact bound and error {found[0]:.2f} ± {found[1]:.2f}."
    return f"{markdown(titles, cells)}\n\n{said} {origin(('gaussians',))}\n"


def over_mixtures() -> str:
    """The rank correlation of bound and error over mixtures."""
    found = over_groups(runs("gaussians"))
    assert found is not None
    return f"{found[0]:.2f}"


def label_free(study: str) -> str:
    """Rank correlations of label-free quantities with accuracies."""
    return f"{label_free_choice.tables(runs(study))}\n\n{origin((study,))}\n"


def correlations(study: str, group: str, quantity: str, measure: str) -> str:
    """The rank correlation of one quantity with a measure, with its interval over seeds."""
    return label_free_choice.told(label_free_choice.correlations(runs(study), group, quantity, measure))


def strengths() -> str:
    """The changes by weaker and weaker treatments, at every treated setting of an objective."""
    treatments = [objectives.words(each) for each in objectives.TREATMENTS]
    cells = []
    for arm in dict.fromkeys(row["arm"] for row in runs("objectives")):
        changes = [treated(arm, each, measure) for measure in _MEASURES for each in treatments]
        if any(changes):
            cells.append([*arm.split(", ", 1), *map(difference, changes)])
    titles = [f"{name}, {each or 'as in the paper'}" for name in _MEASURES.values() for each in treatments]
    return f"{markdown(['objective', 'its setting', *titles], cells)}\n\n{origin(('objectives',))}\n"


def treated(plain: str, treatment: str, measure: str) -> list[float]:
    """The changes by a treatment ("" for the paper's) at a setting of an objective, by seed."""
    objective, setting = plain.split(", ", 1)
    arm = ", ".join(part for part in (objective, "combined", setting, treatment) if part)
    before, after = (
        {row["seed"]: row["measures"][measure] for row in runs("objectives") if row["arm"] == each}
        for each in (plain, arm)
    )
    return paired(after, before)


def campaigns() -> str:
    """A table with a line for each campaign: kills, broken input, leaks and repeats."""
    found = {name: [row["measures"] for row in runs("benchmarks/campaign") if row["study"] == name]
             for name in ("kill", "fuzz", "soak", "repeat")}  # fmt: skip
    killed = {name: sum(each[name] for each in found["kill"]) for name in ("kills", "runs", "parts", "made_twice")}
    same = sum(each.get("outcomes/same", 0) for each in found["kill"])
    soaks = (
        f"{row['measures']['calls']:,} {row['arm']}: {row['measures']['grown_mb']:+.1f} MB, "
        f"{row['measures']['grown_files']:+,} files"
        for row in runs("benchmarks/campaign")
        if row["study"] == "soak"
    )
    targets = found["fuzz"]
    right = sum(not each.get("defects", 0) for each in targets)
    again = found["repeat"]
    cells = [
        ["kill", f"{killed['kills']:,} times `kill -9`: {same:,} of {killed['runs']:,} runs ended as an uninterrupted "
                 f"one, byte for byte; {killed['made_twice']:,} of {killed['parts']:,} finished parts were made again"],
        ["fuzz", f"{sum(each['inputs'] for each in targets):,} seeded inputs: {right} of {len(targets)} entry points "
                 "returned a result that holds or a clear error"],
        ["soak", "; ".join(soaks)],
        ["repeat", f"of {len(again)} commands and losses {sum(each['again'] == 0 for each in again)} give the same "
                   f"bits again, {sum(each.get('two_threads') == 0 for each in again)} with two threads, too"],
    ]  # fmt: skip
    return f"{markdown(['campaign', 'what came of it'], cells)}\n"
