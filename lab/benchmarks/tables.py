"""The tables of the README and the documentation, and what their text says of studies, made from the result files.

    python -m lab.benchmarks.tables --write    # fill them in
    python -m lab.benchmarks.tables --check    # fail where a page differs from its result files

A page marks a table by `<!-- table: NAME -->` and `<!-- end -->`, and a value in its text by `<!-- value: NAME -->` and
`<!-- end -->`; what stands between is replaced. Fields that a result file lacks leave their cells empty, and columns
without a value are left out.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from lab.benchmarks._markdown import ROOT, Cells, Row, interval, markdown, markdown_rows, mean, number, origin, read
from lab.benchmarks._study_tables import MEASURES, STUDY_TABLES, VALUES
from lab.gains import markdown as gains
from pairsift.evaluate import t_interval

MARKED = re.compile(r"(<!-- table: ([\w, -]+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
VALUE = re.compile(r"(<!-- value: ([\w, -]+?) -->)(.*?)(<!-- end -->)", re.DOTALL)

CONTENDERS = {
    "untreated": "ours untreated",
    "combined": "ours combined",
    "combined_bf16": "ours combined, bf16 selection",
    "lightly": "lightly",
    "dense": "dense `cross_entropy`",
    "pytorch_metric_learning": "pytorch-metric-learning",
}


def loss(sizes: range, floor: bool = False) -> str:
    """Milliseconds and growth of peak memory of every contender, and how far ours is from the floor of its products."""
    source = "lab/benchmarks/results/loss.jsonl"
    rows = [row for row in read(source) if row["views"] in sizes]
    cells = [
        [
            f"{row['views']:,}", *(_cost(row.get(f"{name}_ms"), row.get(f"{name}_peak_mb")) for name in CONTENDERS),
            number(row.get("floor_ms") if floor else None, unit=" ms"),
            number(row.get("combined_over_floor") if floor else None, 2),
        ]
        for row in rows
    ]  # fmt: skip
    titles = ["views", *CONTENDERS.values(), "floor of combined", "combined over floor"]
    return markdown(titles, cells, source, rows[-1])


def _cost(ms: float | None, mb: float | None) -> str | None:
    return ", ".join(filter(None, [number(ms, unit=" ms"), number(mb, 0, " MB")])) or None


def step() -> str:
    """Whole training steps."""
    source = "lab/benchmarks/results/step.jsonl"
    rows = read(source)
    cells = [
        [
            row["objective"], number(row.get("untreated_ms"), 0, " ms"), number(row.get("combined_ms"), 0, " ms"),
            number(row.get("combined_over_untreated"), 3),
        ]
        for row in rows
    ]  # fmt: skip
    return markdown(["objective", "untreated", "combined", "ratio"], cells, source, rows[-1])


def views() -> str:
    """Making views."""
    source = "lab/benchmarks/results/input.jsonl"
    rows = read(source)
    names = {"ours": "ours", "pil": "PIL, image by image", "kornia": "kornia"}
    cells = [
        [title, number(row.get(f"{name}_views_per_second"), 0), number(row.get(f"{name}_over_ours"), 1)]
        for row in rows
        for name, title in names.items()
    ]
    return markdown(["views made by", "views a second", "time over ours"], cells, source, rows[-1])


def theory() -> str:
    """Spectra."""
    source = "lab/benchmarks/results/theory.jsonl"
    rows = [row for row in read(source) if "vertices" in row]
    cells = [
        [
            f"{row['vertices']:,}", number(row.get("closed_form_ms"), 1, " µs", scale=1e3),
            number(row.get("eigsh_ms"), unit=" ms"), number(row.get("eigh_ms"), unit=" ms"),
            f"{row['largest_error']:.0e}" if row.get("largest_error") else None,
        ]
        for row in rows
    ]  # fmt: skip
    titles = ["vertices", "closed form", "sparse solver (`eigsh`)", "dense solver (`eigh`)", "largest difference"]
    return markdown(titles, cells, source, rows[-1])


def startup() -> str:
    """Milliseconds from a fresh process to its end."""
    source = "lab/benchmarks/results/startup.jsonl"
    rows = read(source)
    cells = [[f"`{row['start']}`", number(row["ms"], 0, " ms")] for row in rows]
    return markdown(["start", "median"], cells, source, rows[-1])


def scan() -> str:
    """Scans of growing sets."""
    source = "lab/benchmarks/results/scan.jsonl"
    rows = [row for row in read(source) if "n" in row]
    cells = [
        [
            f"{row['n']:,}", number(row.get("pairsift_s"), 1), number(row.get("pairsift_peak_mb"), 2, scale=1e-3),
            number(row.get("flat_s"), 1), number(row.get("time_ratio"), 2),
        ]
        for row in rows
    ]  # fmt: skip
    titles = ["rows", "seconds", "peak memory, GB", "faiss `IndexFlatIP`, k = 100, seconds", "ours over faiss"]
    return markdown(titles, cells, source, rows[-1])


def detection() -> str:
    """AUROC of the scan and of its peers."""
    source = "lab/benchmarks/results/detection.json"
    record = read(source)
    rows = record["summary"]
    peers = list(dict.fromkeys(name for row in rows for name in row["auroc"] if name not in ("pairsift", "random")))
    cells = [
        [
            row["case"], str(row["seeds"]), f"**{100 * row['auroc']['pairsift']:.1f}**",
            number(row["average_precision"]["pairsift"], 0, scale=100),
            *(number(row["auroc"].get(name), 1, scale=100) for name in peers),
            interval((row["margin"], row["half_width"] or 0), signed=True, scale=100),
        ]
        for row in rows
    ]  # fmt: skip
    titles = ["set", "seeds", "ours", "average precision", *peers, "margin"]
    return markdown(titles, cells, source, record["environment"])


def objectives() -> str:
    """Accuracy with and without the treatment, by objective."""
    source = "lab/results/objectives.json"
    record = read(source)
    names = {"simclr": "SimCLR", "moco": "MoCo"}
    cells = [
        [
            names.get(row["method"], row["method"]), MEASURES[row["measure"]], interval(row["plain"]),
            interval(row["combined"]), interval(row["gain"], signed=True),
        ]
        for row in record["summary"]
    ]  # fmt: skip
    return markdown(["objective", "measure", "plain", "combined", "gain"], cells, source, record["environment"])


def text() -> str:
    """Accuracy of the arms on sentences."""
    source = "lab/results/text.json"
    record = read(source)
    arms: dict[str, dict[str, Row]] = {}
    for row in record["summary"]:
        arms.setdefault(row["arm"], {})[row["measure"]] = row
    cells = [
        [arm, *(
            cell
            for measure in MEASURES
            for cell in (interval(found[measure]["accuracy"]), interval(found[measure].get("minus_plain"), signed=True))
        )]
        for arm, found in arms.items()
    ]  # fmt: skip
    titles = ["arm", *(title for name in MEASURES.values() for title in (name, "minus plain"))]
    return markdown(titles, cells, source, record["environment"])


def retrieval() -> str:
    """What masks are worth to a retriever, and how right they were."""
    source = "lab/results/retrieval.json"
    result = read(source)
    titles = ["set", "arm", "nDCG@10 %", "minus plain", "minus GIST 0", "MRR@10 %", "recall@10 %", "20-NN %",
              "masked %", "precision %", "recall of the mask %"]  # fmt: skip
    rows = [
        [
            line["set"], line["arm"], interval(line["ndcg10"]), interval(line.get("ndcg10_minus_plain"), signed=True),
            interval(line.get("ndcg10_minus_gist 0"), signed=True),
            *(interval(line[measure]) for measure in ("mrr10", "recall10", "knn20")),
            *(number(line.get(field), 1) for field in ("masked", "precision", "recall")),
        ]
        for line in result["summary"]
    ]  # fmt: skip
    return markdown(titles, rows, source, result["environment"])


def fine_tuning() -> str:
    """The same with the whole encoder trained, a file a run; differences are paired by seed."""
    results = [json.loads(file.read_text()) for file in sorted((ROOT / "lab/results/fine-tuning").glob("*-?.json"))]
    by_run = {(each["set"], each["arm"], each["seed"]): each for each in results}
    cells: list[Cells] = []
    for name in sorted({each["set"] for each in results}):
        for arm in ("frozen", "plain", "identity", "guide", "gist 0", "oracle"):
            runs = [each for (of, which, _), each in by_run.items() if (of, which) == (name, arm)]
            others = [[by_run.get((name, other, each["seed"])) for each in runs] for other in ("plain", "gist 0")]
            gains = [
                [
                    run["ndcg10"] - other["ndcg10"]
                    for run, other in zip(runs, found, strict=True)
                    if other and other != run
                ]
                for found in others
            ]
            known = {
                field: [each[field] for each in runs if field in each] for field in ("masked", "precision", "recall")
            }
            if runs:
                cells.append([
                    name, arm, str(len(runs)), interval(t_interval([each["ndcg10"] for each in runs])),
                    *(interval(t_interval(each), signed=True) if each and arm != "frozen" else None for each in gains),
                    *(interval(t_interval([each[field] for each in runs])) for field in ("mrr10", "recall10", "knn20")),
                    *(number(mean(values), 1) if values else None for values in known.values()),
                ])  # fmt: skip
    titles = ["set", "arm", "seeds", "nDCG@10 %", "minus plain", "minus GIST 0", "MRR@10 %", "recall@10 %", "20-NN %",
              "masked %", "precision %", "recall of the mask %"]  # fmt: skip
    return markdown(titles, cells, "lab/results/fine-tuning/", results[0]["environment"])


def pairs() -> str:
    """Time and memory of inspecting pairs."""
    source = "lab/benchmarks/results/pairs.jsonl"
    rows = [row for row in read(source) if "pairs" in row]
    cells = [
        [f"{row['pairs']:,}", number(row["seconds"], 0), number(row["peak_mb"], 1, scale=1e-3),
         f"{row['duplicate_rows']:,}", f"{row['conflicts']:,}", number(row["recall"], 0, " %", 100)]
        for row in rows
    ]  # fmt: skip
    titles = ["pairs", "seconds", "peak memory, GB", "duplicate rows",
              "pairs of rows that must not share a batch", "of the ten nearest found"]  # fmt: skip
    return markdown(titles, cells, source, rows[-1])


def samplers() -> str:
    """An epoch of batches without duplicates."""
    source = "lab/benchmarks/results/pairs.jsonl"
    (row,) = (row for row in read(source) if "batch" in row)
    names = {
        "ours": "`DistinctBatchSampler`", "no_duplicates": "`NoDuplicatesBatchSampler`",
        "no_duplicates_hashed": "the same, hashes made before",
    }  # fmt: skip
    cells = [[title, *(number(row[f"{name}_{when}_s"], 2) for when in ("first", "later"))]
             for name, title in names.items()]  # fmt: skip
    return markdown(["sampler", "first epoch, seconds", "a later one, seconds"], cells, source, row)


def selection(study: str = "selection") -> str:
    """What selections are worth in training; `lab.gains` pairs runs by seed."""
    files = sorted((ROOT / "lab/results" / study).glob("*.json"))
    results = [json.loads(file.read_text()) for file in files]
    commits = sorted({each["environment"]["git_commit"][:10] for each in results})
    facts = results[0]["environment"] | {"git_commit": None}
    source = origin(f"lab/results/{study}/", facts).removesuffix(").")
    return f"{gains(results)}\n\n{source}, commits {', '.join(commits)}).\n"


def semantic_views() -> str:
    """What views of texts replace, and how fast."""
    source = "lab/benchmarks/results/semantic.jsonl"
    rows = [row for row in read(source) if "set" in row]
    shares = ("with_antonym", "synonym_share", "antonym_share", "filled_share", "own_first")
    cells = [
        [
            f"{row['set']}, {row['texts']:,}", number(row["words_per_text"], 0),
            *(number(row[share], 1, " %", 100) for share in shares),
            number(row["texts_per_second"], 0), number(row["words_per_second"], 0),
        ]
        for row in rows
    ]  # fmt: skip
    titles = [
        "training texts", "words each", "with an antonym version", "words replaced by synonyms", "by antonyms",
        "by antonyms and random words", "own antonym version nearest of 256", "texts a second", "words a second",
    ]  # fmt: skip
    return markdown(titles, cells, source, rows[-1])


def semantic_cost() -> str:
    """The loss of semantic negatives beside NT-Xent."""
    source = "lab/benchmarks/results/semantic.jsonl"
    rows = [row for row in read(source) if "n" in row]
    names = ("ntxent", "plain", "treated")
    cells = [
        [f"{row['n']:,}", *(number(row[f"{name}_ms"], 1, " ms") for name in names),
         number(row["treated_over_ntxent"], 2)]
        for row in rows
    ]  # fmt: skip
    titles = ["N", "`NTXentLoss`, N pairs", "N texts, untreated", "N texts, treated", "treated over `NTXentLoss`"]
    return markdown(titles, cells, source, rows[-1])


SEMANTIC_ARMS = {
    "frozen": "frozen", "plain": "without antonym versions", "printed": "two versions alone, as printed",
    "in batch": "in the batch", "in batch, margin": "in the batch, margin 0.1", "three parts": "three parts",
}  # fmt: skip


def semantic() -> str:
    """What a sentence encoder makes of edits, by arm; intervals are over seeds."""
    files = sorted((ROOT / "lab/results/semantic").glob("*.json"))
    results = [json.loads(file.read_text()) for file in files]
    cells: list[Cells] = []
    for name in sorted({each["set"] for each in results}, reverse=True):
        (frozen,) = (each for each in results if (each["set"], each["arm"]) == (name, "frozen"))
        for arm, title in SEMANTIC_ARMS.items():
            runs = [each for each in results if (each["set"], each["arm"]) == (name, arm)]
            if runs:
                cells.append([name, title, str(len(runs)), *_semantic_cells(runs, None if arm == "frozen" else frozen)])
    titles = [
        "set", "arm", "seeds", "AUROC", "held-out pairs", "hits", "cosines", "accuracy", "minus frozen", "nDCG@10",
        "minus frozen", "synonym versions", "changed answers",
    ]  # fmt: skip
    commits = sorted({each["environment"]["git_commit"][:10] for each in results})
    source = origin("lab/results/semantic/", results[0]["environment"] | {"git_commit": None}).removesuffix(").")
    return f"{markdown_rows(titles, cells)}\n\n{source}, commit{'s' * (len(commits) > 1)} {' and '.join(commits)}).\n"


def _semantic_cells(runs: list[Row], frozen: Row | None) -> list[str | None]:
    known, unknown = ([each[name] for each in runs] for name in ("pairs of training", "held-out pairs"))
    cells = [interval(t_interval([each["auroc"] for each in edits])) for edits in (known, unknown)]
    cells.append(interval(t_interval([each["hits"] for each in known])))
    cells.append(" / ".join(f"{mean([each[f'cos_{of}'] for each in known]):.2f}" for of in ("synonym", "antonym")))
    for measure in ("accuracy", "ndcg10"):
        cells.append(interval(t_interval([each[measure] for each in runs])))
        gains = None if frozen is None else [each[measure] - frozen[measure] for each in runs]
        cells.append(None if gains is None else interval(t_interval(gains), signed=True))
    cells.append(interval(t_interval([each["accuracy_synonym"] - each["accuracy"] for each in known]), signed=True))
    cells.append(" / ".join(f"{mean([each[f'changed_{of}'] for each in known]):.0f}" for of in ("synonym", "antonym")))
    return cells


def collapse(name: str) -> str:
    """Share of variance within classes beside theory, and what features of coarse labels know of fine classes."""
    source = f"lab/results/collapse-{name}.json"
    record = read(source)
    measures = ("within_class", "within_class_h", "coarse", "fine", "fine_z")
    cells = [
        [number(row["temperature"], 1), f"{row['alpha']:g}", str(row["seeds"]), number(row["theory"], 1, scale=100),
         *(interval(row.get(each)) for each in measures)]
        for row in record["summary"]
    ]  # fmt: skip
    titles = ["tau", "alpha", "seeds", "share said %", "of projections %", "of features %", "coarse %",
              "fine, by features %", "fine, by projections %"]  # fmt: skip
    return markdown(titles, cells, source, record["environment"])


def chains() -> str:
    """Errors of encoders on simulated chains, beside the population's."""
    source = "lab/results/chains.json"
    record = read(source)
    cells = [
        [str(row["bridging"]), row["arm"], str(row["seeds"]), number(row.get("second"), 2),
         number(row.get("half_bound"), 0), number(row.get("exact_squared"), 1), interval(row["squared"]),
         interval(row["error"]), interval(row.get("difference"), signed=True)]
        for row in record["summary"]
    ]  # fmt: skip
    titles = ["bridging of 16", "positives", "seeds", "lambda_2", "half the bound", "exact squared error",
              "squared error", "error %", "minus temporal"]  # fmt: skip
    return markdown(titles, cells, source, record["environment"])


