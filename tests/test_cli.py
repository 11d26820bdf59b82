import ast
import dataclasses
import io
import json
import re
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import warm
from conftest import encode, write_parquet
from mixtures import midpoints
from rich.table import Table
from safetensors.torch import load_file

import pairsift
from pairsift import cli
from pairsift.cli.app import in_flags, load
from pairsift.cli.commands import COMMANDS
from pairsift.cli.theory import levels_table
from pairsift.scanning import scanning
from pairsift.theory import measure_levels
from pairsift.train import TrainConfig
from pairsift.train.config import EXPLAINED

# Half a second of training: 160 digits of 8 x 8 pixels, five steps an epoch.
QUICK = [
    "--per-class",
    "16",
    "--image-size",
    "8",
    "--batch-size",
    "32",
    "--epochs",
    "2",
    "--device",
    "cpu",
    "--threads",
    "1",
]


@pytest.fixture
def run(monkeypatch):
    """Run a command as the user would; returns exit code, what it printed, and what it said on stderr."""

    def command(*arguments, debug=False, columns=120):
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setenv("COLUMNS", "120")
        # A console made while COLUMNS was set keeps that width.
        monkeypatch.setattr(cli.console, "_width", columns)
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        code = cli.guarded([str(argument) for argument in arguments], debug)
        return code, out.getvalue(), err.getvalue()

    return command


