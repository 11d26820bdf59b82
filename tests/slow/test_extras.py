"""What pairsift needs is what its extras say: with their packages alone all of theirs runs, and the rest is named."""

import importlib
import re
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from environments import PROJECT, Environment, requirements

from pairsift._base.extras import MissingExtraError, needs
from pairsift.cli.app import load
from pairsift.cli.commands import COMMANDS, called


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    return Environment(tmp_path_factory.mktemp("bare") / "env")


def test_a_loss_needs_torch_and_numpy_alone():
    assert {each.name for each in requirements()} == {"numpy", "torch", "typing-extensions"}


CORE = """
import sys, torch, pairsift as ps
torch.manual_seed(0)
z, h = torch.randn(2, 16, 8, requires_grad=True), torch.randn(2, 16, 32)
treatment = ps.Treatment(margin=0.03, temperature_scale=0.6)
for band in (ps.RankBand(0.15, 0.4), ps.RandomPairs(ps.RankBand(0.15, 0.4), seed=0)):
    loss = ps.losses.NTXentLoss(0.5, selector=band, treatment=treatment)
    loss(*z, *h).backward()
assert torch.isfinite(z.grad).all() and z.grad.abs().sum() > 0
plain = ps.losses.NTXentLoss(0.5)
assert loss(*z, *h) != plain(*z)
ps.losses.MoCoLoss, ps.losses.SpectralLoss(1.0), ps.integrations.HookedLoss
graph = ps.theory.SimilarityGraph(50, 4, 5, 0.472, 0.191, 0.209)
values, counts = graph.spectrum()
assert counts.sum() == 250 and abs(values[0] - 1) < 1e-12
assert len(ps.theory.bounds.compare(graph, 0.05, 5)) > 3
ps.theory.edits, ps.theory.collapse_threshold(10, 26, 0.1)
assert ps.evaluate.semantic_hits(torch.eye(2), torch.eye(2), -torch.eye(2)) == 1
assert 0 < ps.evaluate.collapse(torch.randn(40, 4), torch.arange(40) % 2).within_class < 1
print(sorted({"faiss", "lightning", "pydantic", "rich", "scipy", "sklearn", "typer"} & set(sys.modules)))
"""