def chain_estimate() -> str:
    """Time and memory of a chain from many transitions."""
    source = "lab/benchmarks/results/chains.jsonl"
    rows = read(source)
    cells = [
        [f"{row['transitions']:,}", f"{row['states']:,}",
         *(number(row[name], 1) for name in ("counting", "eigenvalues", "errors", "seconds", "peak_gb"))]
        for row in rows
    ]  # fmt: skip
    titles = [
        "transitions",
        "states",
        "counting, s",
        "ten eigenvalues, s",
        "their errors, s",
        "together, s",
        "peak, GB",
    ]
    return markdown(titles, cells, source, rows[-1])


def classmates() -> str:
    """AUROC of telling class-mates from others among near pairs."""
    source = "lab/results/classmates.json"
    record = read(source)
    signs = ("cosine", "centred", "whitened", "affinity")
    cells = []
    for name, found in record["sets"].items():
        best = max(found["auroc"].values())
        values = [(number(found["auroc"][sign], 3), found["auroc"][sign] == best) for sign in signs]
        shares = [number(found[share], 1, scale=100) for share in ("different", "estimated")]
        cells.append([name, *(f"**{value}**" if top else value for value, top in values), *shares,
                      number(found["calibration_error"], 2)])  # fmt: skip
    titles = ["set", *signs, "different %", "estimated %", "calibration error"]
    return markdown(titles, cells, source, record["environment"])


