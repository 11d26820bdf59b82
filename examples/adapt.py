"""Adapt frozen embeddings to pairs in closed form, and append the map to a sentence-transformers model."""

import numpy as np

import pairsift as ps

TOPICS = ("card", "transfer", "account", "loan", "password", "fee", "limit", "refund")


def embeddings(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stand-ins for the embeddings of 2,000 pairs of questions: a topic each, and much that is no topic."""
    rng = np.random.default_rng(seed)
    topics = rng.integers(len(TOPICS), size=2000)
    centres = np.random.default_rng(0).standard_normal((len(TOPICS), 64))
    detail = 0.5 * rng.standard_normal((2000, 64))
    first, second = (centres[topics] + detail + 2 * rng.standard_normal((2000, 64)) for _ in range(2))
    return first, second


anchors, positives = embeddings(seed=1)
fitted = ps.SpectralMap.fit(anchors, positives, log=print)
held = fitted.held_out
print(f"held-out MRR: {held.frozen.mrr:.3f} frozen, {held.adapted.mrr:.3f} adapted")
fitted.save("map.safetensors")
print(ps.SpectralMap.load("map.safetensors").transform(anchors).shape)
# With an encoder: fitted.sentence_transformer(model).save_pretrained("adapted")
