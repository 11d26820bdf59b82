"""Selectors, which say which pairs of a batch are treated, and the masks that they return."""

from pairsift.pairs.guide import GuideMask, GuideMasks
from pairsift.pairs.guide_table import GuideReport
from pairsift.pairs.purity import pair_shares
from pairsift.pairs.rank_band import BandMasks, RankBand, select_pairs
from pairsift.pairs.selector import (
    GivenMasks,
    GivenPairs,
    OwnMasks,
    PairMasks,
    Precision,
    RandomPairs,
    Selector,
    WrappedSelector,
    random_pairs,
    tile_rows,
)
from pairsift.pairs.self_mask import SelfMask
from pairsift.pairs.text_keys import text_keys

__all__ = [
    "BandMasks", "GivenMasks", "GivenPairs", "GuideMask", "GuideMasks", "GuideReport", "OwnMasks", "PairMasks",
    "Precision", "RandomPairs", "RankBand", "Selector", "SelfMask", "WrappedSelector", "pair_shares", "random_pairs",
    "select_pairs", "text_keys", "tile_rows",
]  # fmt: skip
