"""Convert the result files of version 0.2 to the one schema of `lab.rows`.

    python -m lab.convert OLD NEW    # OLD: folder with studies/results and benchmarks/results of 0.2

A folder `NAME/runs.jsonl` of 0.2 becomes `NAME/runs.jsonl` of today, and so does every other layout that studies of 0.2
wrote: an object with rows, one file a run, a table of sets. Means and intervals that files repeated are left out, as
tables compute them from the runs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from lab.rows import Row, row_of, write

Record = dict[str, Any]


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


def trainings(study: str, folder: Path, defaults: Mapping[str, Any]) -> list[Row]:
    """Converts a folder of trained arms: configuration and epochs of each; settings at their defaults are left out."""
    rows = []
    for file in sorted(folder.glob("*.json")):
        record = json.loads(file.read_text())
        left = {name: record.pop(name) for name in ("config", "epochs", "environment", "arm", "test")}
        given = {name: value for name, value in left["config"].items() if defaults.get(name, value) != value}
        given = {name: value for name, value in given.items() if name not in ("run_dir", "threads", "seed", "progress")}
        given |= {"data": left["config"]["data"], "test": left["test"]}
        temperature = record.pop("temperature")
        row = row_of(
            study, record | left["environment"], group=f"tau {temperature:g}", arm=left["arm"],
            settings={"temperature": temperature, **given},
        )  # fmt: skip
        row["measures"] |= curves(left["epochs"])
        rows.append(row)
    return by_arm(rows)


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
    rows = keyed(f"temporal-{record['set']}", "{method}", "{arm}")(record | {"rows": lines})
    for row in rows:
        row["settings"] = given | {"method": row["group"], "arm": row["arm"]}
        if record["dropped"] is not None and "drop" in row["arm"]:
            row["measures"]["dropped"] = record["dropped"]
    for method, arms in record["tuning"].items():
        for arm, best in arms.items():
            settings = given | {"method": method, "arm": arm, "scale": best["scale"], "noise": best["noise"]}
            left = {"held_out_digit": best["held_out_digit"], "seed": 1000} | record["environment"]
            fields = {"group": method, "arm": f"held-out sequences, {arm}", "settings": settings}
            rows.append(row_of(f"temporal-{record['set']}", left, **fields))
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
    setting = record["setting"] | {"draws": record["draws"]}
    known = ("gamma", "arm", "knows", "uses_labels", "draws")
    return [
        row_of(
            "noisy-graphs",
            {name: value for name, value in line.items() if name not in known} | {"versions": record["versions"]},
            group=f"gamma {line['gamma']:g}", arm=line["arm"], seed=record["seed"],
            settings={"gamma": line["gamma"], **setting},
        )
        for line in record["rows"]
    ]  # fmt: skip


def noisy_graph_sweeps(lines: list[Record]) -> list[Row]:
    """Many laboratories, in percentage points: accuracy without treatment, and gains of arms."""
    rows = []
    for line in lines:
        made = {
            name: value for name, value in line.items() if name in ("python", "torch", "git_commit", "src_modified")
        }
        made |= {name: line[name] for name in ("machine", "cpus", "threads")}
        for name in [name for name in line if name.startswith("gamma ")]:
            for arm, value in line[name].items():
                measures = (
                    {"accuracy": value} if arm == "untreated"
                    else dict(zip(("difference", "half_width", "excess"), value, strict=True))
                )  # fmt: skip
                settings = {**line["change"], "draws": line["draws"], "gamma": float(name[6:])}
                fields = {"group": name, "arm": arm, "seed": line["seed"], "settings": settings}
                rows.append(row_of("noisy-graph-sweeps", measures | made, **fields))
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


OBJECTS: dict[str, tuple[str, Callable[[Any], list[Row]]]] = {
    "studies/results/chains.json": ("chains", chains),
    "studies/results/classmates.json": ("near-pairs", near_pairs),
    "studies/results/drop.json": ("drop", keyed("drop", "", "{arm}")),
    "studies/results/objectives.json": ("cifar10-objectives", cifar10_objectives),
    "studies/results/retrieval.json": ("retrieval", keyed("retrieval", "{set}", "{arm}", ("temperature",))),
    "studies/results/text.json": ("sentences", keyed("sentences", "", "{arm}", ("steps", "batch"))),
    "studies/results/laboratory.json": ("noisy-graphs", noisy_graphs),
    "studies/results/laboratory-sweep.jsonl": ("noisy-graph-sweeps", noisy_graph_sweeps),
    "studies/results/demo.json": ("demo", keyed("demo", "", "{treatment}")),
    "studies/results/temporal-fsdd.json": ("temporal-fsdd", temporal),
    "studies/results/temporal-pendigits.json": ("temporal-pendigits", temporal),
}


def convert(old: Path, new: Path) -> None:
    """Convert every file of a checkout of 0.2."""
    from pairsift.train import TrainConfig

    studies, benchmarks = old / "studies/results", old / "benchmarks/results"
    for file in sorted(studies.glob("*/runs.jsonl")):
        write(new / "results" / file.parent.name / "runs.jsonl", suite(file))
    for name, (study, made) in OBJECTS.items():
        write(new / "results" / study / "runs.jsonl", made(_read(old / name)))
    found = [
        row for name in ("cifar10", "pendigits", "trec6") for row in collapse(_read(studies / f"collapse-{name}.json"))
    ]
    write(new / "results/collapse/runs.jsonl", found)
    defaults = {
        name: json.loads(json.dumps(field.default, default=str)) for name, field in TrainConfig.model_fields.items()
    }
    names = {"selection": "selection", "selection-imagenette": "selection-imagenette",
             "selection-tiny-imagenet": "selection-tiny-imagenet", "when": "selection-quality"}  # fmt: skip
    for folder, study in names.items():
        write(new / "results" / study / "runs.jsonl", trainings(study, studies / folder, defaults))
    write(new / "results/fine-tuning/runs.jsonl", fine_tuning(studies / "fine-tuning"))
    semantic = one_a_file("semantic-negatives", studies / "semantic", "{set}", "{arm}", ("steps", "rate"))
    write(new / "results/semantic-negatives/runs.jsonl", semantic)
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
