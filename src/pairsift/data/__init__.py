"""Where examples come from: sources, image sets, mixing, views."""

from pairsift._base.extras import needs

with needs("data", "pairsift.data"):
    from pairsift.data.arrays import ArraySource
    from pairsift.data.errors import DataError
    from pairsift.data.features import ArrayFeatures, FeatureSource, open_features
    from pairsift.data.images import ImageSet, subset, without_rows
    from pairsift.data.loading import load_images
    from pairsift.data.mixing import MixKind, Mixture, mix, mix_set
    from pairsift.data.sources import Source, open_source
    from pairsift.data.views import NoisyFrames, SimCLRViews, ViewPolicy, make_views, to_float

__all__ = [
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
