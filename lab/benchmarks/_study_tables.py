"""Tables and single values of the studies' committed runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache

from lab.benchmarks._markdown import ROOT, Cells, Row, interval, markdown_rows, mean, number
from lab.catalogue import find_study
from lab.compared import Line, compared, paired
from lab.ledger import read_runs
from lab.orders import orders, over_groups
from lab.outcome import NONE, difference
from lab.outcome import markdown as whole
from lab.small import BEST, PARTS, excess_at
from lab.study import Study
from lab.suite import label_free_choice, objectives
from lab.suite.gaussians import STATED
from pairsift.evaluate import t_interval

MEASURES = {"linear": "linear probe", "knn20": "20-NN"}

STUDIES = "lab/results"


@cache
def study_runs(name: str) -> tuple[Study, list[Line], list[Row]]:
    """A study, its arms beside their baselines, and its committed runs."""
    study, rows = find_study(name), read_runs(ROOT / STUDIES / name / "runs.jsonl")
    return study, compared(study, study.of_scale("cpu"), rows), rows


def study_origin(names: Sequence[str]) -> str:
    """Where runs come from: their files, seeds and commits."""
    files = {name: ROOT / STUDIES / name / "runs.jsonl" for name in names}
    rows = [row for file in files.values() for row in read_runs(file)]
    header = json.loads(next(iter(files.values())).read_text().split("\n", 1)[0])
    said = ", ".join(f"`{STUDIES}/{name}/`" for name in names)
    commits = ", ".join(sorted({row["commit"] for row in rows}))
    return f"From {said} (torch {header['environment']['torch']}, 1 thread, commits {commits})."


def study_gains(names: Sequence[str], group: str) -> str:
    """What arms gain on plain training at their temperature, and on plain training at its best one.

    Controls are those of the first study.
    """
    cells: list[Cells] = []
    told: set[str] = {"plain"}
    for name in names:
        _, lines, _ = study_runs(name)
        of_group = [line for line in lines if line.group == group]
        best = found(lines, group, BEST)
        for line in of_group:
            title = BEST if line is best else line.title
            if title in told:
                continue
            told.add(title)
            gains = []
            for measure in MEASURES:
                others = {} if line is best else best.values[measure]
                gains += [line.differences[measure], paired(line.values[measure], others)]
            cells.append([line.title, str(line.seeds), *map(difference, gains), line.paper])
    over = [f"{name}, minus {other}" for name in MEASURES.values() for other in ("plain", "plain at its best")]
    return f"{markdown_rows(['arm', 'seeds', *over, 'paper'], cells)}\n\n{study_origin(names)}\n"


def pressed() -> str:
    """What treatments that press ever less change, at every setting of an objective that was treated."""
    treatments = [objectives.words(each) for each in objectives.TREATMENTS]
    cells: list[Cells] = []
    for arm in dict.fromkeys(row["arm"] for row in study_runs("objectives")[2]):
        treated = [treated_beyond(arm, each, measure) for measure in MEASURES for each in treatments]
        if any(treated):
            cells.append([*arm.split(", ", 1), *map(difference, treated)])
    titles = [f"{name}, {each or 'as in the paper'}" for name in MEASURES.values() for each in treatments]
    return f"{markdown_rows(['objective', 'its setting', *titles], cells)}\n\n{study_origin(['objectives'])}\n"


def treated_beyond(plain: str, treatment: str, measure: str) -> list[float]:
    """What a treatment in words, "" for the paper's, changes at a setting, which need not be an objective's best."""
    objective, setting = plain.split(", ", 1)
    treated = ", ".join(part for part in (objective, "combined", setting, treatment) if part)
    before, after = (
        {row["seed"]: row["measures"][measure] for row in study_runs("objectives")[2] if row["arm"] == arm}
        for arm in (plain, treated)
    )
    return paired(after, before)


# Of the study of the band's edges, what is shown on every set.
SHOWN = ("all pairs", "oracle", "band 0.05 to 0.22", "band 0.15 to 0.22")


def study_sets(but: str) -> str:
    """On every other set what the paper's band, an early one and the controls gain on plain training at its best."""
    _, lines, _ = study_runs("band")
    cells: list[Cells] = []
    for group in dict.fromkeys(line.group for line in lines if line.group != but):
        own = {line.title: line for line in lines if line.group == group}
        best = found(lines, group, BEST)
        gains = [difference(best.differences[measure]) for measure in MEASURES]
        cells.append([group, best.title, str(best.seeds), *gains, "", ""])
        for line in (own[title] for title in SHOWN if title in own):
            gains = [difference(line.differences[measure]) for measure in MEASURES]
            gains += [difference(paired(line.values[measure], best.values[measure])) for measure in MEASURES]
            cells.append([group, line.title, str(line.seeds), *gains])
    over = [f"{name}, minus {other}" for other in ("plain", "plain at its best") for name in MEASURES.values()]
    return f"{markdown_rows(['set', 'arm', 'seeds', *over], cells)}\n\n{study_origin(['band'])}\n"