def bridges() -> str:
    """Of the bridging pairs listed first, how many are of different classes."""
    source = "lab/benchmarks/results/bridges.json"
    record = read(source)
    columns = (
        ("different_50", 100), ("different_1000", 100), ("different_1000_by_similarity", 100),
        ("different_random_neighbours", 100), ("median_rank", 1), ("mean_probability", 100),
    )  # fmt: skip
    cells = []
    for row in record["rows"]:
        values = [number(row[name], 1 if scale == 100 else 0, scale=scale) for name, scale in columns]
        values[1] = f"**{values[1]}**"
        cells.append([row["set"] + (", with a guide" if row["guide"] else ""), *values])
    titles = [
        "set", "first 50", "first 1,000", "first 1,000 by similarity", "random neighbours", "median rank",
        "mean probability",
    ]  # fmt: skip
    return markdown(titles, cells, source, record["environment"])


def drop() -> str:
    """Accuracy after dropping."""
    source = "lab/results/drop.json"
    record = read(source)
    names = {
        "nothing": "nothing", "random": "a random fifth", "scan": "the scan's top fifth",
        "truth": "the true mixes (a fifth)",
    }  # fmt: skip
    cells: list[Cells] = []
    for arm, title in names.items():
        rows = [row for row in record["rows"] if row["arm"] == arm]
        planted = [row["planted_among_dropped"] for row in rows if "planted_among_dropped" in row]
        linear = [row["linear"] for row in rows]
        cells.append([
            title, f"{100 * mean(planted):.0f} %" if planted else None, ", ".join(f"{each:.1f}" for each in linear),
            number(mean(linear), 1), number(mean([row["knn20"] for row in rows]), 1),
        ])  # fmt: skip
    titles = ["dropped", "planted among them", "linear probe, by seed", "mean", "20-NN, mean"]
    return markdown(titles, cells, source, record["environment"])


