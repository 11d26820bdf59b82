"""Classifiers on frozen features: linear probes and weighted nearest neighbours."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from pairsift._base.checks import class_labels, feature_matrix
from pairsift._base.extras import needs
from pairsift.pairs.selector import unit_rows

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

    from pairsift.data import ImageSet

INVERSE_L2 = tuple(10.0**exponent for exponent in range(-4, 2))


@dataclass(frozen=True)
class ProbeResult:
    """The result of `linear_probe`.

    Attributes:
        accuracy: on the test split, in [0, 1].
        validation_accuracy: on the held-out tenth of the training split, at the chosen strength, in [0, 1].
        inverse_l2: the chosen inverse L2 strength C.
    """

    accuracy: float
    validation_accuracy: float
    inverse_l2: float


def linear_probe(
    train_x: NDArray[Any], train_y: NDArray[Any], test_x: NDArray[Any], test_y: NDArray[Any], seed: int = 0
) -> ProbeResult:
    """Fit logistic regression to standardised features by L-BFGS and test it.

    The L2 strength is chosen on a held-out tenth of the training split. The classifier is then fitted to the whole
    training split.

    Args:
        train_x, test_x: (N, D) and (M, D) frozen features of un-augmented examples.
        train_y, test_y: (N,) and (M,) class labels; rows with -1 are unlabelled and left out.
        seed: seed of the held-out tenth.

    Raises:
        MissingExtraError: scikit-learn is not installed.
        ValueError: shapes that do not fit, features that are not finite, fewer than two classes, or too few examples.

    Example:
        >>> import numpy as np
        >>> from pairsift.evaluate import linear_probe
        >>> rng = np.random.default_rng(0)
        >>> y = np.repeat([0, 1], 100)
        >>> x = rng.standard_normal((200, 8)) + 6 * np.eye(8)[y]
        >>> result = linear_probe(x[::2], y[::2], x[1::2], y[1::2])
        >>> round(result.accuracy, 1)
        1.0
    """
    train_x, train_y, test_x, test_y = _check_split(train_x, train_y, test_x, test_y)
    with needs("theory", "a linear probe"):
        from sklearn.model_selection import train_test_split
        from sklearn.preprocessing import StandardScaler
    counts = np.unique(train_y, return_counts=True)[1]
    held_out = max(len(train_x) // 10, len(counts))
    if len(train_x) - held_out < len(counts):
        raise ValueError(f"{len(train_x)} training examples are too few to hold some out for {len(counts)} classes")
    peak = float(np.abs(train_x).max())
    if peak and not 1e-15 < peak < 1e15:  # their squares or inverses are beyond float32
        train_x, test_x = (x.astype(np.float64) / peak for x in (train_x, test_x))
    scaler = StandardScaler().fit(train_x)
    train_x, test_x = scaler.transform(train_x), scaler.transform(test_x)
    stratify = train_y if counts.min() >= 2 else None
    fit_x, check_x, fit_y, check_y = train_test_split(
        train_x, train_y, test_size=held_out, random_state=seed, stratify=stratify
    )
    if len(np.unique(fit_y)) < 2:
        raise ValueError("all but one class fell into the held-out tenth: the classes have too few examples")
    scores = [float(_fit(fit_x, fit_y, strength).score(check_x, check_y)) for strength in INVERSE_L2]
    best = int(np.argmax(scores))  # the strongest regularisation among equals
    classifier = _fit(train_x, train_y, INVERSE_L2[best])
    return ProbeResult(float(classifier.score(test_x, test_y)), scores[best], INVERSE_L2[best])


def linear_probe_sgd(
    encoder: nn.Module,
    train: ImageSet,
    test: ImageSet,
    *,
    lr: float = 1.0,
    batch_size: int = 512,
    epochs: int = 100,
    momentum: float = 0.9,
    crop_min: float = 0.2,
    flip: float = 0.5,
    seed: int = 0,
) -> float:
    """Fit a linear classifier by SGD to features of randomly cropped and flipped images, and test it.

    This is the usual probe of papers. The learning rate decays to 0 by a cosine, and the last epoch counts.

    Args:
        encoder: frozen; float images (B, 3, H, W) in [0, 1] -> (B, D).
        train, test: labelled images.
        lr, batch_size, epochs, momentum: of SGD.
        crop_min: smallest area of a crop, as a share of the image.
        flip: probability of a horizontal flip.
        seed: seed of order, augmentation and initial weights.

    Returns:
        Test accuracy in [0, 1].

    Raises:
        MissingExtraError: packages that read images are not installed.
        ValueError: a split without labels, or a training split of one class.

    Example:
        >>> from pairsift.data import load_images
        >>> from pairsift.evaluate import linear_probe_sgd
        >>> from pairsift.train import ImageEncoder, build_encoder
        >>> encoder = ImageEncoder(build_encoder("resnet-small"))  # not trained
        >>> train, test = load_images("digits:train", per_class=20), load_images("digits:test", per_class=5)
        >>> accuracy = linear_probe_sgd(encoder, train, test, epochs=2)
        >>> 0 <= accuracy <= 1
        True
    """
    from pairsift.data import SimCLRViews
    from pairsift.data.images import labelled

    if train.labels is None or test.labels is None:
        raise ValueError("a probe needs labels in both splits")
    train, test = labelled(train), labelled(test)
    assert train.labels is not None
    assert test.labels is not None
    if len(np.unique(train.labels)) < 2:
        raise ValueError(f"a probe needs at least two classes, but every training label is {train.labels[0]}")
    device = _own(encoder).device
    classes, numbers = np.unique(train.labels, return_inverse=True)
    targets = torch.from_numpy(numbers).to(device)
    policy = SimCLRViews(crop_scale=(crop_min, 1.0), flip=flip, jitter=0, grey=0)
    encoder.eval()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        n_dimensions = _features(encoder, _pixels(train, np.arange(min(2, len(train))))).shape[1]
        # Without affine weights it standardises the features, as the other probe does, and learns nothing.
        classifier = nn.Sequential(
            nn.BatchNorm1d(n_dimensions, affine=False, dtype=torch.float32),
            nn.Linear(n_dimensions, len(classes), dtype=torch.float32),
        )
        classifier.to(device)
        optimizer = torch.optim.SGD(classifier.parameters(), lr=lr, momentum=momentum)
        steps = math.ceil(len(train) / batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * steps)
        for _ in range(epochs):
            for rows in torch.split(torch.randperm(len(train)), batch_size):
                if len(rows) < 2:
                    continue
                logits = classifier(_features(encoder, policy(_pixels(train, rows.numpy()))))
                optimizer.zero_grad()
                F.cross_entropy(logits, targets[rows.to(device)]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
    classifier.eval()
    hits = 0
    for start in range(0, len(test), batch_size):
        some = np.arange(start, min(start + batch_size, len(test)))
        predicted = classifier(_features(encoder, _pixels(test, some))).argmax(1).cpu().numpy()
        hits += int((classes[predicted] == test.labels[some]).sum())
    return hits / len(test)


def knn(
    train_x: NDArray[Any],
    train_y: NDArray[Any],
    test_x: NDArray[Any],
    test_y: NDArray[Any],
    k: int = 20,
    temperature: float = 0.1,
) -> float:
    """Accuracy of a vote of the k nearest training features by cosine similarity s, weighted by exp(s / temperature).

    Args:
        train_x, test_x: (N, D) and (M, D) features.
        train_y, test_y: (N,) and (M,) class labels; rows with -1 are unlabelled and left out.
        k: number of neighbours, at most N.
        temperature: > 0.

    Returns:
        Accuracy in [0, 1].

    Raises:
        MissingExtraError: faiss is not installed.
        TypeError: k is not a whole number.
        ValueError: shapes that do not fit, features that are not finite, fewer than two classes, or k out of range.

    Example:
        >>> import numpy as np
        >>> from pairsift.evaluate import knn
        >>> rng = np.random.default_rng(0)
        >>> y = np.repeat([0, 1], 50)
        >>> x = rng.standard_normal((100, 8)) + 4 * np.eye(8)[y]  # two clouds in different directions
        >>> round(knn(x[::2], y[::2], x[1::2], y[1::2], k=5), 1)
        1.0
    """
    train_x, train_y, test_x, test_y = _check_split(train_x, train_y, test_x, test_y)
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        raise TypeError(f"k must be a whole number, got {k!r}")
    if not 1 <= k <= len(train_x):
        raise ValueError(f"k must lie in [1, {len(train_x)}] (the training examples), got {k}")
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    train_x, test_x = (unit_rows(torch.tensor(x), "features").numpy() for x in (train_x, test_x))
    with needs("faiss-cpu", "pairsift.evaluate.knn"):
        from pairsift.neighbors import NearestIndex
    similarities, neighbours = NearestIndex.of(train_x, inverted=False).search(test_x, k)
    classes, numbers = np.unique(train_y, return_inverse=True)
    votes = np.zeros((len(test_x), len(classes)))
    rows = np.repeat(np.arange(len(test_x)), k)
    np.add.at(votes, (rows, numbers[neighbours].ravel()), np.exp((similarities.ravel() - 1) / temperature))
    return float((classes[votes.argmax(axis=1)] == test_y).mean())


def _check_split(
    train_x: NDArray[Any], train_y: NDArray[Any], test_x: NDArray[Any], test_y: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[Any], NDArray[np.float32], NDArray[Any]]:
    """Check two splits and return their features as contiguous float32, (N, D), with labels, (N,).

    Raises:
        ValueError: features that are not real numbers, empty or of another shape, labels of another length or type,
            values that are not finite (the row is named), or a training split of one class.
    """
    out: list[NDArray[Any]] = []
    for name, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
        x, y = feature_matrix(x, f"{name} features"), class_labels(y, f"{name} labels")
        if y.shape != (len(x),):
            raise ValueError(f"{name} split has {len(x)} features but labels of shape {y.shape}")
        known = y >= 0 if y.dtype.kind in "if" else np.ones(len(y), bool)
        if not known.any():
            raise ValueError(f"every row of the {name} split is unlabelled (-1)")
        out += [x[known], y[known]]
    if out[0].shape[1] != out[2].shape[1]:
        raise ValueError(f"train features have {out[0].shape[1]} dimensions, test features {out[2].shape[1]}")
    if len(np.unique(out[1])) < 2:
        raise ValueError(f"a probe needs at least two classes, but every training label is {out[1][0]}")
    return out[0], out[1], out[2], out[3]


def _pixels(images: ImageSet, rows: NDArray[Any]) -> torch.Tensor:
    """Float images of some rows, in [0, 1]."""
    from pairsift.data import to_float

    return to_float(torch.from_numpy(np.ascontiguousarray(images.images[rows])))


@torch.no_grad()
def _features(encoder: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Features (B, D) of float images in float32, on the encoder's device."""
    out: torch.Tensor = encoder(images.to(_own(encoder))).float()
    return out


def _own(encoder: nn.Module) -> torch.Tensor:
    """A tensor with the device and the dtype of the encoder's parameters."""
    return next(encoder.parameters(), torch.empty(0, dtype=torch.float32))


def _fit(x: NDArray[np.float32], y: NDArray[Any], inverse_l2: float) -> LogisticRegression:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # Weakly regularised fits of separable features converge long after their accuracy has settled.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=inverse_l2, max_iter=300).fit(x, y)
