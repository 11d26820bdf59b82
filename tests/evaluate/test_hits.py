import numpy as np
import pytest
import torch

from pairsift.evaluate import semantic_hits


def test_hits_are_counted_by_cosine_and_ties_are_half():
    rng = np.random.default_rng(0)
    x, a, b = rng.normal(size=(3, 50, 4))
    cosines = [
        [np.dot(p, q) / np.linalg.norm(p) / np.linalg.norm(q) for p, q in zip(x, y, strict=True)] for y in (a, b)
    ]
    expected = np.mean([near > far for near, far in zip(*cosines, strict=True)])
    assert semantic_hits(x, a, b) == pytest.approx(expected)
    assert semantic_hits(torch.eye(3), torch.eye(3), torch.eye(3)) == 0.5


def test_bad_features_are_named():
    x = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"antonym must be a non-empty \(N, D\) matrix .*got \(1, 3\)"):
        semantic_hits(x, x, x[:1])
    with pytest.raises(ValueError, match="synonym row 1 has no direction"):
        semantic_hits(x, x * [[1], [0]], x)
