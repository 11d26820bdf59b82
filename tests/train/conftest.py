import numpy as np
import pytest
import torch
from torch import nn

from pairsift.data import ImageSet, load_images, subset
from pairsift.train import TrainConfig


class Small(nn.Module):
    """A few parameters, with batch norm: enough to tell runs apart bit by bit."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 16)
        )

    def forward(self, images):
        return self.layers(images)


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    """96 digits of 8 x 8 pixels."""
    torch.set_num_threads(1)
    return subset(load_images("digits:train"), np.arange(96))


@pytest.fixture
def config(tmp_path):
    """Make a configuration: three epochs of three steps unless changed."""

    def make(run="run", **changes):
        values = dict(epochs=3, batch_size=32, run_dir=tmp_path / run, device="cpu", progress=False, lr=0.05, threads=1)
        return TrainConfig.build(values | {"treatment": "none"} | changes)

    return make


@pytest.fixture
def small():
    """A freshly initialised small encoder, the same every time."""

    def make():
        torch.manual_seed(0)
        return Small()

    return make
