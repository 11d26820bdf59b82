import math

import pytest
import torch

import pairsift as ps

S = torch.tensor([[0.5, -0.2]])
P = torch.tensor([[True, False]])


@pytest.mark.parametrize(
    ("treatment", "logit"),
    [
        (ps.Treatment(), 0.5 / 0.1),
        (ps.Treatment(margin=0.3), 0.8 / 0.1),
        (ps.Treatment(temperature_scale=0.5), 0.5 / 0.05),
        (ps.Treatment(margin=0.3, temperature_scale=0.5), 0.8 / 0.05),
        (ps.Treatment(removal="neutral"), 0.0),
        (ps.Treatment(removal="exclude"), -math.inf),
    ],
)
def test_logits_follow_the_equations(treatment, logit):
    assert treatment.logits(S, P, 0.1)[0].tolist() == pytest.approx([logit, -2.0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"margin": -0.1}, "margin must be finite and >= 0, got -0.1"),
        ({"margin": math.nan}, "margin must be finite"),
        ({"temperature_scale": 0}, "temperature_scale must be finite and > 0, got 0"),
        ({"removal": "drop"}, "removal must be None, 'neutral'"),
        ({"removal": "neutral", "margin": 0.1}, "use one or the other"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ps.Treatment(**settings)


def test_settings_are_numbers_and_frozen():
    with pytest.raises(TypeError, match=r"Treatment.margin must be a number, got '0.1'"):
        ps.Treatment(margin="0.1")
    with pytest.raises(AttributeError):
        ps.Treatment().margin = 1.0


def test_only_doing_nothing_is_neutral():
    assert ps.Treatment().is_neutral
    assert not any(t.is_neutral for t in (ps.Treatment(margin=1), ps.Treatment(removal="neutral")))


def test_same_class_pairs_are_weakened_by_their_logarithm():
    edit = ps.Treatment(margin=0.3, same_class_weight=2.0).edit(0.1)
    assert edit.same_class_weight == 2
    plain, mask, log_weights = S / 0.1, P.float(), torch.tensor([[-1.0, -0.5]])
    assert edit.apply(plain, mask, log_weights)[0].tolist() == pytest.approx([8 - 1, -2 - 0.5])
    edit.apply_(plain, mask, log_weights)
    assert plain[0].tolist() == pytest.approx([8 - 1, -2 - 0.5])
    with pytest.raises(ValueError, match="same_class_weight must be finite and >= 0, got -1"):
        ps.Treatment(same_class_weight=-1)
    assert not ps.Treatment(same_class_weight=1).is_neutral
