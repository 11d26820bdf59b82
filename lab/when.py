"""When selection pays: accuracy against how well class-mates are told from others, by the oracle with errors mixed in.

    python -m lab.when TRAIN TEST [--seeds 0 1] [--arms ...] [--temperatures 0.5 0.2]
    python -m lab.when --table lab/results/when

*flags* treat the most similar pairs of different classes, of which a share is missed, beside a share of the class-mates
by mistake. *judged* have an estimate of a known AUROC at any similarity, and use it as the affinity is used: confident
negatives are treated, class-mates weighed. *mates* do the latter alone. Other losses that look at negatives stand
beside them at the same temperature.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lab import trainings
from lab.oracle import OracleEvidence
from lab.selection import COMBINED, RANDOM, SOFT, oracle, shuffled_patches
from lab.trainings import Arm
from pairsift.losses import baselines
from pairsift.train import TrainConfig

QUALITIES = (0.5, 0.6, 0.7, 0.8, 0.9)
_FLAGS = {"treatment": "combined", "select": "affinity", "affinity_start": 1}


def _erring(labels: NDArray[np.int64], config: TrainConfig, **errors: float) -> OracleEvidence:
    """Labels with errors, which differ from seed to seed."""
    return OracleEvidence(labels, config.flagged_share, config.seed, **errors)


ARMS = {
    "plain": Arm(),
    "band": Arm({"treatment": "combined"}),
    "random": Arm(RANDOM),
    "flags": Arm(_FLAGS, evidence=oracle),
    "flags-25": Arm(_FLAGS, evidence=partial(_erring, mistaken=0.25)),
    "flags-50": Arm(_FLAGS, evidence=partial(_erring, mistaken=0.5)),
    "flags-100": Arm(_FLAGS, evidence=partial(_erring, mistaken=1.0)),
    "flags-missed-50": Arm(_FLAGS, evidence=partial(_erring, missed=0.5)),
    **{
        f"{name}-{auroc:g}": Arm({**settings, "affinity_start": 1}, evidence=partial(_erring, auroc=auroc))
        for name, settings in (("judged", COMBINED), ("mates", SOFT))
        for auroc in QUALITIES
    },
    "judged-1": Arm({**COMBINED, "affinity_start": 1}, evidence=oracle),
    "mates-1": Arm({**SOFT, "affinity_start": 1}, evidence=oracle),
    "affinity": Arm(COMBINED),
    "patches": Arm({**COMBINED, "guide": "patches"}),
    "shuffled": Arm(COMBINED, evidence=shuffled_patches),
    "guide": Arm(COMBINED, guide="given"),
    "hard-negatives": Arm(objective=baselines.HardNegativeLoss),
    "debiased": Arm(objective=baselines.DebiasedLoss),
    "cancellation": Arm(objective=baselines.FalseNegativeCancellationLoss),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study, or print its table, as the command line says."""
    usual = ["plain", "random", "flags", "flags-25", "flags-100", *(f"judged-{each:g}" for each in (*QUALITIES, 1))]
    trainings.main("when", __doc__, ARMS, usual, arguments)


if __name__ == "__main__":
    main()
