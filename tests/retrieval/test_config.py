"""Fields of `PairsConfig` are keywords, YAML keys and flags, and nothing else is."""

import inspect
import io
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from pairsift import cli
from pairsift.cli import pairs as command
from pairsift.retrieval import PairsConfig, PairsError

# A value of every field that is not its default, and as flags say it.
VALUES = {
    "anchor": ("q", ["--anchor", "q"]),
    "positive": ("d", ["--positive", "d"]),
    "negatives": ("n1,n2", ["--negatives", "n1,n2"]),
    "split": ("test", ["--split", "test"]),
    "label": ("good", ["--label", "good"]),
    "positive_label": ("yes", ["--positive-label", "yes"]),
    "min_score": (0.7, ["--min-score", "0.7"]),
    "guide_model": ("minilm", ["--guide-model", "minilm"]),
    "guide_features": (Path("features.npy"), ["--guide-features", "features.npy"]),
    "against": (Path("test.jsonl"), ["--against", "test.jsonl"]),
    "leaks": ("keep", ["--leaks", "keep"]),
    "spelling": (0.9, ["--spelling", "0.9"]),
    "judge": ("judges:oracle", ["--judge", "judges:oracle"]),
    "judge_floor": (0.4, ["--judge-floor", "0.4"]),
    "judge_share": (0.8, ["--judge-share", "0.8"]),
    "judged_positives": ("relabel", ["--judged-positives", "relabel"]),
    "corpus": (Path("texts.jsonl"), ["--corpus", "texts.jsonl"]),
    "refill_share": (0.9, ["--refill-share", "0.9"]),
    "against_column": ("text", ["--against-column", "text"]),
    "against_split": ("dev", ["--against-split", "dev"]),
    "corpus_split": ("all", ["--corpus-split", "all"]),
    "corpus_column": ("text", ["--corpus-column", "text"]),
    "query_prompt": ("query: ", ["--query-prompt", "query: "]),
    "document_prompt": ("text: ", ["--document-prompt", "text: "]),
    "guide_device": ("cpu", ["--guide-device", "cpu"]),
    "guide_batch_size": (16, ["--guide-batch-size", "16"]),
    "margin": (0.05, ["--margin", "0.05"]),
    "floor": (-1.0, ["--floor", "-1"]),
    "cap": (0.2, ["--cap", "0.2"]),
    "near": (0.97, ["--near", "0.97"]),
    "neighbours": (7, ["--neighbours", "7"]),
    "sample": (100, ["--sample", "100"]),
    "seed": (3, ["--seed", "3"]),
    "drop_near": (True, ["--drop-near"]),
    "labelled_negatives": ("keep", ["--labelled-negatives", "keep"]),
    "wrong_positives": ("drop", ["--wrong-positives", "drop"]),
    "bad_negatives": ("drop", ["--bad-negatives", "drop"]),
    "threads": (1, ["--threads", "1"]),
    "output": (Path("found"), ["-o", "found"]),
    "examples": (5, ["--examples", "5"]),
    "max_conflicts": (11, ["--max-conflicts", "11"]),
    "overwrite": (True, ["--overwrite"]),
}
FIELDS = list(PairsConfig.model_fields)


@pytest.fixture
def settled(monkeypatch):
    """The configuration that `pairsift pairs` makes of flags; nothing is inspected."""
    seen = []

    def inspect_pairs(_, config, **__):
        seen.append(config)
        raise ValueError("seen")

    monkeypatch.setattr(command.retrieval, "inspect_pairs", inspect_pairs)

    def run(*flags):
        assert cli.guarded(["pairs", "train.parquet", *map(str, flags)], False) == 1
        return seen.pop()

    return run


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_is_a_keyword_a_key_of_yaml_and_a_flag(name, settled, tmp_path):
    values = {each: VALUES[each][0] for each in dict.fromkeys([name, "output"])}
    expected = PairsConfig(**values)
    assert getattr(expected, name) == VALUES[name][0] != PairsConfig.model_fields[name].default
    assert PairsConfig.model_fields[name].description
    plain = {each: str(value) if isinstance(value, Path) else value for each, value in values.items()}
    (tmp_path / "pairs.yaml").write_text(yaml.safe_dump(plain))
    assert PairsConfig.load(tmp_path / "pairs.yaml") == expected
    assert settled("--config", tmp_path / "pairs.yaml") == expected
    assert settled(*(word for each in values for word in VALUES[each][1])) == expected
    assert PairsConfig().updated("inspect_pairs", values) == expected


