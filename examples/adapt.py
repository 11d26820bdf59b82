"""Adapt frozen embeddings to pairs in closed form, and append the map to a sentence-transformers model."""

import numpy as np

import pairsift as ps


def embeddings(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Stand-ins for the embeddings of 2,000 pairs of texts: 8 directions that pairs share, and 56 that they do not."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((2000, 8)) @ rng.standard_normal((8, 64))
    first, second = (shared + 3 * rng.standard_normal((2000, 64)) for _ in range(2))
    return first, second


anchors, positives = embeddings(seed=1)
fitted = ps.SpectralMap.fit(anchors, positives, log=print)
held = fitted.held_out
print(f"held-out MRR: {held.frozen.mrr:.3f} frozen, {held.adapted.mrr:.3f} adapted")
fitted.save("map.safetensors")
print(ps.SpectralMap.load("map.safetensors").transform(anchors).shape)
# With an encoder: fitted.sentence_transformer(model).save_pretrained("adapted")
