"""Training: configuration, encoders, the Lightning module and the run directory."""

from pairsift._base.extras import needs

with needs("train", "pairsift.train"):
    from pairsift._base.process import Interrupted, first_process
    from pairsift.train._pretrain import TrainResult, pretrain
    from pairsift.train.config import ConfigError, TrainConfig
    from pairsift.train.data import load_as_configured, training_images
    from pairsift.train.encoders import (
        ImageEncoder,
        Projector,
        ResNet,
        build_encoder,
        embed,
        encode_in_chunks,
        write_features,
    )
    from pairsift.train.export import export_encoder
    from pairsift.train.methods import Objective
    from pairsift.train.module import ContrastiveModule, NonFiniteLossError
    from pairsift.train.policy import PairPolicy
    from pairsift.train.run import Run, RunError

__all__ = [
    "ConfigError", "ContrastiveModule", "ImageEncoder", "Interrupted", "NonFiniteLossError", "Objective", "PairPolicy",
    "Projector", "ResNet", "Run", "RunError", "TrainConfig", "TrainResult", "build_encoder", "embed",
    "encode_in_chunks", "export_encoder", "first_process", "load_as_configured", "pretrain", "training_images",
    "write_features",
]  # fmt: skip