def hard_negatives(group: str) -> str:
    """Methods of hard and false negatives, each at its best, beside plain training at its best."""
    _, lines, _ = study_runs("hard-negatives")
    cells: list[Cells] = []
    for line in lines:
        method, _, setting = line.title.partition(": ")
        values = [interval(t_interval([*line.values[name].values()])) for name in ("linear", "knn20")]
        gains = [difference(line.differences[name]) for name in ("linear", "knn20")]
        if setting and line.group == group:
            cells.append([method, setting.removeprefix(f"{method}, "), str(line.seeds), *values, *gains])
    titles = ["method", "its best setting", "seeds", *(f"{name} %" for name in MEASURES.values()),
              *(f"{name}, minus plain" for name in MEASURES.values())]  # fmt: skip
    return f"{markdown_rows(titles, cells)}\n\n{study_origin(['hard-negatives'])}\n"


def by_group(found: dict[tuple[str, str], str]) -> tuple[list[str], list[Cells]]:
    """Groups as columns, and a row for each title: what was found of a title in a group."""
    titles, groups = (list(dict.fromkeys(key[side] for key in found)) for side in (0, 1))
    return groups, [[title, *(found.get((title, group)) for group in groups)] for title in titles]


def hard_negatives_of_sets(but: str) -> str:
    """Neighbours accuracy of plain training at its best on every other set, and what methods at theirs gain on it."""
    _, lines, _ = study_runs("hard-negatives")
    found: dict[tuple[str, str], str] = {}
    for line in lines:
        method, _, setting = line.title.partition(": ")
        if setting and line.group != but:
            values, gain = [*line.values["knn20"].values()], line.differences["knn20"]
            found[method, line.group] = interval(t_interval(values)) if method == "plain" else difference(gain)
    groups, cells = by_group(found)
    titles = [f"{MEASURES['knn20']}, minus plain", *groups]
    return f"{markdown_rows(titles, cells)}\n\n{study_origin(['hard-negatives'])}\n"


def gaussians() -> str:
    """Errors of plain training by mixture, and differences from it in points."""
    _, lines, _ = study_runs("gaussians")
    found: dict[tuple[str, str], str] = {}
    for line in lines:
        title = BEST if line.title.startswith(BEST) else line.title
        values, gain = [*line.values["error"].values()], line.differences["error"]
        found[title, line.group] = interval(t_interval(values)) if title == "plain" else difference(gain)
    groups, cells = by_group(found)
    return f"{markdown_rows(['error, minus plain', *groups], cells)}\n\n{study_origin(['gaussians'])}\n"


def gaussians_order() -> str:
    """Whether order and crossings are those of the theory."""
    _, _, rows = study_runs("gaussians")
    cells: list[Cells] = []
    for order in orders(rows, STATED):
        crossed = [("pays" if pays else "does not pay", found) for pays, found in order.crossings.values()]
        cells.append([order.group, order.theory, order.measured, *(cell for pair in crossed for cell in pair)])
    titles = ["mixture", "order of the bounds", "errors", "dropping examples, by Cor 4.1", "measured",
              "temperature, by Thm 4.5", "measured"]  # fmt: skip
    found = over_groups(rows)
    assert found is not None
    said = f"Untreated, over mixtures: Spearman of exact bound and error {found[0]:.2f} ± {found[1]:.2f}."
    return f"{markdown_rows(titles, cells)}\n\n{said} {study_origin(['gaussians'])}\n"


