"""Losses of other libraries, to compare with."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

_PACKAGES = ("lightly", "lightly.loss", "lightly.utils", "lightly.models", "lightly.models.modules")


def lightly_ntxent():
    """lightly's NTXentLoss, loaded without the torchvision that the rest of lightly imports."""
    spec = importlib.util.find_spec("lightly")
    if spec is None:
        pytest.skip("lightly is not installed")
    root = Path(spec.submodule_search_locations[0])
    stubs = {name: ModuleType(name) for name in (*_PACKAGES, "torchvision", "torchvision.ops")}
    for name in _PACKAGES:
        stubs[name].__path__ = [str(root.joinpath(*name.split(".")[1:]))]
    stubs["torchvision.ops"].StochasticDepth = object
    before = dict(sys.modules)
    sys.modules.update(stubs)
    try:
        return importlib.import_module("lightly.loss.ntx_ent_loss").NTXentLoss
    finally:
        for name in set(sys.modules) - set(before):
            if name.split(".")[0] in ("lightly", "torchvision"):
                del sys.modules[name]
