"""Spectral maps as torch modules, and as layers of a sentence-transformers model."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pairsift._base.extras import needs
from pairsift.spectral.errors import SpectralError
from pairsift.spectral.moments import Float64


class UnitLinear(nn.Module):
    """A linear map with a bias, and unit length behind it.

    Args:
        matrix: (D, k) of the map.
        mean: (D,) that is subtracted from features first.
    """

    def __init__(self, matrix: Float64, mean: Float64) -> None:
        super().__init__()
        self.linear = nn.Linear(matrix.shape[0], matrix.shape[1], dtype=torch.float32)
        with torch.no_grad():
            self.linear.weight.copy_(torch.from_numpy(matrix.T.copy()))
            self.linear.bias.copy_(torch.from_numpy(-mean @ matrix))

    def forward(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, k) rows of unit length."""
        return F.normalize(self.linear(features), dim=-1)


def extended(model: Any, stages: Sequence[Sequence[tuple[nn.Linear, nn.Module]]]) -> Any:
    """A sentence-transformers model with stages of linear layers behind its modules.

    Args:
        model: a `SentenceTransformer`.
        stages: linear layers, and the activation behind each. Unit length follows every stage.

    Raises:
        SpectralError: the model's embeddings have another width than the first layer takes.
    """
    with needs("text", "sentence_transformer"):
        from sentence_transformers import SentenceTransformer
    try:
        modules_of = importlib.import_module("sentence_transformers.sentence_transformer.modules")
    except ModuleNotFoundError:  # older versions keep them elsewhere
        modules_of = importlib.import_module("sentence_transformers.models")

    measure = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
    width, taken = measure(), stages[0][0][0].in_features
    if width != taken:
        raise SpectralError(
            f"the model's embeddings have {width} dimensions, and the map was fitted on {taken}: give the encoder that "
            "made the features"
        )
    modules = [*model]
    for stage in stages:
        for linear, activation in stage:
            dense = modules_of.Dense(linear.in_features, linear.out_features, bias=True, activation_function=activation)
            dense.linear.load_state_dict(linear.state_dict())
            modules.append(dense)
        modules.append(modules_of.Normalize())
    return SentenceTransformer(modules=modules, device=str(model.device), prompts=dict(model.prompts))
