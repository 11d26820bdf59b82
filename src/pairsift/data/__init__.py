"""Feature sets and image sets, mixing, and views."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pairsift._base.extras import needs

if TYPE_CHECKING:
    from pairsift.data.columns import UNLABELLED
    from pairsift.data.errors import DataError
    from pairsift.data.features import ArrayFeatures, FeatureSource, TableFeatures, open_features
    from pairsift.data.images import ImageSet, load_images, subset, without_rows
    from pairsift.data.mixing import MixKind, Mixture, mix, mix_set
    from pairsift.data.sources import ArraySource, Source, open_source
    from pairsift.data.views import NoisyFrames, SimCLRViews, ViewPolicy, make_views, to_float

__all__ = [
    "UNLABELLED",
    "ArrayFeatures",
    "ArraySource",
    "DataError",
    "FeatureSource",
    "ImageSet",
    "MixKind",
    "Mixture",
    "NoisyFrames",
    "SimCLRViews",
    "Source",
    "TableFeatures",
    "ViewPolicy",
    "load_images",
    "make_views",
    "mix",
    "mix_set",
    "open_features",
    "open_source",
    "subset",
    "to_float",
    "without_rows",
]

# Each name loads its own module: the error needs nothing, views need PyTorch alone, files need the extra `data`.
_MODULES = {
    "columns": ("UNLABELLED",),
    "errors": ("DataError",),
    "features": ("ArrayFeatures", "FeatureSource", "TableFeatures", "open_features"),
    "images": ("ImageSet", "load_images", "subset", "without_rows"),
    "mixing": ("MixKind", "Mixture", "mix", "mix_set"),
    "sources": ("ArraySource", "Source", "open_source"),
    "views": ("NoisyFrames", "SimCLRViews", "ViewPolicy", "make_views", "to_float"),
}


def __getattr__(name: str) -> Any:
    module = next((module for module, names in _MODULES.items() if name in names), None)
    if module is None:
        raise AttributeError(f"module 'pairsift.data' has no attribute {name!r}")
    with needs("data", "pairsift.data"):
        value = globals()[name] = getattr(importlib.import_module(f"pairsift.data.{module}"), name)
    return value