def label_free(name: str) -> str:
    """Rank correlations of label-free quantities with accuracies."""
    return f"{label_free_choice.tables(study_runs(name)[2])}\n\n{study_origin([name])}\n"


def levels_of_sets() -> str:
    """Measured levels of plain and treated encoders, and the theory's own settings."""
    _, lines, _ = study_runs("levels")
    measured = {"alpha": "alpha x 100", "beta": "beta x 100", "gamma": "gamma x 100", "gap": "gamma - beta x 100"}
    cells = [
        [
            line.group, line.title, str(line.seeds),
            *(interval(t_interval([*line.values[name].values()])) for name in measured),
            *(number(mean([*line.values[name].values()]), 2) for name in ("sigma", "rho")),
            difference(line.differences["linear"]),
        ]
        for line in lines
        if line.title in ("plain", "selected on h", "the theory's own sigma and rho")
    ]  # fmt: skip
    titles = ["set", "arm", "seeds", *measured.values(), "sigma", "rho", "linear, minus plain"]
    return f"{markdown_rows(titles, cells)}\n\n{study_origin(['levels'])}\n"


def purity_over_training() -> str:
    """How much purer than all pairs the band is, over training."""
    _, lines, _ = study_runs("purity")
    cells = [
        [
            line.group,
            line.title,
            *(interval(t_interval([*line.values[excess_at(part)].values()]), signed=True) for part in PARTS),
        ]
        for line in lines
        if line.title in ("plain", "selected on h", "oracle")
    ]
    titles = ["set", "trained", *(f"at {part:.0%}" for part in PARTS)]
    return f"{markdown_rows(titles, cells)}\n\n{study_origin(['purity'])}\n"


def of_every_arm(name: str) -> str:
    """The study's own table."""
    study, _, rows = study_runs(name)
    shown = {measure: title for measure, title in study.measures.items() if measure != study.tuned_on}
    return f"{whole(study, study.of_scale('cpu'), rows, shown)}\n\n{study_origin([name])}\n"


def found(lines: Sequence[Line], group: str, title: str) -> Line:
    """The line of an arm, or of a method at its best.

    Raises:
        LookupError: the study has none.
    """
    of_group = [line for line in lines if line.group == group]
    for line in (*(each for each in of_group if each.title == title), *of_group):
        if line.title == title or line.title.startswith(f"{title}:"):
            return line
    raise LookupError(f"no {title!r} of {group!r}")


def gain(
    study: str, group: str, title: str, measure: str = "knn20", beyond: str = "plain", of: str | None = None
) -> Callable[[], str]:
    """A value of a text: what an arm has beyond another, which is of the same group unless `of` names its."""

    def told() -> str:
        lines = study_runs(study)[1]
        values = found(lines, group, title).values[measure]
        others = found(lines, group if of is None else of, beyond).values[measure]
        return in_text(paired(values, others))

    return told


def in_text(differences: Sequence[float]) -> str:
    """Paired differences as a text says them."""
    return difference(differences).replace(f"{NONE} (", f"{NONE}: ").removesuffix(")")


def pressing(plain: str) -> Callable[[], str]:
    """A value of a text: what the paper's treatment changes in 20-NN at an objective's setting."""
    return lambda: in_text(treated_beyond(plain, "", "knn20"))


def bounds_order() -> str:
    """A value of a text: the rank correlation of bound and error over mixtures."""
    told = over_groups(study_runs("gaussians")[2])
    assert told is not None
    return f"{told[0]:.2f}"


def ranked(study: str, group: str, quantity: str) -> Callable[[], str]:
    """A value of a text: a label-free quantity's rank correlation with 20-NN over a study's runs."""

    def told() -> str:
        _, _, rows = study_runs(study)
        return label_free_choice.told(label_free_choice.correlations(rows, group, quantity, "knn20"))

    return told


STUDY_TABLES: dict[str, Callable[[], str]] = {
    "study, cifar10": lambda: study_gains(["combined"], ""), "study, mixing": lambda: of_every_arm("mixing"),
    "study, long-tail": lambda: study_gains(["long-tail"], ""),
    "study, subsets": lambda: of_every_arm("subsets"),
    "study, objectives": lambda: of_every_arm("objectives"), "study, pressed": pressed,
    "study, label-free": lambda: label_free("label-free-choice"),
    "study, label-free, images": lambda: label_free("label-free-images"),
    "study, strokes": lambda: study_gains(["band", "selection-feature", "rho-extremes"], "pendigits"),
    "study, sets": lambda: study_sets("pendigits"), "study, hard-negatives": lambda: hard_negatives("pendigits"),
    "study, hard-negatives, sets": lambda: hard_negatives_of_sets("pendigits"),
    "study, gaussians": gaussians, "study, order": gaussians_order,
    "study, levels": levels_of_sets, "study, purity": purity_over_training,
}  # fmt: skip

