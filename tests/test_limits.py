"""The house stays small: short files and functions, few arguments, and shapes where tensors go in."""

import ast
import importlib
import inspect
import re
import statistics
from pathlib import Path

import pytest

import pairsift

ROOT = Path(pairsift.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
TREES = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in FILES}
LENGTHS = {name: len(path.read_text().splitlines()) for name, path in zip(TREES, FILES, strict=True)}


def functions():
    """(file and name, node) of every function and method."""
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{file}:{node.lineno} {node.name}", node


def body_lines(node):
    """Lines of a function without its signature and docstring."""
    words = isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
    body = node.body[1:] if words else node.body
    return node.end_lineno - body[0].lineno + 1 if body else 0


def arguments(node):
    """How many arguments a constructor takes; *args and **options are one each, and self none."""
    given = node.args
    named = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)
    return named + bool(given.vararg) + bool(given.kwarg) - 1


def test_files_are_short():
    assert len(LENGTHS) > 100
    assert statistics.median(LENGTHS.values()) <= 120
    assert sum(length <= 250 for length in LENGTHS.values()) >= 0.9 * len(LENGTHS)
    assert not {name: length for name, length in LENGTHS.items() if length > 700}


def test_no_function_body_is_longer_than_fifty_lines():
    assert not {name: body_lines(node) for name, node in functions() if body_lines(node) > 50}


def test_no_constructor_takes_more_than_eight_arguments():
    found = {name: arguments(node) for name, node in functions() if node.name == "__init__"}
    assert len(found) > 20
    assert not {name: count for name, count in found.items() if count > 8}


def test_the_counts_count():
    (node,) = ast.parse(
        'class A:\n    def __init__(self, a, *, b=1, **c):\n        "d"\n        x = 1\n\n        y = 2'
    ).body
    assert (arguments(node.body[0]), body_lines(node.body[0])) == (3, 3)


ROOMS = ["losses", "losses.baselines", "pairs", "evaluate", "text"]
TENSOR = re.compile(r"\b(Tensor|ArrayLike|NDArray|FloatArray)\b")
SHAPE = re.compile(r"\([\w+* -]{1,16},(?: [\w+* -]{1,16},?)*\)")  # (N, d), (2N,), (stop - start, K)


def takers():
    """(name, class or None, function) of public functions and methods that tensors or arrays go into."""
    for room in ROOMS:
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
