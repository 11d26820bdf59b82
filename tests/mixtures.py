import numpy as np


def midpoints(n=600, classes=5, dimensions=16, share=0.2, seed=0):
    """Gaussian classes with a share of midpoints between two of them: features, labels, which are midpoints."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    features = 1.5 * rng.standard_normal((classes, dimensions))[labels] + rng.standard_normal((n, dimensions))
    planted = np.zeros(n, bool)
    planted[rng.choice(n, round(share * n), replace=False)] = True
    clean = features.copy()
    for row in np.flatnonzero(planted):
        features[row] = (clean[row] + clean[rng.choice(np.flatnonzero(labels != labels[row]))]) / 2
    return features.astype(np.float32), labels, planted


def unequal(sizes, dimensions=32, noise=0.08, planted=80, seed=0):
    """Round classes of these sizes around random unit centres; so many rows of the second class become midpoints with
    rows of the third: features, labels, which are midpoints."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((len(sizes), dimensions))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    features = centres[labels] + noise * rng.standard_normal((len(labels), dimensions))
    second, third = (np.flatnonzero(labels == each) for each in (1, 2))
    rows = second[: min(planted, len(second) - 10, len(third))]
    features[rows] = (features[rows] + features[third[: len(rows)]]) / 2
    mixed = np.zeros(len(labels), bool)
    mixed[rows] = True
    return features.astype(np.float32), labels, mixed
