"""Everything public has a docstring that says what it is, tensors have shapes, and the examples are true."""

import doctest
import importlib
import inspect
import pkgutil
import re

import pytest
from torch import nn

import pairsift
from pairsift.cli import app
from pairsift.cli.commands import COMMANDS

FOUND = sorted(module.name for module in pkgutil.walk_packages(pairsift.__path__, "pairsift."))
MODULES = ["pairsift", *(name for name in FOUND if not name.endswith(".__main__"))]  # that runs the command line

COMMAND_OF = {f"pairsift.cli.{command.replace('-', '_')}": command for command in COMMANDS}


def load(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").startswith("pairsift"):
            raise
        pytest.skip(f"{name} needs {error.name}, which is not installed")


def public(module):
    """(name, documentation) of every public function and class defined in a module, and of the classes' methods."""
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(thing):
            yield name, own_words(thing)
            yield from methods(thing)
        elif inspect.isroutine(thing):
            yield name, thing.__doc__
    if command := COMMAND_OF.get(module.__name__):
        yield f"command {command}", app.load(command).callback.__doc__


def own_words(cls):
    """A class's docstring, unless it is only the signature that dataclasses and named tuples get by themselves."""
    words = cls.__doc__ or ""
    return "" if words.startswith(f"{cls.__name__}(") else words


def methods(cls):
    """Methods and properties that a class defines itself; a hook may leave its words to the class that calls it."""
    for name, thing in vars(cls).items():
        if name.startswith("_") or not (inspect.isroutine(thing) or isinstance(thing, property)):
            continue
        words = [vars(base)[name].__doc__ for base in cls.__mro__ if name in vars(base)]
        if name == "forward" and nn.Module in cls.__mro__:
            words.pop()  # PyTorch's own says nothing of what goes in and comes out
        yield f"{cls.__name__}.{name}", next(filter(None, words), None)


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_has_a_docstring(name):
    module = load(name)
    bare = [what for what, words in [("the module", module.__doc__), *public(module)] if not (words or "").strip()]
    assert not bare, f"{name} has no docstring for: {', '.join(bare)}"


def test_the_walk_finds_what_is_documented():
    """So that the test above cannot pass by looking at nothing."""
    found = {name: {what for what, _ in public(load(name))} for name in MODULES}
    assert {"NTXentLoss", "NTXentLoss.forward"} <= found["pairsift.losses.ntxent"]
    assert {"TreatedLoss", "PairedLoss.select"} <= found["pairsift.losses.treated"]
    assert {"Run", "Run.open", "Run.config_file"} <= found["pairsift.train.run"]
    assert {"Detection", "detection"} <= found["pairsift.evaluate._measures"]
    assert {"command train", "command probe"} <= set().union(*found.values())

    class Bare(nn.Module):
        def forward(self, x):
            return x

        def extra_repr(self):
            return ""

    assert own_words(Bare) == ""
    assert [name for name, words in methods(Bare) if words is None] == ["Bare.forward"]


def with_examples(name):
    path = importlib.util.find_spec(name).origin
    with open(path, encoding="utf-8") as file:
        return ">>>" in file.read()


MAIN = [
    "RankBand", "select_pairs", "RandomPairs", "GivenPairs", "pair_shares", "Treatment", "scan", "ScanConfig",
    "pretrain", "TrainConfig", "losses.NTXentLoss", "losses.MoCoLoss", "losses.SpectralLoss", "losses.TwoTowerLoss",
    "losses.LabelledNTXentLoss", "losses.Engine", "losses.baselines.HardNegativeLoss", "integrations.HookedLoss",
    "theory.SimilarityGraph", "theory.measure_levels", "theory.advise", "theory.bounds.compare", "data.load_images",
    "data.mix_set", "data.open_features", "data.make_views", "train.embed", "train.build_encoder",
    "evaluate.linear_probe", "evaluate.knn", "evaluate.detection", "evaluate.semantic_hits", "text.semantic_views",
    "text.WordNet", "losses.SemanticNegativeLoss",
]  # fmt: skip


@pytest.mark.parametrize("name", MAIN)
def test_main_entries_show_how_they_are_used(name):
    thing = pairsift
    for part in name.split("."):
        thing = getattr(thing, part)
    assert ">>>" in thing.__doc__, f"{name} has no example"


@pytest.mark.parametrize("name", [name for name in MODULES if with_examples(name)])
def test_examples_give_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = load(name)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    said = []
    for example in doctest.DocTestFinder().find(module, name):
        runner.run(example, out=said.append)
    assert runner.tries > 0
    assert runner.failures == 0, "".join(said)


TENSOR_ROOMS = ["losses", "losses.baselines", "pairs", "evaluate", "text", "temporal", "same_class", "theory"]
TENSOR = re.compile(r"(?<!\[str, )\b(Tensor|ArrayLike|NDArray|FloatArray)\b")  # a mapping has no shape
SHAPE = re.compile(r"\([\w+* -]{1,16},(?: [\w+* -]{1,16},?)*\)")  # (N, d), (2N,), (stop - start, K)


def takers():
    """(name, class or None, function) of public functions and methods that tensors or arrays go into."""
    for room in TENSOR_ROOMS:
        module = importlib.import_module(f"pairsift.{room}")
        for name in getattr(module, "__all__", vars(module)):
            thing = getattr(module, name)
            if not getattr(thing, "__module__", "").startswith(module.__name__):
                continue
            if inspect.isclass(thing):
                yield from (
                    (f"{room}.{name}.{method}", thing, each)
                    for method, each in vars(thing).items()
                    if inspect.isfunction(each) and not method.startswith("_")
                )
            elif inspect.isfunction(thing) and not name.startswith("_"):
                yield f"{room}.{name}", None, thing


TAKERS = {
    name: (cls, function)
    for name, cls, function in takers()
    if any(TENSOR.search(str(kind)) for what, kind in inspect.get_annotations(function).items() if what != "return")
}


def words_of(cls, function):
    """The docstring of a function, and of the same method of the classes it inherits from or sends the reader to."""
    own = function.__doc__ or ""
    known = {each: getattr(pairsift, each) for each in pairsift.__all__} | vars(
        importlib.import_module(function.__module__)
    )
    named = [known.get(name) for name in re.findall(r"[Ss]ee `(\w+)", own)]
    bases = [*filter(inspect.isclass, named), *(cls.__mro__[1:] if cls else ())]
    return "\n".join([own, *(getattr(base, function.__name__, None).__doc__ or "" for base in bases)])


@pytest.mark.parametrize("name", TAKERS)
def test_what_takes_tensors_says_their_shapes(name):
    assert SHAPE.search(words_of(*TAKERS[name])), f"{name} takes tensors and names no shape such as (N, d)"


def test_tensors_are_found():
    assert {"losses.NTXentLoss.forward", "pairs.select_pairs", "evaluate.knn"} <= set(TAKERS)
    assert len(TAKERS) > 15
