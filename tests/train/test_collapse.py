import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from training_runs import VIEWS, numbers

from pairsift.data import DataError
from pairsift.losses import MixedContrastiveLoss
from pairsift.train import pretrain
from pairsift.train.data import check_labels
from pairsift.train.methods import within_class_share
from pairsift.train.trainer import _in_columns, _measured, describe


@pytest.fixture
def train(config, digits, small):
    def run(name="run", images=digits, **changes):
        settings = config(name, method="mixed", temperature=0.1, **changes)
        return pretrain(settings, images=images, encoder=small(), views=VIEWS)

    return run


def test_it_learns_from_labels_as_told_and_tells_the_share_within_classes(train):
    rows = train(alpha=0.6, epochs=8, treatment="combined").metrics
    assert min(row["loss"] for row in rows[2:]) < rows[0]["loss"]
    assert all(0 < row["within_class"] < 1 for row in rows)
    assert f"within classes {rows[-1]['within_class']:.1%} of the variance" in describe(rows[-1])


def test_the_line_of_an_epoch_fits_in_80_columns():
    shown = _measured({
        "images_per_second": 123_456.0, "loss": 12.345, "flagged": 0.15, "different": 0.857, "different_base": 0.866,
        "estimated": 0.857, "within_class": 0.123,
    })  # fmt: skip
    lines = _in_columns(["epoch 1000/1000", *shown]).split("\n")
    assert "of different classes 85.7% (all pairs: 86.6%; estimated: 85.7%)" in lines[1]
    assert max(map(len, lines)) <= 80
    assert all(part in "  ".join(lines) for part in shown)


def test_the_weight_decides_how_far_classes_shrink(train):
    shares = [train(f"{alpha}", alpha=alpha, epochs=12).metrics[-1]["within_class"] for alpha in (0.1, 0.5, 1.0)]
    assert shares[0] < shares[1] < shares[2]


def test_with_all_weight_on_views_it_is_simclr(train, config, digits, small):
    mixed = train("mixed", alpha=1.0)
    pretrain(config("simclr", temperature=0.1), images=digits, encoder=small(), views=VIEWS)
    assert [row["loss"] for row in numbers(mixed.run.path)] == [
        row["loss"] for row in numbers(mixed.run.path.parent / "simclr")
    ]


def test_images_without_labels_are_refused(train, digits):
    with pytest.raises(DataError, match="mixed learns from labels; these images have none: name their `label_column`"):
        train(images=replace(digits, labels=None))


def test_a_setting_that_collapses_is_told_before_training(config, digits):
    with pytest.warns(UserWarning, match=r"alpha=0 lets .*10 classes of 3.2 images.* above alpha=0\.[0-9]+"):
        check_labels(config(method="mixed", alpha=0.0), digits)
    for changes in ({"alpha": 1.0}, {"alpha": 0.0, "method": "simclr"}, {"alpha": 0.0, "batch_size": 8}):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_labels(config(**{"method": "mixed"} | changes), digits)


def test_partly_unknown_labels_are_fine(train, digits):
    labels = np.where(np.arange(len(digits)) % 2, digits.labels, -1)
    assert math.isfinite(train(images=replace(digits, labels=labels), alpha=0.6).metrics[-1]["within_class"])


def test_the_share_is_that_of_its_definition():
    torch.manual_seed(0)
    z, labels = torch.randn(30, 5), torch.arange(30) % 4 - 1
    u = torch.nn.functional.normalize(z[labels >= 0], dim=1)
    kept = labels[labels >= 0]
    within = sum((u[kept == c] - u[kept == c].mean(0)).square().sum() for c in range(3))
    assert within_class_share(z, labels) == pytest.approx(float(within / (u - u.mean(0)).square().sum()), abs=1e-6)
    assert within_class_share(torch.eye(3).repeat(2, 1), torch.arange(3).repeat(2)) == 0
    assert math.isnan(within_class_share(z, torch.full((30,), -1)))


def test_the_weight_is_a_setting(config):
    assert (config(method="mixed").alpha, config(method="mixed").temperature) == (0.5, 0.1)
    with pytest.raises(ValueError, match="alpha"):
        config(method="mixed", alpha=1.5)
    assert MixedContrastiveLoss(0.5).alpha == config(method="mixed").alpha
