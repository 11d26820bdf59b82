"""Losses of other libraries, to compare with."""

import importlib
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

_PACKAGES = ("lightly", "lightly.loss", "lightly.utils", "lightly.models", "lightly.models.modules")


def lightly(name):
    """A module of lightly, loaded without the torchvision that lightly imports on the way; None without lightly."""
    spec = importlib.util.find_spec("lightly")
    if spec is None:
        return None
    if name in sys.modules:
        return sys.modules[name]
    root = Path(spec.submodule_search_locations[0])
    stubs = {package: ModuleType(package) for package in (*_PACKAGES, "torchvision", "torchvision.ops")}
    for package in _PACKAGES:
        stubs[package].__spec__ = ModuleSpec(package, None, is_package=True)
        stubs[package].__path__ = [str(root.joinpath(*package.split(".")[1:]))]
    stubs["torchvision.ops"].StochasticDepth = object
    sys.modules.update({key: stub for key, stub in stubs.items() if key not in sys.modules})
    try:
        return importlib.import_module(name)
    finally:
        for key in ("torchvision", "torchvision.ops"):
            if sys.modules.get(key) is stubs[key]:  # others look whether there is a torchvision
                del sys.modules[key]


def lightly_ntxent():
    """lightly's NTXentLoss."""
    module = lightly("lightly.loss.ntx_ent_loss")
    return pytest.skip("lightly is not installed") if module is None else module.NTXentLoss
