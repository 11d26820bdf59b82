"""Convert the result files of version 0.2 to the one schema of `lab.rows`.

    python -m lab.convert OLD NEW    # OLD: folder with studies/results and benchmarks/results of 0.2

A folder `NAME/runs.jsonl` of 0.2 becomes `NAME/runs.jsonl` of today, and so does every other layout that studies of 0.2
wrote: an object with rows, one file a run, a table of sets. Means and intervals that files repeated are left out, as
tables compute them from the runs.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lab.registry import find_study
from lab.rows import Row, row_of, write
from lab.studies.noisy_graph_sweeps import words

Record = dict[str, Any]
_COLLAPSE, _TEMPORAL = ("cifar10", "pendigits", "trec6"), ("fsdd", "pendigits")
_SELECTION = {"cifar10": "selection", "imagenette": "selection-imagenette", "tiny-imagenet": "selection-tiny-imagenet"}
_MACHINE = ("machine", "cpus", "threads")


def suite(file: Path) -> list[Row]:
    """Runs of a study of `pairsift study`: a header, then a line each."""
    header, *lines = map(json.loads, file.read_text().splitlines())
    made = row_of(header["study"], header["environment"] | {"pairsift": header["pairsift"]})
    rows = [
        made | {
            "scale": header["scale"], "version": header["version"], "group": line["group"], "arm": line["arm"],
            "seed": line["seed"], "settings": line["setting"], "commit": line["commit"],
            "measures": line["measures"] | {"seconds": line["seconds"]},
        }
        for line in lines
    ]  # fmt: skip
    return by_arm(rows)


def by_arm(rows: Iterable[Row]) -> list[Row]:
    """Rows of one arm after the other, in the order of their first runs."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["group"], row["arm"]), []).append(row)
    return [row for group in groups.values() for row in group]


def keyed(study: str, group: str, arm: str, settings: Iterable[str] = ()) -> Callable[[Record], list[Row]]:
    """Converts an object with ``rows``; group and arm are templates that rows fill in.

    Args:
        study: name of the study today.
        group, arm: `str.format` templates over a row's fields.
        settings: numeric fields that were given, not measured.
    """

    def convert(record: Record) -> list[Row]:
        rows = []
        for line in record["rows"]:
            names = record | line
            given = {name: line[name] for name in settings if name in line}
            left = {name: value for name, value in line.items() if name not in {*given, "arm"}}
            fields = {"group": group.format(**names), "arm": arm.format(**names), "settings": given}
            rows.append(row_of(study, left | record["environment"], **fields))
        return by_arm(rows)

    return convert


def one_a_file(study: str, folder: Path, group: str, arm: str, settings: Iterable[str] = ()) -> list[Row]:
    """Converts a folder with one file a run; see `keyed`."""
    rows: list[Row] = []
    for file in sorted(folder.glob("*-?.json")):
        record = json.loads(file.read_text())
        line = {name: value for name, value in record.items() if name not in ("environment", "log")}
        line |= curves(record.get("log", []), "log/")
        rows += keyed(study, group, arm, settings)({"rows": [line], "environment": record["environment"]})
    return by_arm(rows)


def curves(lines: list[Record], prefix: str = "") -> Record:
    """What was logged over training, a list a name; "" becomes None."""
    names = dict.fromkeys(name for line in lines for name in line)
    return {f"{prefix}{name}": [_short(line.get(name)) for line in lines] for name in names}


def _short(value: Any) -> float | None:
    return None if value in ("", None) else float(f"{value:.6g}")


def trainings(study: str, folder: Path, group: str) -> list[Row]:
    """Converts a folder of trained arms: accuracies and curves of each."""
    rows = []
    for file in sorted(folder.glob("*.json")):
        record = json.loads(file.read_text())
        left = {name: record.pop(name) for name in ("config", "epochs", "environment", "arm", "test", "temperature")}
        row = row_of(study, record | left["environment"], group=group.format(**left), arm=left["arm"])
        row["measures"] |= curves(left["epochs"])
        rows.append(row)
    return by_arm(rows)


def of_masks(rows: list[Row]) -> list[Row]:
    """Says in numbers why the guide of a mask was off: 1 for off, and the percent that its message names."""
    for row in rows:
        reason = row["settings"].pop("off_because", None)
        if reason is not None:
            row["measures"]["off"] = float(bool(reason))
            percent = re.search(r"below (\d+) %", reason)
            row["measures"]["half_below"] = None if percent is None else float(percent[1])
    return rows


def settled(rows: list[Row]) -> list[Row]:
    """The same runs with the settings by which today's study runs their arms."""
    study = find_study(rows[0]["study"])
    arms = {(arm.group, arm.name): json.loads(json.dumps(dict(arm.setting))) for arm in study.of_scale("cpu")}
    return [{**row, "settings": arms[row["group"], row["arm"]]} for row in rows]


