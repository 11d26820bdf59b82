"""The constants of the same-class estimator can be fitted again."""

import re

import numpy as np
import pytest

from lab.calibration import calibrate, design_set, main
from pairsift.neighbors import unit_rows
from pairsift.same_class.estimator import CONSTANTS, Constants, logit_codes, pair_scores


def labelled(noise, seed):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(5), 40)
    return (np.eye(5, 10)[labels] + noise * rng.standard_normal((200, 10))).astype(np.float32), labels


def test_sets_of_clear_clusters_give_a_rising_logit():
    sets = [design_set("a", "a", *labelled(0.2, 0)), design_set("b", "b", *labelled(0.5, 1))]
    assert sets[0].same["near"].mean() > sets[1].same["near"].mean()
    assert calibrate(sets).slope > 0
    assert CONSTANTS.slope > 0


def test_codes_multiply_to_the_logit():
    fitted = pair_scores(unit_rows(labelled(0.4, 2)[0]), 0)
    codes = logit_codes(fitted, Constants(-1.0, 0.5, 0.3, 2.0)).astype(float)
    rows, others = np.array([0, 3, 50]), np.array([9, 120, 51])
    logits = (codes[rows, :-1] * codes[others, :-1]).sum(axis=1) + codes[rows, -1] + codes[others, -1]
    expected = -1 + 0.3 * fitted.sharpness[0] + 2 * fitted.sharpness[1] + 0.5 * fitted.of_pairs(rows, others).mean(1)
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_the_command_prints_trials_and_constants(tmp_path, capsys):
    for name, noise in (("first", 0.3), ("second", 0.5)):
        features, labels = labelled(noise, 0)
        np.savez(tmp_path / f"{name}.npz", features=features, labels=labels)
    main([f"one={tmp_path / 'first.npz'}", f"two={tmp_path / 'second.npz'}"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert 0 <= float(re.search(r"one first: near pairs AUROC (\S+),", lines[0])[1]) <= 1
    assert lines[2].startswith("Constants(intercept=")


def test_a_set_without_labels_is_refused(tmp_path):
    np.savez(tmp_path / "bare.npz", features=np.eye(60))
    with pytest.raises(KeyError, match="labels"):
        main([f"one={tmp_path / 'bare.npz'}"])
