"""What selection is worth: plain, band, affinity, guide and oracle trained alike, by linear probe and 20-NN.

    python -m lab.selection TRAIN TEST [--seeds 0 1 2] [--arms plain paper affinity] [--temperatures 0.5]
    python -m lab.selection --table lab/results/selection

TRAIN and TEST are labelled image sets, of which the runs see the images only (the oracle excepted). *patches* is a
guide that no encoder made, *shuffled* the same one of other images: what treating the most similar pairs from the first
step on is worth by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lab import trainings
from lab.oracle import OracleEvidence
from lab.trainings import Arm
from pairsift.data import load_images
from pairsift.same_class import patch_features
from pairsift.train import TrainConfig
from pairsift.train.policy import AffinityPolicy

SOFT = {"select": "affinity", "class_mates": 1.0}
COMBINED = {"treatment": "combined", **SOFT}
# As large a share of pairs as the affinity flags.
RANDOM = {"treatment": "combined", "select": "random", "pos_high": 0.15, "pos_low": 0.3}


def oracle(labels: NDArray[np.int64], config: TrainConfig) -> OracleEvidence:
    """Labels without errors, from the first step on."""
    return OracleEvidence(labels, config.flagged_share)


def shuffled_patches(labels: NDArray[np.int64], config: TrainConfig) -> AffinityPolicy:
    """The control of a guide: the same judgement of other images, by patch features in another order."""
    images = load_images(config.data, per_class=config.per_class, image_size=config.image_size)
    features = patch_features(images.images, seed=config.seed)
    return AffinityPolicy(config, features[np.random.default_rng(config.seed).permutation(len(labels))], print)


ARMS = {
    "plain": Arm(),
    "paper": Arm({"treatment": "combined"}),
    "random": Arm(RANDOM),
    "affinity": Arm(COMBINED),
    "mates": Arm(SOFT),
    "patches": Arm({**COMBINED, "guide": "patches"}),
    "shuffled": Arm(COMBINED, evidence=shuffled_patches),
    "guide": Arm(COMBINED, guide="given"),
    "second": Arm(COMBINED, guide="plain"),
    "oracle": Arm({**COMBINED, "affinity_start": 1}, evidence=oracle),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study, or print its table, as the command line says."""
    trainings.main("selection", __doc__, ARMS, ["plain", "paper", "patches", "shuffled"], arguments)


if __name__ == "__main__":
    main()