def laboratory() -> str:
    """Treatments on noisy graphs."""
    source = "lab/results/laboratory.json"
    record = read(source)
    gammas = record["setting"]["gammas"]
    names = {
        "without": "without difficult examples *", "margin": "margin on the band",
        "temperature": "temperature on the band", "drop": "dropping the band", "random margin": "margin, random pairs",
        "random temperature": "temperature, random pairs", "random drop": "dropping random pairs",
        "removal": "difficult examples removed, Nystroem extension *",
        "degree removal": "as many of the largest degree removed", "random removal": "as many at random removed",
        "oracle margin": "margins of Theorem 4.3 *", "oracle temperature": "temperatures of Theorem 4.5 *",
        "class margin": "margin on all pairs of different classes *",
    }  # fmt: skip
    found = {(row["arm"], row["gamma"]): row for row in record["rows"]}
    plain = [number(found["with", gamma]["accuracy"], 1, scale=100) for gamma in gammas]
    cells: list[Cells] = [["untreated", *plain, None]]
    for arm, title in names.items():
        rows = [found[arm, gamma] for gamma in gammas]
        excess = None if rows[0]["excess"] is None or "removal" in arm else f"{100 * rows[0]['excess']:+.1f}"
        gains = [interval((row["difference"], row["half_width"]), signed=True, scale=100) for row in rows]
        cells.append([title, *gains, excess])
    beta = record["setting"]["beta"]
    titles = [f"gamma {gamma:.2f}" if gamma != beta else "gamma = beta" for gamma in gammas]
    return markdown(["arm", *titles, "purity minus base"], cells, source, record.get("versions") or {})


