"""Linear probes: how well a linear classifier on frozen features tells the classes apart."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

from pairsift.data import ImageSet, SimCLRViews, to_float
from pairsift.data.images import labelled
from pairsift.evaluate._checks import check_split

INVERSE_L2 = tuple(10.0**exponent for exponent in range(-4, 2))


@dataclass(frozen=True)
class ProbeResult:
    """What `linear_probe` found.

    Attributes:
        accuracy: share of the test split classified correctly, in [0, 1].
        validation_accuracy: the same on the held-out tenth, at the chosen strength.
        inverse_l2: the chosen inverse L2 strength C.
    """

    accuracy: float
    validation_accuracy: float
    inverse_l2: float


def linear_probe(
    train_x: NDArray[Any], train_y: NDArray[Any], test_x: NDArray[Any], test_y: NDArray[Any], seed: int = 0
) -> ProbeResult:
    """L-BFGS logistic regression on standardised features, its L2 chosen on a held-out tenth of the training split.

    The strength is tried on nine tenths, then the classifier is fitted again on the whole training split.

    Args:
        train_x, test_x: (N, D) and (M, D) frozen features of un-augmented examples.
        train_y, test_y: (N,) and (M,) class labels.
        seed: seed of the held-out tenth.

    Raises:
        ValueError: shapes that do not fit, non-finite features, fewer than two classes, too few examples.

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
    train_x, train_y, test_x, test_y = check_split(train_x, train_y, test_x, test_y)
    counts = np.unique(train_y, return_counts=True)[1]
    held_out = max(len(train_x) // 10, len(counts))
    if len(train_x) - held_out < len(counts):
        raise ValueError(f"{len(train_x)} training examples are too few to hold some out for {len(counts)} classes")
    peak = float(np.abs(train_x).max())
    if peak and not 1e-15 < peak < 1e15:  # whose squares, or their inverses, are beyond float32
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
    """The papers' probe: SGD with cosine decay on features of randomly cropped and flipped images; final epoch.

    Args:
        encoder: frozen; float images (B, 3, H, W) in [0, 1] -> (B, D).
        train, test: labelled images.
        lr, batch_size, epochs, momentum: of SGD; lr decays to 0 by a cosine.
        crop_min, flip: the augmentation.
        seed: seed of order, augmentation and initial weights.

    Returns:
        Test accuracy in [0, 1].

    Raises:
        ValueError: a split without labels, or with one class.

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
    if train.labels is None or test.labels is None:
        raise ValueError("a probe needs labels in both splits")
    train, test = labelled(train), labelled(test)
    assert train.labels is not None
    assert test.labels is not None
    if len(np.unique(train.labels)) < 2:
        raise ValueError(f"a probe needs at least two classes, but every training label is {train.labels[0]}")
    device = next(encoder.parameters()).device
    classes, numbers = np.unique(train.labels, return_inverse=True)
    targets = torch.from_numpy(numbers).to(device)
    policy = SimCLRViews(crop_scale=(crop_min, 1.0), flip=flip, jitter=0, grey=0)
    encoder.eval()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        n_dimensions = _features(encoder, _pixels(train, np.arange(min(2, len(train))))).shape[1]
        # Without affine weights: it standardises the features, as the other probe does, and learns nothing.
        classifier = nn.Sequential(nn.BatchNorm1d(n_dimensions, affine=False), nn.Linear(n_dimensions, len(classes)))
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


def _pixels(images: ImageSet, rows: NDArray[Any]) -> torch.Tensor:
    """Float images of some rows, in [0, 1]."""
    return to_float(torch.from_numpy(np.ascontiguousarray(images.images[rows])))


@torch.no_grad()
def _features(encoder: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Features (B, D) of float images, on the encoder's device."""
    out: torch.Tensor = encoder(images.to(next(encoder.parameters()).device)).float()
    return out


def _fit(x: NDArray[np.float32], y: NDArray[Any], inverse_l2: float) -> LogisticRegression:
    with warnings.catch_warnings():
        # Weakly regularised fits of separable features creep on long after their accuracy has settled.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=inverse_l2, max_iter=300).fit(x, y)
