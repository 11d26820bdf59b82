"""How far below its own positive's similarity a candidate may be and still be a false negative, from the data."""

from __future__ import annotations

import torch
from torch import Tensor

from pairsift.pairs.guide_table import GuideTable

# Known pairs that are looked at: errors of a median rank are a few per mille then.
_SAMPLE = 2048
# `torch.quantile` takes no more than 2^24.
_QUANTILE_ROWS = 2**23
# Times the spread of a normal distribution's median absolute deviation is its standard deviation.
_NORMAL = 1.4826


def spread_margin(own: Tensor) -> float:
    """Margin of a guide: the spread of the similarities of known positives, as a part of their median.

    A false negative of an anchor is a text that could have been its positive, so under the guide it is as similar as
    known positives are: within their spread. A margin of 0 (GISTEmbed) finds the half of them that happen to lie above
    the anchor's own positive; one standard deviation below it lie 76 % of them, where similarities are normal
    (`Phi(1 / sqrt 2)`). The deviation is estimated from the median absolute one, which a tenth of wrong pairs in the
    data hardly moves.

    Args:
        own: (N,) guide similarities of known positives.

    Returns:
        At least 0; at most 1, where known positives are so unlike that the guide says nothing.
    """
    median = own.median()
    spread = _NORMAL * (own - median).abs().median()
    return min(1.0, float(spread / median.abs().clamp_min(1e-6)))


def likely_floor(own: Tensor) -> float:
    """Similarity a pair must reach to be taken for a false negative: that of the closest tenth of known positives.

    The margin alone compares a candidate with the anchor's own positive. Where that one is far away, many true
    negatives are closer, the hardest ones, and they outnumber false negatives by far: of the pairs of banking77's
    training questions that a margin of 0 masks, 13 % are of one intent. Pairs as close as the closest tenth of known
    positives are rare among negatives: with the floor 92 % of the masked are of one intent, an eighth of such pairs.

    Args:
        own: (N,) guide similarities of known positives.
    """
    return float(torch.quantile(own[:_QUANTILE_ROWS], 0.9))


def median_rank(table: GuideTable, seed: int = 0) -> float:
    """Median rank of the own positive among candidates under the guide, as a share of them, in [0, 1]; of a sample."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(table.n, generator=generator)[:_SAMPLE]
    anchors, positives = (table.features[column][rows] for column in (0, 1))
    above = torch.zeros(len(rows))
    for start in range(0, len(rows), 256):
        own = table.own[rows[start : start + 256], None]
        closer = anchors[start : start + 256] @ positives.T > own
        # The same text again is as similar up to rounding, and no rival.
        same = table.ids[rows, 1] == table.ids[rows[start : start + 256], 1, None]
        above[start : start + 256] = (closer & ~same).sum(dim=1).float()
    return float(above.median() / max(1, len(rows) - 1))
