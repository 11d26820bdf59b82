"""Which pairs are difficult: selectors, of which the rank band of Eq. 12 is one, and what they select."""

from pairsift.pairs.bands import BandMasks, RankBand, select_pairs
from pairsift.pairs.control import RandomPairs, random_pairs
from pairsift.pairs.guide import GuideMask
from pairsift.pairs.guide_masks import GuideMasks
from pairsift.pairs.guide_tally import GuideReport
from pairsift.pairs.identity import text_keys
from pairsift.pairs.purity import pair_shares
from pairsift.pairs.rows import Precision, tile_rows
from pairsift.pairs.selectors import GivenMasks, GivenPairs, OwnMasks, PairMasks, Selector

__all__ = [
    "BandMasks", "GivenMasks", "GivenPairs", "GuideMask", "GuideMasks", "GuideReport", "OwnMasks", "PairMasks",
    "Precision",
    "RandomPairs", "RankBand", "Selector", "pair_shares", "random_pairs",
    "select_pairs", "text_keys", "tile_rows",
]  # fmt: skip
