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