def fine_tuning(folder: Path) -> list[Row]:
    """Runs, and the temperatures that were tried on held-out rows."""
    rows = one_a_file("fine-tuning", folder, "{set}", "{arm}", ("temperature", "epochs", "rate"))
    for file in sorted(folder.glob("*-temperature.json")):
        record = json.loads(file.read_text())
        for tau, value in record["ndcg10"].items():
            fields = {
                "group": record["set"],
                "arm": f"held-out rows, tau {tau}",
                "settings": {"temperature": float(tau)},
            }
            rows.append(row_of("fine-tuning", {"ndcg10": value, "seed": 100} | record["environment"], **fields))
    return rows


def near_pairs(record: Record) -> list[Row]:
    """What tells pairs of one class from others, a row a set."""
    return [
        row_of("near-pairs", each | record["environment"], group=name, arm="") for name, each in record["sets"].items()
    ]


def collapse(record: Record) -> list[Row]:
    """Runs of a set, and the share of variance that theory says."""
    from pairsift.theory import within_class_share

    rows = keyed("collapse", "{set}", "tau {temperature:g}, alpha {alpha:g}", ("alpha", "temperature"))(record)
    for row in rows:
        given = row["settings"]
        share = within_class_share(given["alpha"], record["classes"], 256 / record["classes"], given["temperature"])
        row["measures"]["theory"] = round(share, 4)
        given["set"] = record["set"]
    return sorted(rows, key=lambda row: (row["settings"]["temperature"], row["settings"]["alpha"]))


def chains(record: Record) -> list[Row]:
    """Runs; what is exact of the population stands in every run of temporal positives."""
    rows = keyed("chains", "{bridging} bridging", "{arm}", ("bridging",))(record)
    exact = {line["bridging"]: line for line in record["summary"] if line["arm"] == "temporal"}
    for row in rows:
        if row["arm"] == "temporal":
            known = exact[row["settings"]["bridging"]]
            names = ("second", "next", "exact_error", "exact_squared", "half_bound")
            row["measures"] |= {name: known[name] for name in names}
    return rows


def temporal(record: Record) -> list[Row]:
    """Runs of a set, what was tuned, and the raw frames under either loss."""
    given = {"set": record["set"]}
    lines = [
        line | {"method": method}
        for line in record["rows"]
        for method in ([line["method"]] if line["method"] else ["spectral", "simclr"])
    ]
    rows = keyed("temporal", f"{record['set']}, {{method}}", "{arm}")(record | {"rows": lines})
    for row in rows:
        if record["dropped"] is not None and "drop" in row["arm"]:
            row["measures"]["dropped"] = record["dropped"]
    for method, arms in record["tuning"].items():
        for arm, best in arms.items():
            settings = given | {"method": method, "arm": arm, "scale": best["scale"], "noise": best["noise"]}
            left = {"held_out_digit": best["held_out_digit"], "seed": 1000} | record["environment"]
            fields = {"group": f"{record['set']}, {method}", "arm": f"held-out sequences, {arm}", "settings": settings}
            rows.append(row_of("temporal", left, **fields))
    return rows


def cifar10_objectives(record: Record) -> list[Row]:
    """Runs by objective, and the mu that were tried on held-out images."""
    names = {"none": "plain", "combined": "combined"}
    lines = [{**line, "arm": names[line["treatment"]]} for line in record["rows"]]
    rows = keyed("cifar10-objectives", "{method}", "{arm}")(record | {"rows": lines})
    for row in rows:
        if row["group"] == "spectral":
            row["settings"] |= {"mu": record["mu"]}
    for mu, value in record["mu_tuning"].items():
        fields = {"group": "spectral", "arm": f"held-out images, mu {mu}", "settings": {"mu": float(mu)}}
        rows.append(row_of("cifar10-objectives", {"held_out": value} | record["environment"], **fields))
    return rows


def noisy_graphs(record: Record) -> list[Row]:
    """One laboratory: a row a level and arm."""
    known = ("gamma", "arm", "knows", "uses_labels", "draws")
    return [
        row_of(
            "noisy-graphs",
            {name: value for name, value in line.items() if name not in known} | {"versions": record["versions"]},
            group=f"gamma {line['gamma']:g}", arm=line["arm"],
        )
        for line in record["rows"]
    ]  # fmt: skip