def temporal(name: str) -> str:
    """Accuracies with positives from time and from augmentation, and differences to temporal ones."""
    source = f"lab/results/temporal-{name}.json"
    record = read(source)
    measures = ("digit", "speaker") if name == "fsdd" else ("digit",)
    found = {(row["method"], row["arm"]): row for row in record["summary"]}
    cells = []
    for arm in dict.fromkeys(row["arm"] for row in record["summary"]):
        rows = [found.get((method, arm)) for method in ("spectral", "simclr")] if arm != "raw" else [found["", arm]] * 2
        for row in rows:
            assert row is not None
        seeds = str(rows[0]["seeds"])
        values = [interval(row.get(f"{measure}{part}"), signed=bool(part))
                  for measure in measures for row in rows for part in ("", "_gain")]  # fmt: skip
        cells.append([arm, seeds, *values])
    losses = ("spectral", "NT-Xent")
    titles = [title for measure in measures for loss in losses for title in (f"{measure}, {loss}", "difference")]
    return markdown(["positives", "seeds", *titles], cells, source, record["environment"])


def demo() -> str:
    """Plain and combined on digits."""
    source = "lab/results/demo.json"
    record = read(source)
    measures = {
        "linear": "linear probe", "knn": "20-NN", "auroc": "mixes found by the scan, AUROC",
        "different": "pairs of different classes in the band",
    }  # fmt: skip
    cells: list[Cells] = []
    for measure, title in measures.items():
        sides = [[row[measure] for row in record["rows"] if row["treatment"] == name] for name in ("none", "combined")]
        gain = interval(record["differences"].get(measure), signed=True)
        cells.append([title, *(number(mean(side), 1, " %") for side in sides), gain])
    titles = ["digits, a fifth of them mixed", "plain", "combined", "difference"]
    return markdown(titles, cells, source, record["environment"])


