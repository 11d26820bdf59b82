"""Where examples come from: sources, image sets, mixing, views."""

from pairsift.data.features import FeatureSet, load_features
from pairsift.data.images import ImageSet, load_images, subset
from pairsift.data.mixing import Mixture, mix, mix_set
from pairsift.data.sources import ArraySource, DataError, Source, open_source
from pairsift.data.views import SimCLRViews, ViewPolicy, make_views, to_float

__all__ = [
    "ArraySource",
    "DataError",
    "FeatureSet",
    "ImageSet",
    "Mixture",
    "SimCLRViews",
    "Source",
    "ViewPolicy",
    "load_features",
    "load_images",
    "make_views",
    "mix",
    "mix_set",
    "open_source",
    "subset",
    "to_float",
]
