"""Training: encoders, the Lightning module, the run directory.

Modules whose function has their name are private, so that `pairsift.train.embed` is always the function.
"""

from pairsift._base.extras import needs

with needs("train", "pairsift.train"):
    from pairsift._base.process import Interrupted, first_process
    from pairsift.train._pretrain import TrainResult, pretrain
    from pairsift.train.chunks import encode_in_chunks
    from pairsift.train.config import ConfigError, TrainConfig
    from pairsift.train.encoders import ImageEncoder, Projector, ResNet, build_encoder, embed, write_features
    from pairsift.train.evidence import Evidence
    from pairsift.train.images import load_as_configured, training_images
    from pairsift.train.methods import Objective
    from pairsift.train.module import ContrastiveModule, NonFiniteLossError
    from pairsift.train.run import Run, RunError

__all__ = [
    "ConfigError", "ContrastiveModule", "Evidence", "ImageEncoder", "Interrupted", "NonFiniteLossError", "Objective",
    "Projector", "ResNet", "Run", "RunError", "TrainConfig", "TrainResult", "build_encoder", "embed",
    "encode_in_chunks", "first_process", "load_as_configured", "pretrain", "training_images", "write_features",
]  # fmt: skip