CAMPAIGN = "lab/benchmarks/results/campaign.json"


def campaigns() -> str:
    """A line for each campaign."""
    record = read(CAMPAIGN)
    killed, soaked, again = record["kill"]["campaigns"], record["soak"]["rows"], record["repeat"]["rows"]
    runs, same = sum(row["runs"] for row in killed), sum(row["outcomes"].get("same", 0) for row in killed)
    kept = sum(row["again"] == 0 for row in again)
    threads = sum(row["threads"] == 0 for row in again)
    wrong = len(record["fuzz"]["defects"])
    soaks = (
        f"{row['calls']:,} {row['soak']}: {row['grown_mb']:+.1f} MB, {row['grown_files']:+,} files" for row in soaked
    )
    kills, twice, parts = (sum(row[name] for row in killed) for name in ("kills", "made_twice", "parts"))
    targets = len(record["fuzz"]["targets"])
    held = f"in {targets - wrong} of {targets} kinds of them a result that holds, or a refusal in words"
    cells = [
        [
            "kill",
            f"{kills:,} times `kill -9`: {same:,} of {runs:,} runs ended as an uninterrupted one, byte for byte; "
            f"{twice:,} of {parts:,} finished parts were made again",
        ],
        ["fuzz", f"{record['fuzz']['inputs']:,} seeded inputs: {held}"],
        ["soak", "; ".join(soaks)],
        [
            "repeat",
            f"of {len(again)} commands and losses {kept} give the same bits again, {threads} with two threads, too",
        ],
    ]
    return f"{markdown_rows(['campaign', 'what came of it'], cells)}\n"