# What the text of a page says, by name.
VALUES: dict[str, Callable[[], str]] = {
    "strokes, best": gain("band", "pendigits", BEST),
    "strokes, band": gain("band", "pendigits", "band 0.15 to 0.22"),
    "strokes, early": gain("band", "pendigits", "band 0.05 to 0.22"),
    "strokes, early and best": gain("band", "pendigits", "band 0.05 to 0.22", beyond=BEST),
    "strokes, all pairs": gain("band", "pendigits", "all pairs"),
    "strokes, on z": gain("selection-feature", "pendigits", "selected on z"),
    "strokes, rho": gain("rho-extremes", "pendigits", "rho 1e+09"),
    "gaussians, band": gain("band", "gaussians", "band 0.15 to 0.22"),
    "digits, band": gain("band", "digits", "band 0.15 to 0.22"),
    "strokes, oracle": gain("hard-negatives", "pendigits", "combined, oracle"),
    "fsdd, oracle": gain("hard-negatives", "fsdd", "combined, oracle"),
    "fsdd, random": gain("hard-negatives", "fsdd", "combined, random pairs"),
    "fsdd, hcl": gain("hard-negatives", "fsdd", "hard negatives (HCL)"),
    "banking77, random": gain("hard-negatives", "banking77", "combined, random pairs"),
    "banking77, decoupled": gain("hard-negatives", "banking77", "decoupled"),
    "digits, combined": gain("hard-negatives", "digits", "combined (the paper's)"),
    "gaussians, hcl": gain("hard-negatives", "gaussians", "hard negatives (HCL)"),
    "gaussians, own settings": gain("levels", "gaussians", "the theory's own sigma and rho", "linear"),
    "cifar10, best": gain("combined", "", BEST),
    "cifar10, combined": gain("combined", "", "combined"),
    "cifar10, combined and random": gain("combined", "", "combined", beyond="combined, random pairs"),
    "cifar10, oracle": gain("combined", "", "combined, oracle"),
    "cifar10, oracle and best": gain("combined", "", "combined, oracle", beyond=BEST),
    "cifar10, colder": gain("combined", "", "temperature"),
    "cifar10, all colder": gain("combined", "", "temperature, all pairs"),
    "tail, best": gain("long-tail", "", BEST),
    "tail, combined": gain("long-tail", "", "combined"),
    "tail, oracle": gain("long-tail", "", "combined, oracle"),
    "moco, combined": gain("objectives", "moco", "combined"),
    "moco, paper": pressing("moco, temperature 0.2, lr 0.06"),
    "moco, paper, faster": pressing("moco, temperature 0.2, lr 0.25"),
    "spectral, combined": gain("objectives", "spectral", "combined"),
    "spectral, paper": pressing("spectral, mu 3"),
    "mixed, plain": gain("mixing", "30% mixed", "plain", of="0% mixed"),
    "mixed, without": gain("mixing", "30% mixed", "without the mixes"),
    "mixed, combined": gain("mixing", "30% mixed", "combined"),
    "mixed, combined and random": gain("mixing", "30% mixed", "combined", beyond="combined, random pairs"),
    "mixed, eigenvalue": gain("mixing", "30% mixed", "plain", "eigenvalue", of="0% mixed"),
    "subsets, prototypes": gain(
        "subsets", "", "20% of the images, nearest to prototypes", "linear", "random 20% of the images"
    ),
    "cifar10, rankme": ranked("label-free-images", "cifar10", "rankme"),
    "cifar10, clearness": ranked("label-free-images", "cifar10", "clearness"),
    "cifar10, alignment": ranked("label-free-images", "cifar10", "alignment"),
    "mixtures, order": bounds_order,
    "mixtures, temperature": gain("gaussians", "overlap 0.5, n_d/n 0.2", "temperature", "error"),
}