def test_losses_and_the_graph_of_the_theory_run_bare(bare):
    done = bare.run("-c", CORE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


EVALUATION = """
import sys, numpy as np, pairsift as ps
from pairsift._base.extras import MissingExtraError
x, y = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32), np.arange(60) % 2
ps.evaluate.linear_probe(x, y, x, y), ps.evaluate.detection(x[:, 0], y), ps.evaluate.t_interval(x[:, 0])
try:
    ps.evaluate.knn(x, y, x, y, k=3)
except MissingExtraError as error:
    print(error)
print(sorted({"faiss", "lightning", "pyarrow", "typer"} & set(sys.modules)))
"""


def test_evaluation_needs_what_it_imports_alone(tmp_path):
    done = Environment(tmp_path / "env", "theory").run("-c", EVALUATION)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "pairsift.evaluate.knn needs faiss: pip install faiss-cpu\n[]\n"


ESTIMATE = """
import sys, numpy as np, torch, pairsift as ps
x = np.random.default_rng(0).normal(size=(5, 16))[np.arange(1500) % 5] * 3
x += np.random.default_rng(1).normal(size=x.shape)
affinity = ps.same_class.Affinity.fit(x.astype(np.float32), seed=0)
print(sorted({"lightning", "typer"} & set(sys.modules)))
"""


def test_the_same_class_estimator_needs_no_training_framework(tmp_path):
    done = Environment(tmp_path / "env", "scan").run("-c", ESTIMATE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


NEEDY = {
    "ps.scan([[1.0]])": "scan",
    "ps.ScanConfig": "scan",
    "from pairsift.scanning import Scan": "scan",
    "ps.pretrain": "train",
    "ps.ConfidentNegatives": "scan",
    "from pairsift.integrations.lightning import TreatPairs": "train",
    "ps.evaluate.linear_probe(np.eye(4), [0, 1, 0, 1], np.eye(4), [0, 1, 0, 1])": "theory",
    "ps.evaluate.detection([1.0, 2.0], [0, 1])": "theory",
    "ps.evaluate.t_interval([1.0, 2.0])": "theory",
    "ps.retrieval.inspect_pairs": "scan",
    "ps.data.load_images": "data",
    "ps.text.WordNet": "text",
    "ps.theory.population.leading_eigenpairs(np.eye(3), 1)": "theory",
    "ps.theory.bounds.semicircle_quantile(0.2)": "theory",
    "ps.theory.within_class_share(0.5, 10, 26, 0.1)": "theory",
    "ps.theory.measure_levels(np.random.rand(60, 4), np.arange(60) % 2)": "theory",
}


@pytest.fixture(scope="module")
def needy(bare):
    programs = [("-c", f"import numpy as np, pairsift as ps; {code}") for code in NEEDY]
    return dict(zip(NEEDY, bare.runs(*programs, imports="torch"), strict=True))


@pytest.mark.parametrize(("code", "extra"), NEEDY.items())
def test_what_is_not_installed_is_named(needy, code, extra):
    assert (needy[code].returncode, needy[code].stdout) == (1, "")
    last = needy[code].stderr.splitlines()[-1]
    assert re.fullmatch(
        rf"pairsift\._base\.extras\.MissingExtraError: .+ needs \w+: pip install 'pairsift\[{extra}\]'", last
    )


@pytest.mark.parametrize("command", ["scan", "train", "pairs", "theory", "demo", "text-views", "--help"])
def test_a_command_names_its_extra_in_a_line(bare, command):
    done = bare.pairsift(command, "features.npy")
    assert (done.returncode, done.stdout) == (1, "")
    extra, who = called([command])
    assert done.stderr == f"error: {who} needs typer: pip install 'pairsift[{extra}]'\n"


def test_the_extra_of_a_scan_is_enough_for_one(tmp_path):
    environment = Environment(tmp_path / "env", "scan")
    rng = np.random.default_rng(0)
    labels = np.arange(1500) % 5
    features = rng.normal(size=(5, 16))[labels] * 3 + rng.normal(size=(1500, 16))
    np.save(tmp_path / "features.npy", features.astype(np.float32))
    pq.write_table(pa.table({f"f{i}": features[:, i] for i in range(16)}), tmp_path / "features.parquet")
    scanned, inspected, rays, trained = environment.pairsifts(
        ("scan", "features.npy", "-o", "found"),
        ("pairs", "found/scores.parquet", "-o", "inspected"),
        ("scan", "features.parquet", "-o", "rays", "--engine", "ray"),
        ("train", "digits:train"),
        imports="pairsift.scanning",
        cwd=tmp_path,
    )
    assert scanned.returncode == 0, scanned.stderr
    assert {"scores.parquet", "report.html"} <= {file.name for file in (tmp_path / "found").iterdir()}
    # It runs, and finds no pairs there.
    assert (inspected.returncode, "needs" in inspected.stderr) == (1, False), inspected.stderr
    assert rays.stderr.endswith("error: the engine 'ray' needs ray: pip install 'pairsift[distributed]'\n")
    assert (trained.returncode, trained.stderr) == (
        1,
        "error: pairsift train needs lightning: pip install 'pairsift[train]'\n",
    )


def test_the_extra_of_training_is_enough_for_it(tmp_path):
    environment = Environment(tmp_path / "env", "train")
    data = ("digits:train", "--per-class", "16")
    sizes = ("--image-size", "8", "--batch-size", "32", "--epochs", "1", "--threads", "1", "--device", "cpu")
    done = environment.pairsifts(
        ("train", *data, *sizes, "-o", "run", "--treatment", "auto"),
        ("embed", "run", *data, "-o", "features.parquet"),
        ("probe", "run", "digits:train", "digits:test"),
        ("scan", "features.parquet", "-o", "found"),
        imports="pairsift.train",
        cwd=tmp_path,
    )
    assert [each.returncode for each in done] == [0] * 4, [each.stderr for each in done]
    written = {file.name for file in (tmp_path / "run").iterdir()}
    assert "metrics.csv" in written
    assert "tensorboard" not in written  # which is an extra of its own


def test_the_extra_of_pages_is_enough_for_the_theory(tmp_path):
    environment = Environment(tmp_path / "env", "report")
    levels = ("--alpha", "0.472", "--beta", "0.191", "--gamma", "0.209")
    np.save(tmp_path / "features.npy", np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32))
    done = environment.pairsifts(
        ("theory", "graph", *levels, "-o", "page.html"),
        ("theory", "measure", "features.npy"),
        ("theory", "collapse"),
        imports="pairsift.theory",
        cwd=tmp_path,
    )
    assert [each.returncode for each in done] == [0] * 3, [each.stderr for each in done]


def test_all_is_every_command_but_those_of_texts():
    names = {each.name for each in requirements("all")}
    for command in COMMANDS.values():
        assert command.extra in PROJECT["optional-dependencies"]
        if command.extra != "text":
            assert {each.name for each in requirements(command.extra)} <= names
    assert names.isdisjoint({"ray", "sentence-transformers", "timm", "torchvision"})


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_of_a_command_what_its_help_says(name):
    assert " ".join(load(name).help.split("\n\n")[0].split()) == COMMANDS[name].summary


def test_the_outermost_need_speaks_unless_a_framework_of_others_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for inner, said in (("data", "a page needs ray: pip install 'pairsift[report]'"),
                        ("distributed", "an engine needs ray: pip install 'pairsift[distributed]'")):  # fmt: skip
        with pytest.raises(MissingExtraError) as caught, needs("report", "a page"), needs(inner, "an engine"):
            importlib.import_module("ray")
        assert str(caught.value) == said
    with (
        pytest.raises(ValueError, match=r"^a guide needs ray: pip install a-ray$"),
        needs("a-ray", "a guide", ValueError),
    ):
        importlib.import_module("ray")


def test_a_module_of_pairsift_that_is_missing_is_a_mistake_of_pairsift():
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'pairsift\.nothing'"), needs("scan", "a scan"):
        importlib.import_module("pairsift.nothing")