def kills() -> str:
    """Runs that were killed and resumed."""
    record = read(CAMPAIGN)["kill"]
    cells = [
        [
            row["task"],
            f"{row['runs']:,}",
            f"{row['kills']:,}",
            f"{row['outcomes'].get('same', 0):,}",
            f"{row['parts']:,} {row['part']}",
            f"{row['made_twice']:,}",
        ]
        for row in record["campaigns"]
    ]
    titles = [
        "command",
        "runs",
        "kills",
        "ended as an uninterrupted run, byte for byte",
        "finished parts",
        "of them made again",
    ]
    return markdown(titles, cells, CAMPAIGN, record["environment"])


def fuzz() -> str:
    """Inputs, and what became of them."""
    record = read(CAMPAIGN)["fuzz"]
    rows = record["targets"]
    columns = ("inputs", "result", "refused", "stopped")
    cells = [[row["target"], *(_count(row.get(name, 0)) for name in columns)] for row in rows]
    cells.append(["all", *(_count(sum(row.get(name, 0) for row in rows)) for name in columns)])
    titles = ["tried", "inputs", "results that hold", "refused in words", "stopped as by a kill"]
    return markdown(titles, cells, CAMPAIGN, record["environment"])


def _count(value: int) -> str | None:
    return f"{value:,}" if value else None