def noisy_graph_sweeps(lines: list[Record]) -> list[Row]:
    """Many laboratories: accuracy without treatment, and gains of arms; percentage points become shares."""
    rows = []
    for line in lines:
        made = {name: line[name] for name in ("python", "torch", "git_commit", "src_modified", *_MACHINE)}
        for name in [name for name in line if name.startswith("gamma ")]:
            for arm, value in line[name].items():
                points = [value] if arm == "untreated" else value
                names = ("accuracy",) if arm == "untreated" else ("difference", "half_width", "excess")
                shares = [None if each is None else round(each / 100, 6) for each in points]
                group, arm = f"{words(line['change'])}, {name}", "with" if arm == "untreated" else arm
                rows.append(
                    row_of("noisy-graph-sweeps", dict(zip(names, shares, strict=True)) | made, group=group, arm=arm)
                )
    return rows


def campaign(record: Record) -> list[Row]:
    """Campaigns against broken input, kills and time."""
    rows = []
    for part, lines in (("kill", "campaigns"), ("soak", "rows"), ("fuzz", "targets"), ("repeat", "rows")):
        content = record[part]
        whole = {name: value for name, value in content.items() if name not in (lines, "environment", "defects")}
        for line in content[lines]:
            arm = next(line[name] for name in ("task", "soak", "target", "what") if name in line)
            left = {name: value for name, value in line.items() if name not in ("task", "soak", "target", "what")}
            left |= {"two_threads": left.pop("threads")} if "threads" in left else {}
            rows.append(row_of(part, whole | content["environment"] | left, arm=arm))
    return rows


def benchmark(name: str) -> Callable[[list[Record]], list[Row]]:
    """Lines of a benchmark."""
    return lambda lines: [
        row_of(name, {key: value for key, value in line.items() if key != "benchmark"}) for line in lines
    ]


def detection(record: Record) -> list[Row]:
    """Scores of every method on every set."""
    return keyed("detection", "{case}", "{method}")(record)


def retrieval(record: Record) -> list[Row]:
    """Runs of adapters."""
    return of_masks(keyed("retrieval", "{set}", "{arm}")(record))


OBJECTS: dict[str, tuple[str, Callable[[Any], list[Row]]]] = {
    "studies/results/chains.json": ("chains", chains),
    "studies/results/classmates.json": ("near-pairs", near_pairs),
    "studies/results/drop.json": ("drop", keyed("drop", "", "{arm}")),
    "studies/results/objectives.json": ("cifar10-objectives", cifar10_objectives),
    "studies/results/retrieval.json": ("retrieval", retrieval),
    "studies/results/text.json": ("sentences", keyed("sentences", "", "{arm}", ("steps", "batch"))),
    "studies/results/laboratory.json": ("noisy-graphs", noisy_graphs),
    "studies/results/laboratory-sweep.jsonl": ("noisy-graph-sweeps", noisy_graph_sweeps),
    "studies/results/demo.json": ("demo", keyed("demo", "", "{treatment}")),
}


def convert(old: Path, new: Path) -> None:
    """Convert every file of a checkout of 0.2."""
    studies, benchmarks = old / "studies/results", old / "benchmarks/results"
    for file in sorted(studies.glob("*/runs.jsonl")):
        write(new / "results" / file.parent.name / "runs.jsonl", suite(file))
    found = {study: made(_read(old / name)) for name, (study, made) in OBJECTS.items()}
    found["collapse"] = [row for name in _COLLAPSE for row in collapse(_read(studies / f"collapse-{name}.json"))]
    found["temporal"] = [row for name in _TEMPORAL for row in temporal(_read(studies / f"temporal-{name}.json"))]
    found["selection"] = [
        row
        for name, folder in _SELECTION.items()
        for row in trainings("selection", studies / folder, f"{name}, tau {{temperature:g}}")
    ]
    found["selection-quality"] = trainings("selection-quality", studies / "when", "tau {temperature:g}")
    found["fine-tuning"] = of_masks(fine_tuning(studies / "fine-tuning"))
    found["semantic-negatives"] = one_a_file("semantic-negatives", studies / "semantic", "{set}", "{arm}")
    for study, rows in found.items():
        write(new / "results" / study / "runs.jsonl", rows if study == "demo" else settled(rows))
    for file in sorted(benchmarks.glob("*.jsonl")):
        write(new / "benchmarks/results" / file.name, benchmark(file.stem)(_read(file)))
    write(new / "benchmarks/results/campaign.jsonl", campaign(_read(benchmarks / "campaign.json")))
    write(new / "benchmarks/results/detection.jsonl", detection(_read(benchmarks / "detection.json")))
    bridges = _read(benchmarks / "bridges.json")
    write(new / "benchmarks/results/bridges.jsonl", keyed("bridges", "{set}", "")(bridges))


def _read(file: Path) -> Any:
    text = file.read_text()
    return [json.loads(line) for line in text.splitlines()] if file.suffix == ".jsonl" else json.loads(text)


def main() -> None:
    """Convert as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    options = parser.parse_args()
    convert(options.old, options.new)


if __name__ == "__main__":
    main()
