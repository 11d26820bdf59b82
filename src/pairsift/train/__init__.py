"""Training: encoders, the Lightning module, the run directory."""

from pairsift.train.callbacks import Interrupted
from pairsift.train.chunks import encode_in_chunks
from pairsift.train.config import ConfigError, TrainConfig
from pairsift.train.devices import first_process
from pairsift.train.embed import embed, write_features
from pairsift.train.encoders import ImageEncoder, Projector, ResNet, build_encoder
from pairsift.train.module import ContrastiveModule, NonFiniteLossError
from pairsift.train.pretrain import TrainResult, pretrain, training_images
from pairsift.train.run import Run, RunError

__all__ = [
    "ConfigError", "ContrastiveModule", "ImageEncoder", "Interrupted", "NonFiniteLossError", "Projector", "ResNet",
    "Run", "RunError", "TrainConfig", "TrainResult", "build_encoder", "embed", "encode_in_chunks", "first_process",
    "pretrain", "training_images", "write_features",
]  # fmt: skip