def test_there_are_no_other_flags():
    assert set(inspect.signature(command.pairs).parameters) == {"train", "config", *FIELDS}
    assert set(VALUES) == set(FIELDS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"margn": 0.1}, "^unknown field 'margn': did you mean 'margin'"),
        ({"out": "found"}, "^unknown field 'out': it is `output` since 0.3"),
        ({"guide": "minilm"}, "^unknown field 'guide': use `guide_model` for an encoder, `guide_features` for a file"),
        ({"guide_model": "minilm", "guide_features": "f.npy"}, "^give `guide_model` or `guide_features`, not both"),
        ({"positive_label": "1", "min_score": 0.5}, "^give `positive_label` or `min_score`, not both"),
        ({"min_score": float("inf")}, "^min_score must be a finite number, got inf"),
        ({"margin": float("nan")}, "^margin must be a finite number, got nan"),
        ({"near": 1.5}, r"^near must lie in \[-1, 1\], got 1.5"),
        ({"cap": 0}, r"^cap must lie in \(0, 1\], got 0"),
        ({"neighbours": 0}, "^neighbours must be at least 1, got 0"),
        ({"sample": 1}, "^sample must be at least 2, got 1"),
        ({"examples": -1}, "^examples must be at least 0, got -1"),
        ({"max_conflicts": 0}, "^max_conflicts must be at least 1, got 0"),
        ({"threads": -1}, "^threads must be positive, got -1"),
        ({"bad_negatives": "keep"}, "^bad_negatives: .*'refill', 'drop' or 'null', got 'keep'"),
        ({"seed": -1}, "^seed: .*got -1"),
    ],
)
def test_bad_values_are_refused_in_plain_words(given, message):
    with pytest.raises(PairsError, match=message):
        PairsConfig(**given)


# The command


@pytest.fixture
def run(monkeypatch):
    """Run the command as the user would; exit code, what it printed, and what it said on stderr."""

    def command(*arguments):
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(cli.console, "_width", 120)
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        code = cli.guarded(["pairs", *map(str, arguments)], False)
        return code, out.getvalue(), err.getvalue()

    return command


def test_the_command_prints_what_it_found(table, run, tmp_path):
    pq.write_table(table, tmp_path / "pairs.parquet")
    code, out, _ = run(tmp_path / "pairs.parquet", "-o", tmp_path / "out", "--floor", "-1")
    assert code == 0
    assert "duplicate rows" in out
    assert "32,768" in out
    assert "120 rows in" in out
    assert "119 in clean.parquet" in out
    assert (tmp_path / "out" / "report.html").exists()
    code, out, err = run(tmp_path / "pairs.parquet", "-o", tmp_path / "out")
    assert (code, out) == (1, "")
    assert "holds a finished inspection: use --overwrite, or another folder" in err


def test_texts_without_a_guide_are_said_to_be_so(run, tmp_path):
    pq.write_table(pa.table({"query": ["a", "A"], "passage": ["b", "B"]}), tmp_path / "pairs.parquet")
    code, out, err = run(tmp_path / "pairs.parquet", "-o", tmp_path / "out")
    assert code == 0
    assert "no guide: texts are compared by their spelling alone; see --guide-model" in err
    assert "Without a guide" in out


def test_bad_pairs_are_a_line(run, tmp_path):
    pq.write_table(pa.table({"text": ["a"], "positive": ["b"]}), tmp_path / "named.parquet")
    pq.write_table(pa.table({"anchor": ["a"], "positive": ["b"]}), tmp_path / "pairs.parquet")
    np.save(tmp_path / "guide.npy", np.ones((3, 2), np.float32))
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "pairs.parquet").read_bytes()[:-9])
    for arguments, message in (
        ((tmp_path / "none.parquet",), "no pairs at"),
        ((tmp_path / "cut.parquet",), "cannot be read as parquet"),
        ((tmp_path / "named.parquet",), "its columns: text, positive: name one with --anchor"),
        ((tmp_path / "pairs.parquet", "--guide-features", tmp_path / "guide.npy"), "give 2 rows of features"),
        ((tmp_path / "pairs.parquet", "--cap", "2"), "cap must lie in (0, 1]"),
    ):
        code, out, err = run(*arguments, "-o", tmp_path / "out")
        assert (code, out) == (1, "")
        assert message in err
        assert err.strip().splitlines()[-1].startswith("error: ")
        assert not (tmp_path / "out").exists()
    code, _, err = run(tmp_path / "pairs.parquet")
    assert code == 2
    assert "--output" in err