def soak() -> str:
    """What many calls leave behind in one process."""
    record = read(CAMPAIGN)["soak"]
    cells = [
        [row["soak"], f"{row['calls']:,}", f"{row['slope_bytes_a_call']:+,.1f}", f"{row['grown_mb']:+.1f}",
         f"{row['grown_objects']:+,}", f"{row['grown_files']:+,}"]
        for row in record["rows"]
    ]  # fmt: skip
    titles = ["soak", "calls", "memory, bytes a call", "memory, MB in all", "objects", "open files"]
    return markdown(titles, cells, CAMPAIGN, record["environment"])


def repeat() -> str:
    """What is the same bit by bit when it is made again."""
    record = read(CAMPAIGN)["repeat"]
    cells = [
        [row["what"], _apart(row["again"]), _apart(row["threads"]),
         f"{row['engine_name']}: {_apart(row['engine'])}" if "engine" in row else None]
        for row in record["rows"]
    ]  # fmt: skip
    titles = ["what", "again, one thread", "two threads for one", "another engine"]
    return markdown(titles, cells, CAMPAIGN, record["environment"])


def _apart(value: float) -> str:
    return "same" if value == 0 else f"{value:.0e}"


MATRIX = "lab/benchmarks/results/matrix.jsonl"


def matrix() -> str:
    """What the tests of a release said on every Python."""
    rows = read(MATRIX)
    cells = [
        [
            row["python"],
            row["versions"],
            row.get("torch"),
            *(_count(row.get(name, 0)) for name in ("passed", "skipped", "failed")),
            row.get("reason"),
            row["git_commit"][:10],
        ]
        for row in rows
    ]
    titles = ["Python", "versions", "PyTorch", "tests passed", "skipped", "failed", "", "commit"]
    return f"{markdown_rows(titles, cells)}\n\nFrom `{MATRIX}`.\n"


TABLES: dict[str, Callable[[], str]] = {
    "loss": lambda: loss(range(512, 4097)),
    "loss, all sizes": lambda: loss(range(1 << 30), floor=True),
    "step": step, "views": views, "theory": theory, "scan": scan, "detection": detection, "objectives": objectives,
    "text": text, "drop": drop, "demo": demo, "laboratory": laboratory, "selection": selection,
    "selection, imagenette": lambda: selection("selection-imagenette"),
    "selection, tiny-imagenet": lambda: selection("selection-tiny-imagenet"),
    "when": lambda: selection("when"), "classmates": classmates,
    "bridges": bridges, "temporal, fsdd": lambda: temporal("fsdd"),
    "temporal, pendigits": lambda: temporal("pendigits"),
    "chains": chains, "chain estimate": chain_estimate,
    "collapse, pendigits": lambda: collapse("pendigits"), "collapse, trec6": lambda: collapse("trec6"),
    "collapse, cifar10": lambda: collapse("cifar10"),
    "campaigns": campaigns, "kills": kills, "fuzz": fuzz, "soak": soak, "repeat": repeat,
    "matrix": matrix, "startup": startup,
    "semantic": semantic, "retrieval": retrieval, "fine-tuning": fine_tuning, "pairs": pairs, "samplers": samplers,
    "semantic views": semantic_views, "semantic cost": semantic_cost,
    **STUDY_TABLES,
}  # fmt: skip


def pages(root: Path = ROOT) -> list[Path]:
    """The README and the documentation."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def filled(page: str) -> str:
    """A page with its tables and values made anew."""
    page = MARKED.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n{found[4]}", page)
    return VALUE.sub(lambda found: f"{found[1]}{VALUES[found[2]]()}{found[4]}", page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--write", action="store_true")
    kind.add_argument("--check", action="store_true")
    options = parser.parse_args()
    stale = [page for page in pages() if filled(page.read_text()) != page.read_text()]
    if options.write:
        for page in stale:
            page.write_text(filled(page.read_text()))
    for page in stale:
        print(f"{page.relative_to(ROOT)}: {'tables written' if options.write else 'tables differ: --write makes them'}")
    sys.exit(bool(stale and options.check))


if __name__ == "__main__":
    main()