@pytest.fixture
def fails(run):
    """A command that fails in a line or two, without a traceback; returns the words."""

    def command(*arguments, code=1):
        found, out, err = run(*arguments)
        assert (found, out) == (code, "")
        *before, last = err.strip().splitlines()
        assert len(before) <= 3
        assert "Traceback" not in err
        if code == 1:
            assert last.startswith("error: ")
        return last

    return command


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run on digits, by the command line."""
    path = tmp_path_factory.mktemp("trained") / "run"
    assert cli.guarded(["train", "digits:train", *QUICK, "--treatment", "combined", "-o", str(path)], False) == 0
    return path


def test_train_embed_probe(trained, run, tmp_path):
    code, out, _ = run("embed", trained, "digits:test", "-o", tmp_path / "features.parquet")
    assert code == 0
    assert "500 x 128 features" in out
    table = pq.read_table(tmp_path / "features.parquet")
    assert table.column_names == ["row", "features", "label"]
    assert table.schema.field("features").type == pa.list_(pa.float32(), 128)
    assert table["row"].to_pylist() == list(range(500))
    code, out, err = run("probe", trained, "digits:train", "digits:test")
    assert code == 0
    assert "1,297 images" in err
    result = json.loads((trained / "probe-lbfgs.json").read_text())
    assert set(result["accuracy"]) == {"linear probe", "20-NN", "200-NN"}
    assert 0.3 < result["accuracy"]["linear probe"] <= 1
    assert f"{100 * result['accuracy']['20-NN']:.2f}" in out
    code, _, _ = run("probe", trained, "digits:train", "digits:test", "-o", tmp_path / "probe.json")
    assert json.loads((tmp_path / "probe.json").read_text())["accuracy"] == result["accuracy"]
    code, out, _ = run(
        "probe", trained, "digits:train", "digits:test", "--protocol", "sgd", "--epochs", "1", "--per-class", "20"
    )
    assert code == 0
    assert 0 <= json.loads((trained / "probe-sgd.json").read_text())["accuracy"]["linear probe (SGD)"] <= 1


def test_flags_win_over_the_configuration_file(run, tmp_path):
    (tmp_path / "config.yaml").write_text(
        "data: digits:train\nper_class: 8\nbatch_size: 32\nepochs: 3\nthreads: 1\nlr: 0.1\n"
    )
    code, _, _ = run(
        "train", "--config", tmp_path / "config.yaml", "--epochs", "1", "-o", tmp_path / "run", "--no-progress"
    )
    assert code == 0
    config = TrainConfig.load(tmp_path / "run" / "config.yaml")
    assert (config.epochs, config.lr, config.per_class) == (1, 0.1, 8)


def test_every_flag_is_a_field_and_every_field_a_flag():
    parameters = set(cli.train.train.__signature__.parameters) - {"config", "no_labels", *EXPLAINED}
    assert parameters == set(TrainConfig.model_fields)


@pytest.mark.parametrize("command", ["train", "embed", "probe", "demo", "theory"])
def test_help_names_every_option(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.guarded([command, "--help"], False) == 0
    text = capsys.readouterr().out
    expected = {
        "train": ["--" + name.replace("_", "-") for name in TrainConfig.model_fields if name not in ("data", "run_dir")]
    }
    for option in expected.get(
        command,
        {"embed": ["--output"], "probe": ["--protocol"], "demo": ["--seeds"], "theory": ["collapse"]}.get(command),
    ):
        assert option in text


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [("train", ["--run-dir", "x"], "--output"), ("train", ["--run-dir=x"], "--output"),
     ("demo", ["--run-dir", "x"], "--output"), ("train", ["digits", "--memory", "8"], "--memory-gb"),
     ("train", ["digits", "--pos-high", "0.1"], "--band-start"), ("train", ["--class-mates=1"], "--same-class-weight"),
     ("theory", ["measure", "x.npy", "--pos-low", "0.3"], "--band-stop"), ("scan", ["--pos-high=1"], "--band-start")],
)  # fmt: skip
def test_a_flag_of_an_earlier_version_names_its_new_name(fails, command, old, new):
    flag = next(each for each in old if each.startswith("--")).partition("=")[0]
    assert fails(command, *old) == f"error: {flag} has a new name: give {new} to pairsift {command}"


def test_every_new_name_is_an_option():
    for name, command in COMMANDS.items():
        loaded = load(name)
        commands = [loaded, *getattr(loaded, "commands", {}).values()]
        options = {flag for one in commands for each in one.params for flag in (*each.opts, *each.secondary_opts)}
        assert {*command.renamed.values(), *command.accepted.values()} <= options
        assert options.isdisjoint({*command.renamed, *command.accepted})


@pytest.mark.parametrize("old", [["--chunk", "0"], ["--chunk=0"]])
def test_the_old_flag_of_mini_batches_works_for_one_release(old, capsys):
    assert cli.guarded(["train", "digits", *old], False) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "--chunk has a new name: --mini-batch-size" in said
    assert "mini_batch_size" in said.replace("-", "_").partition("0.4")[2]  # the value reaches the setting


def test_labels_are_ignored_or_named_not_both(fails, trained, tmp_path):
    both = ["--no-labels", "--label-column", "label"]
    said = "error: --no-labels ignores labels, so leave out --label-column label"
    assert fails("train", "digits:train", *both, "-o", tmp_path / "x") == said
    assert fails("embed", trained, "digits:test", *both, "-o", tmp_path / "x.parquet") == said


@pytest.fixture
def data(tmp_path, pixels):
    """Small data sets that each have something wrong."""
    encoded = [encode(image) for image in pixels]
    broken = [*encoded[:5], encoded[5][:20], *encoded[6:]]
    labels = [i % 3 for i in range(12)]
    files = {
        "good": (encoded, {"label": labels}),
        "empty": ([], {"label": pa.array([], pa.int64())}),
        "one": (encoded, {"label": [1] * 12}),
        "floats": (encoded, {"label": [0.5] * 12}),
        "broken": (broken, {"label": labels}),
    }
    return {
        name: write_parquet(tmp_path / f"{name}.parquet", images, **extra) for name, (images, extra) in files.items()
    }


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("none", [], "no data at 'none'"),
        ("empty", [], "empty.parquet holds no images"),
        ("one", [], "all 12 images have one label"),
        (
            "floats",
            ["--label-column", "label"],
            "labels must be whole numbers or names of classes, got numbers that are not whole",
        ),
        ("broken", [], "row 5 cannot be decoded"),
        ("good", ["--label-column", "kind"], "has no column 'kind'; its columns: image, label"),
        ("good", ["--batch-size", "13"], "batch_size=13 is larger than the data (12 images)"),
        ("good", ["--band-stop", "0.1"], "must exceed its start (posHigh), got start=0.15, stop=0.1"),
        ("good", ["--accumulate-grad-batches", "2"], "does not enlarge the batch"),
        ("good", ["--encoder", "resnet9000"], "unknown encoder 'resnet9000'"),
    ],
)
def test_bad_training_is_a_line(fails, data, tmp_path, name, flags, message):
    source = data.get(name, name)
    assert message in fails("train", source, "--batch-size", "4", "-o", tmp_path / "run", "--device", "cpu", *flags)
    assert not (tmp_path / "run").exists()


def test_corrupt_images_can_be_left_out(run, data, tmp_path):
    code, _, err = run(
        "train", data["broken"], "--skip-corrupt", "--batch-size", "4", "--epochs", "1", "-o", tmp_path / "run"
    )
    assert code == 0
    assert "left out 1 image that cannot be decoded, the first at row 5" in err


def test_bad_runs_and_places_are_a_line(fails, trained, tmp_path, data):
    assert "exists: continue it with --resume" in fails("train", "digits", "-o", trained)
    assert "is not a run directory" in fails("probe", tmp_path, "digits", "digits")
    assert "the folder of" in fails("embed", trained, "digits", "-o", tmp_path / "no" / "f.parquet")
    (tmp_path / "begun").mkdir()
    TrainConfig(data="digits").save(tmp_path / "begun" / "config.yaml")
    assert "has no encoder yet: finish the run" in fails(
        "embed", tmp_path / "begun", "digits", "-o", tmp_path / "f.parquet"
    )
    assert "nothing to train on" in fails("train", "-o", tmp_path / "new")
    (tmp_path / "typo.yaml").write_text("epoch: 3")
    assert "did you mean 'epochs'" in fails("train", "--config", tmp_path / "typo.yaml")
    assert "--epochs" in fails("train", "digits", "--epochz", "3", code=2)


def test_labels_are_needed_for_probing(fails, trained):
    assert "has no labels to score against" in fails(
        "probe", trained, "digits:train", "digits:test", "--label-column", "none"
    )


def test_debug_shows_where_an_error_comes_from(run, capsys):
    code, _, err = run("train", "no-such-file", debug=True)
    assert code == 1
    assert "Traceback" in err
    assert "no data at 'no-such-file'" in err


@pytest.mark.slow
def test_ctrl_c_leaves_a_run_that_resume_finishes(run, tmp_path):
    flags = ["train", "digits:train", *QUICK[:-6], "--epochs", "15", "--device", "cpu", "--threads", "1"]
    flags += ["--treatment", "none"]
    process = warm.Program("-m", "pairsift.cli", *flags, "-o", tmp_path / "cut")
    while "epoch" not in process.stderr and process.returncode is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert "stopped after" in process.stderr
    resume = re.search(r"continue with: pairsift (.*)", process.stderr).group(1).split()
    assert run(*resume)[0] == 0
    assert run(*flags, "-o", tmp_path / "whole")[0] == 0
    cut, whole = (load_file(tmp_path / name / "encoder.safetensors") for name in ("cut", "whole"))
    assert all((cut[name] == whole[name]).all() for name in whole)


@pytest.mark.parametrize(
    ("said", "command", "told"),
    [
        ("use `overwrite=True`, or another", "scan", "use --overwrite, or another"),
        ("none: `label_column='none'`", "train", "none: --no-labels"),
        ('`run_dir="my run"`', "train", "--output 'my run'"),
        ("`symmetric=False` or `progress`", "train", "--no-symmetric or --progress"),
        ("drop `fraction`", "scan", "drop --fraction"),
        ("give `image_size`", "embed", "give --image-size"),  # of another command: better than none
        ("`band_start` makes a band", None, "--band-start makes a band"),
        ("batch_size=13 is large, as `pairsift scan` and `whatever=True`", "train", None),
    ],
)
def test_settings_that_messages_name_are_flags_on_the_command_line(said, command, told):
    assert in_flags(said, command) == (said if told is None else told)


def test_errors_of_the_library_name_flags(fails, data, embeddings, trained, tmp_path):
    one = fails("train", data["one"], "--batch-size", "4", "-o", tmp_path / "run")
    assert one.endswith("use --no-labels if the labels mean nothing")
    assert "leave such images out with --skip-corrupt" in fails("train", data["broken"], "-o", tmp_path / "run")
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "file").touch()
    assert "not empty: use --overwrite, or another" in fails("scan", embeddings, "-o", tmp_path / "some")
    assert "--band-start and --band-stop make a band" in fails(
        "scan", embeddings, "-o", tmp_path / "x", "--band-stop", "0.1"
    )
    none = fails("embed", trained, data["good"], "-o", tmp_path / "f.parquet", "--label-column", "kind")
    assert none.endswith("its columns: image, label (--no-labels for no labels)")


def test_no_message_of_the_library_speaks_of_flags():
    for file in Path(pairsift.__file__).parent.rglob("*.py"):
        if "cli" in file.parts:
            continue
        tree = ast.parse(file.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if id(node) in docstrings:
                continue
            # A message is a sentence; a word alone is an argument of another program.
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
                assert not re.search(r"(?<!\w)--[a-z]", node.value), f"{file}: {node.value}"


GRAPH = ["--alpha", "0.5", "--beta", "0.1", "--gamma", "0.3", "--n", "40", "--r", "3", "--n-d", "8"]


@pytest.fixture
def embeddings(tmp_path):
    """Features with rows, labels and planted midpoints, as `embed` writes them."""
    features, labels, planted = midpoints(300)
    columns = {"row": np.arange(300), "label": labels, "mixed": planted}
    lists = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), 16)
    pq.write_table(pa.table({"features": lists, **columns}), tmp_path / "features.parquet")
    return tmp_path / "features.parquet"


def test_scan_writes_everything_and_train_drops_it(embeddings, run, fails, tmp_path):
    out = tmp_path / "out"
    np.save(tmp_path / "images.npy", np.zeros((300, 8, 8), np.uint8))
    code, printed, _ = run("scan", embeddings, "-o", out, "--images", tmp_path / "images.npy", "--drop-fraction", "0.1")
    assert code == 0
    assert "about" in printed
    assert printed.index("to drop") < printed.index("Theory (arXiv") < printed.index("margin = ")
    assert float(re.search(r"planted mixes: (0\.\d+)", printed).group(1)) > 0.8
    assert "30 to drop" in printed
    assert {path.name for path in out.iterdir()} == {
        "scores.parquet", "pairs.parquet", "label_issues.parquet", "duplicates.parquet", "drop.csv", "scan.json",
        "report.html",
    }  # fmt: skip
    assert "data:image/png" in (out / "report.html").read_text()
    assert "holds a finished scan: use --overwrite" in fails("scan", embeddings, "-o", out)
    code, printed, _ = run("scan", embeddings, "-o", out, "--overwrite", "--no-labels", "--n-classes", "5")
    assert code == 0
    assert json.loads((out / "scan.json").read_text())["labelled_levels"] is None

    arguments = ["--batch-size", "64", "--epochs", "1", "--threads", "1", "--no-progress", "--no-labels"]
    code, _, _ = run("train", tmp_path / "images.npy", *arguments, "--drop", out / "drop.csv", "-o", tmp_path / "run")
    assert code == 0
    assert TrainConfig.load(tmp_path / "run" / "config.yaml").drop == out / "drop.csv"


def test_bad_scans_are_a_line(embeddings, fails, tmp_path):
    out = tmp_path / "out"
    assert "no features at" in fails("scan", tmp_path / "none.npy", "-o", out)
    assert "n_classes must lie in" in fails("scan", embeddings, "-o", out, "--n-classes", "1")
    assert "has no column 'kind'" in fails("scan", embeddings, "-o", out, "--label-column", "kind")
    assert "make a band together" in fails("scan", embeddings, "-o", out, "--band-start", "0.1")
    assert "must lie in [0, 1)" in fails("scan", embeddings, "-o", out, "--drop-fraction", "8")
    assert fails("scan", embeddings, "-o", out, "--images", tmp_path / "none") != ""
    assert not out.exists()


def test_a_stopped_scan_says_how_it_continues(embeddings, run, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(scanning, "merge", stop)
    code, _, said = run("scan", embeddings, "-o", tmp_path / "out")
    assert code == 130
    assert "the same command continues the scan" in said
    monkeypatch.undo()


def test_patches_are_features_without_a_run(run, fails, tmp_path):
    code, out, _ = run("embed", "patches", "digits:train", "--per-class", "10", "-o", tmp_path / "f.parquet")
    assert (code, "100 x 99 features" in out) == (0, True)
    table = pq.read_table(tmp_path / "f.parquet")
    assert table.column_names == ["row", "features", "label"]
    assert "at least 50" in fails("embed", "patches", "digits:train", "--per-class", "2", "-o", tmp_path / "g.parquet")
    assert not (tmp_path / "g.parquet").exists()


SMALL = ["--alpha", "0.5", "--beta", "0.1", "--gamma", "0.3"]


def test_text_of_users_is_printed_as_it_is(run, fails, monkeypatch, capsys):
    text = "digits:train: in [bold]runs[/bold] [red]"
    assert text in fails("probe", text, "digits:train:", "digits:test")
    for console in (cli.console, cli.notes):
        table = Table("data", title=text)
        table.add_row(text)
        monkeypatch.setattr(console, "_width", 120)
        with console.capture() as shown:
            console.print(text)
            console.print(table)
        assert shown.get().count(text) == 3


def test_no_console_reads_markup_or_emoji():
    sources = [
        file
        for folder in (Path(cli.__file__).parents[1], Path(__file__).parents[1] / "lab")
        for file in folder.rglob("*.py")
    ]
    calls = [call for file in sources for call in re.findall(r"\bConsole\(.*\)", file.read_text())]
    assert len(calls) >= 5
    assert [call for call in calls if "markup=False, emoji=False" not in call] == []


def test_levels_by_labels_are_named_so_where_a_scan_was_loaded():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    levels = measure_levels(rng.standard_normal((4, 8))[labels] + 0.5 * rng.standard_normal((200, 8)), labels)
    for each in (levels, dataclasses.replace(levels, difficult=None)):
        assert next(levels_table(each).columns[0].cells) == "alpha: same class"


def test_theory_of_a_graph(run, fails, tmp_path):
    code, out, _ = run("theory", "graph", *GRAPH, "-o", tmp_path / "page.html")
    assert code == 0
    row = next(line for line in out.splitlines() if "Thm 3.4" in line)
    assert row.split()[3:] == ["0.0295", "0.117", "0.606", "0.626", "violated"]
    assert "<svg" in (tmp_path / "page.html").read_text()
    assert "…" not in run("theory", "graph", *SMALL, "--pairing", "matched", columns=80)[1]
    code, _, err = run("theory", "graph", *GRAPH[:4])
    assert (code, "Missing option '--gamma'" in err) == (2, True)
    assert "got k=0" in fails("theory", "graph", *GRAPH, "--k", "0")
    assert "got k=160" in fails("theory", "graph", *GRAPH, "--k", "160")
    assert "n_d=41" in fails("theory", "graph", *GRAPH[:-1], "41")
    assert "the folder of" in fails("theory", "graph", *GRAPH, "--output", tmp_path / "no" / "page.html")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([*["--alpha", "0.5", "--beta", "0.1", "--gamma", "0.3"], "--plot", "a b.html"],
         "pairsift theory graph --alpha 0.5 --beta 0.1 --gamma 0.3 --output 'a b.html'"),
        (["--label-column", "none", "--features", "f.npy"], "pairsift theory measure f.npy --no-labels"),
        (["--features=f.npy", "--plot=p.html"], "pairsift theory measure f.npy --output p.html"),
        (["--collapse", "--classes", "3"], "pairsift theory collapse --classes 3"),
        (["--laboratory", "--draws", "3"], "python -m lab laboratory --draws 3 in a checkout of the repository"),
    ],
)  # fmt: skip
def test_theory_without_a_subcommand_names_the_new_form(fails, old, new):
    assert fails("theory", *old).endswith(f"has sub-commands now: give {new}")


def test_theory_of_features(run, fails, tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    features = rng.standard_normal((4, 8))[labels] + 0.5 * rng.standard_normal((200, 8))
    np.savez(tmp_path / "f.npz", features=features, labels=labels)
    code, out, _ = run("theory", "measure", tmp_path / "f.npz")
    first = out
    assert code == 0
    for word in ("alpha: same class", "Welch's t", "temperature_scale = beta / gamma", "Thm 3.4"):
        assert word in out or "no temperature" in out
    by_ranks = ("theory", "measure", tmp_path / "f.npz", "--no-labels", "--band-start", "0.25", "--band-stop", "0.5")
    code, out, _ = run(*by_ranks)
    assert code == 0
    assert "alpha: ranked above the band" in out
    assert "Thm 3.4" not in out
    code, _, err = run(*by_ranks, "-o", tmp_path / "page.html")
    assert (code, "were measured by ranks have no number of difficult examples" in err) == (1, True)
    assert not (tmp_path / "page.html").exists()
    assert "no features at" in fails("theory", "measure", tmp_path / "none.npz")
    np.savez(tmp_path / "two.npz", a=features, b=-features[:, :3], labels=labels)
    assert fails("theory", "measure", tmp_path / "two.npz").endswith("name the one to read with --column")
    code, named, _ = run("theory", "measure", tmp_path / "two.npz", "--column", "a", "--label-column", "labels")
    assert (code, named) == (0, first)
    assert "leave out --label-column label" in fails(
        "theory", "measure", tmp_path / "f.npz", "--no-labels", "--label-column", "label"
    )


def test_theory_of_collapse(run, fails):
    code, out, _ = run("theory", "collapse", "--classes", "3", "--per-class", "4", "--temperature", "0.5")
    assert code == 0
    assert "classes collapse up to alpha = 0.1469" in out
    rows = [line.replace("│", " ").split() for line in out.splitlines() if line.startswith("│")]
    assert ["0.5", "0.3525", "1.03"] in rows
    assert rows[-1] == ["1", "0.8182", "never"]
    assert rows[1][3:] == ["collapsed"]
    code, out, _ = run(
        "theory", "collapse", "--alpha", "0.3", "--classes", "3", "--per-class", "4", "--temperature", "1"
    )
    assert (code, "collapsed" in out) == (0, True)
    assert "temperature must be finite and > 0, got 0" in fails("theory", "collapse", "--temperature", "0")
    assert "alpha must be in [0, 1]" in fails("theory", "collapse", "--alpha", "2")
    assert "a class of one image cannot collapse" in fails("theory", "collapse", "--per-class", "1")
    assert "one class has no others" in fails("theory", "collapse", "--classes", "1")


def test_study_says_where_studies_went(fails):
    assert "run python -m lab gaussians in a checkout" in fails("study", "gaussians")
