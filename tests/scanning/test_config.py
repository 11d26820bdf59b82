"""Fields of `ScanConfig` are keywords, YAML keys and flags, and nothing else is."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import yaml

import pairsift as ps
from pairsift import cli
from pairsift.cli import scan as command
from pairsift.data import ArrayFeatures
from pairsift.scanning import ScanConfig, ScanError
from pairsift.train import TrainConfig

# A value of every field that is not its default, and as flags say it.
VALUES = {
    "n_classes": (7, ["--n-classes", "7"]),
    "reference": (2000, ["--reference", "2000"]),
    "within": (7, ["--within", "7"]),
    "split_column": ("part", ["--split-column", "part"]),
    "against": (Path("test.npy"), ["--against", "test.npy"]),
    "keep": (("text", "url"), ["--keep", "text,url"]),
    "max_pairs": (11, ["--max-pairs", "11"]),
    "seed": (3, ["--seed", "3"]),
    "guide_features": (Path("other.npy"), ["--guide-features", "other.npy"]),
    "column": ("vectors", ["--column", "vectors"]),
    "id_column": ("key", ["--id-column", "key"]),
    "skip_bad": (True, ["--skip-bad"]),
    "label_column": ("kind", ["--label-column", "kind"]),
    "no_labels": (True, ["--no-labels"]),
    "band_start": (0.2, ["--band-start", "0.2"]),
    "band_stop": (0.4, ["--band-stop", "0.4"]),
    "memory_gb": (3.5, ["--memory-gb", "3.5"]),
    "threads": (1, ["--threads", "1"]),
    "engine": ("ray", ["--engine", "ray"]),
    "address": ("auto", ["--address", "auto"]),
    "output": (Path("found"), ["--output", "found"]),
    "map": ("tsne", ["--map", "tsne"]),
    "drop_fraction": (0.25, ["--drop-fraction", "0.25"]),
    "overwrite": (True, ["--overwrite"]),
}
FIELDS = list(ScanConfig.model_fields)


@pytest.fixture
def settled(monkeypatch, tmp_path):
    """The configuration that `pairsift scan` makes of flags; nothing is scanned."""
    seen = []
    features = ArrayFeatures(np.eye(12, dtype=np.float32), "features")
    monkeypatch.setattr("pairsift.data.open_features", lambda *_: features)

    def scan(source, config, **_):
        seen.append(config)
        raise ValueError("seen")

    monkeypatch.setattr(command.scanning, "scan", scan)

    def run(*flags):
        assert cli.guarded(["scan", str(tmp_path / "f.npy"), *map(str, flags)], False) == 1
        return seen.pop()

    return run


def values(name):
    """The value of a field, with what it cannot be without."""
    both = ("band_start", "band_stop")
    return {each: VALUES[each][0] for each in dict.fromkeys([name, "output", *(both if name in both else ())])}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_is_a_keyword_a_key_of_yaml_and_a_flag(name, settled, tmp_path):
    expected = ScanConfig(**values(name))
    assert getattr(expected, name) == VALUES[name][0] != ScanConfig.model_fields[name].default
    assert ScanConfig.model_fields[name].description
    plain = {each: str(value) if isinstance(value, Path) else value for each, value in values(name).items()}
    (tmp_path / "scan.yaml").write_text(yaml.safe_dump(plain))
    assert ScanConfig.load(tmp_path / "scan.yaml") == expected
    assert settled("--config", tmp_path / "scan.yaml") == expected
    assert settled(*(word for each in values(name) for word in VALUES[each][1])) == expected
    assert ScanConfig().with_keywords(values(name)) == expected


def test_there_are_no_other_flags():
    assert set(inspect.signature(command.scan).parameters) == {"features", "config", "images", *FIELDS}
    assert set(VALUES) == set(FIELDS)


def test_flags_win_over_files(settled, tmp_path):
    (tmp_path / "scan.yaml").write_text("n_classes: 4\ndrop_fraction: 0.3\noutput: there\n")
    found = settled("--config", tmp_path / "scan.yaml", "-o", "here", "--drop-fraction", "0.1", "--no-labels")
    assert found == ScanConfig(n_classes=4, drop_fraction=0.1, output=Path("here"), no_labels=True)
    assert settled("--output", "here") == ScanConfig(output=Path("here"))


def test_saved_and_loaded_is_the_same_but_for_overwriting(tmp_path):
    config = ScanConfig(**{name: value for name, (value, _) in VALUES.items() if name != "no_labels"})
    config.save(tmp_path / "scan.yaml")
    assert ScanConfig.load(tmp_path / "scan.yaml") == config.model_copy(update={"overwrite": False})


def test_a_scan_needs_a_folder_on_the_command_line(capsys, tmp_path):
    np.save(tmp_path / "f.npy", np.eye(12, dtype=np.float32))
    assert cli.guarded(["scan", str(tmp_path / "f.npy")], False) == 2
    assert "--output" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_clases": 5}, "^unknown field 'n_clases': did you mean 'n_classes'"),
        ({"zzz": 5}, "^unknown field 'zzz': known fields: n_classes, reference"),
        ({"n_classes": "many"}, "^n_classes: .*got 'many'"),
        ({"reference": 10}, "^reference must be at least 1,000 rows, got 10"),
        ({"max_pairs": 0}, "^max_pairs and threads must be positive, got 0 and None"),
        ({"threads": -1}, "^max_pairs and threads must be positive, got 10000 and -1"),
        ({"memory_gb": float("nan")}, r"^memory_gb must be positive, got nan"),
        ({"drop_fraction": 1}, r"^drop_fraction must lie in \[0, 1\), got 1"),
        ({"engine": "spark"}, "^engine: .*'local' or 'ray', got 'spark'"),
        (
            {"band_start": 0.1},
            "^`band_start` and `band_stop` make a band together: .*, got 0.1 and None",
        ),
        ({"band_start": 0.3, "band_stop": 0.2}, "must exceed its start .*, got start=0.3, stop=0.2"),
        ({"seed": -1}, "^seed: .*got -1"),
    ],
)
def test_bad_values_are_refused_in_plain_words(given, message):
    for make in (lambda: ScanConfig(**given), lambda: ScanConfig.build(given)):
        with pytest.raises(ScanError, match=message):
            make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: TrainConfig(band_stop=0.1),
        lambda: TrainConfig(resume=True, overwrite=True),
        lambda: TrainConfig.build({"warmup_epochs": 30, "treatment": "margin"}),
    ],
)
def test_no_configuration_speaks_of_value_errors(make):
    with pytest.raises(ValueError, match=r"^(a band's stop|resume|warmup)"):
        make()


def test_a_configuration_is_frozen_and_at_hand():
    assert ps.ScanConfig is ScanConfig
    with pytest.raises(ValueError, match="frozen"):
        ScanConfig().seed = 3
    assert ScanConfig().band() is None
    assert ScanConfig(band_start=0.1, band_stop=1).band() == ps.RankBand(0.1, 1)


@pytest.mark.parametrize(
    ("old", "new"),
    [("out", "output"), ("fraction", "drop_fraction"), ("memory", "memory_gb"), ("guide", "guide_features")],
)
def test_names_of_02_are_refused_with_the_new_one(old, new, capsys):
    with pytest.raises(ScanError, match=f"unknown field '{old}': it is '{new}' since 0.3"):
        ScanConfig.build({old: 1})
    with pytest.raises(TypeError, match=f"'{old}': it is '{new}' since 0.3"):
        ps.scan(np.eye(20), **{old: 1})
    flag = {"fraction": "--drop"}.get(old, f"--{old}")
    assert cli.guarded(["scan", "f.npy", flag, "1"], False) == 1
    assert f"--{new.replace('_', '-')}" in capsys.readouterr().err


def test_labels_are_ignored_or_named():
    assert ScanConfig(no_labels=True).labels_from() == "none"
    assert ScanConfig(label_column="kind").labels_from() == "kind"
    with pytest.raises(ScanError, match="`no_labels` ignores labels: leave out `label_column='kind'`"):
        ScanConfig(no_labels=True, label_column="kind")
