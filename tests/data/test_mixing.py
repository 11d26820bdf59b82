import numpy as np
import pytest

from pairsift.data import DataError, load_images, mix
from pairsift.data.mixing import mix_set

LABELS = np.repeat([0, 1, 2], [40, 10, 50])


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (100, 3, 4, 4), dtype=np.uint8)


def test_mixed_images_are_means_with_another_class(images):
    before = images.copy()
    mixture = mix(images, LABELS, fraction=0.2, seed=1)
    assert mixture.mixed.sum() == 20
    assert (LABELS[mixture.partner] != LABELS)[mixture.mixed].all()
    assert (mixture.partner == np.arange(100))[~mixture.mixed].all()
    mean = (before.astype(float) + before[mixture.partner]) / 2
    assert np.abs(mixture.images[mixture.mixed] - mean[mixture.mixed]).max() <= 0.5
    np.testing.assert_array_equal(mixture.images[~mixture.mixed], before[~mixture.mixed])
    np.testing.assert_array_equal(images, before)


def test_draws_follow_the_seed(images):
    first, again, other = (mix(images, LABELS, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.mixed != other.mixed).any()


def test_partners_are_uniform_over_other_classes():
    images = np.zeros((100, 1, 1, 1), np.uint8)
    partners = np.concatenate([mix(images, LABELS, fraction=1.0, seed=s).partner[:40] for s in range(500)])
    counts = np.bincount(partners, minlength=100)
    assert counts[:40].sum() == 0
    expected = 40 * 500 / 60
    assert np.abs(counts[40:] - expected).max() < 5 * np.sqrt(expected)


def test_without_labels_any_other_image_is_a_partner(images):
    mixture = mix(images, fraction=1.0)
    assert (mixture.partner != np.arange(100)).all()


def test_lazy_images_are_mixed_when_asked_for(parquet):
    held, lazy = (mix_set(load_images(parquet, memory=memory), 0.5, 3) for memory in (1, 0))
    assert not isinstance(lazy.images, np.ndarray)
    assert held.mixed.sum() == lazy.mixed.sum() == 6
    rows = np.array([3, 9, 0, 4, 11])
    np.testing.assert_array_equal(lazy.images[rows], held.images[rows])


@pytest.mark.parametrize(
    ("labels", "fraction", "message"),
    [
        (np.zeros(100, int), 0.2, "mixing needs a second class"),
        (np.zeros(3, int), 0.2, r"100 images but labels of shape \(3,\)"),
        (LABELS, 1.2, r"must lie in \[0, 1\], got 1.2"),
    ],
)
def test_what_cannot_be_mixed_is_refused(images, labels, fraction, message):
    with pytest.raises(DataError, match=message):
        mix(images, labels, fraction=fraction)


def test_one_image_cannot_be_mixed(images):
    with pytest.raises(DataError, match="at least 2 images, got 1"):
        mix(images[:1], fraction=1.0)


def test_composites_are_halves_side_by_side():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 3, 6, 8), dtype=np.uint8)
    labels = np.arange(40) % 4
    composite = mix(pixels, labels, fraction=0.5, seed=3, kind="composite")
    mean = mix(pixels, labels, fraction=0.5, seed=3)
    np.testing.assert_array_equal(composite.partner, mean.partner)
    assert (labels[composite.partner[composite.mixed]] != labels[composite.mixed]).all()
    np.testing.assert_array_equal(composite.images[..., :4], pixels[..., :4])
    np.testing.assert_array_equal(composite.images[..., 4:], pixels[composite.partner][..., 4:])
    with pytest.raises(DataError, match="'spatial'"):
        mix(pixels, labels, kind="spatial")


def test_an_image_without_a_label_may_be_mixed_with_any_other():
    images = np.zeros((100, 1, 1, 1), np.uint8)
    labels = np.where(np.arange(100) % 5 == 0, -1, LABELS)
    partners = np.stack([mix(images, labels, fraction=1.0, seed=seed).partner for seed in range(200)])
    known = labels != -1
    assert (partners != np.arange(100)).all()
    assert (labels[partners[:, known]] != labels[known]).all()
    # Of an image without a label any other is a partner, other such images among them.
    assert (labels[partners[:, ~known]] == -1).mean() == pytest.approx(19 / 99, abs=0.02)
