import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pairsift.data import load_images
from pairsift.same_class import Affinity, AffinityError, patch_features
from pairsift.same_class.patches import learned_layer


def stripes(n, size=32, seed=0):
    """Images of two kinds: stripes down or across, of random width, colours and place, with noise."""
    rng, kinds = np.random.default_rng(seed), np.arange(n) % 2
    at = np.arange(size)[None] + rng.integers(0, 8, (n, 1))
    waves = np.sign(np.sin(at * rng.uniform(0.8, 1.2, (n, 1))))
    whole = np.where(kinds[:, None, None], waves[:, None, :], waves[:, :, None]) * rng.uniform(30, 90, (n, 1, 1))
    colours = rng.uniform(0.5, 1, (n, 3, 1, 1))
    images = 128 + colours * whole[:, None] + rng.normal(0, 8, (n, 3, size, size))
    return np.clip(images, 0, 255).astype(np.uint8), kinds


def test_textures_are_separated_at_any_place_and_in_any_colour():
    images, kinds = stripes(400)
    affinity = Affinity.fit(patch_features(images, filters=40, dimensions=16))
    pairs = np.random.default_rng(1).integers(0, 400, (2, 4000))
    same = kinds[pairs[0]] == kinds[pairs[1]]
    probability = affinity.probability(*pairs)
    assert roc_auc_score(same, probability) > 0.95
    assert roc_auc_score(same, -((images[pairs[0]] / 255 - images[pairs[1]] / 255) ** 2).sum(axis=(1, 2, 3))) < 0.8


def test_counts_equal_those_of_single_patches():
    images, _ = stripes(60)
    layer = learned_layer(images, 10, np.random.default_rng(0), 0)
    filters, offsets = layer.filters.flatten(1).numpy().astype(np.float64), layer.offsets.numpy()
    x = images[7].astype(np.float64)
    found = np.zeros((10, 27, 27))
    for i in range(27):
        for j in range(27):
            patch = x[:, i : i + 6, j : j + 6].ravel()
            patch = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 10)
            found[:, i, j] = np.maximum(np.abs(filters @ patch - offsets) - 0.25, 0)
    quarters = [
        found[:, a, b].mean(axis=(1, 2)) for a in (slice(14), slice(13, 27)) for b in (slice(14), slice(13, 27))
    ]
    np.testing.assert_allclose(layer.counts(images[7:8])[0].reshape(10, 4).T, quarters, rtol=1e-3, atol=1e-4)


def test_the_same_seed_gives_the_same_features_of_arrays_and_lazy_images(tmp_path):
    whole = load_images("digits:train", per_class=20)
    lazy = load_images("digits:train", per_class=20, image_size=12, memory=1e-9)
    first = patch_features(whole.images, filters=30, dimensions=300)
    assert first.shape == (200, 120)
    np.testing.assert_array_equal(first, patch_features(whole.images, filters=30, dimensions=300))
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    assert not np.array_equal(first, patch_features(whole.images, filters=30, dimensions=300, seed=1))
    assert patch_features(lazy.images, filters=30).shape == (200, 120)


@pytest.mark.parametrize(
    ("images", "settings", "message"),
    [
        (np.zeros((60, 32, 32, 3), np.uint8), {}, r"\(N, 3, H, W\) uint8, got uint8 of shape \(60, 32, 32, 3\)"),
        (np.zeros((60, 3, 32, 32), np.float32), {}, "got float32"),
        (np.zeros((49, 3, 32, 32), np.uint8), {}, "at least 50"),
        (np.zeros((60, 3, 32, 32), np.uint8), {}, "no patch of the images has any contrast"),
        (stripes(60)[0], {"filters": 0}, "filters must be a whole number >= 1, got 0"),
        (np.repeat(stripes(1)[0], 60, axis=0), {"filters": 5}, "all images are alike"),
    ],
)
def test_images_without_content_are_refused(images, settings, message):
    with pytest.raises(AffinityError, match=message):
        patch_features(images, **settings)
