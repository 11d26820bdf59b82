import pytest
import torch
from torch import nn

from pairsift.losses import NTXentLoss, SpectralLoss
from pairsift.train import Projector, Run, TrainConfig, pretrain
from pairsift.train.methods import MomentumEncoder, Step, build_method


@pytest.fixture
def moco():
    """A method for flat inputs of six numbers, with its encoder and projector."""

    def make(**changes):
        torch.manual_seed(0)
        settings = {"method": "moco", "batch_size": 8, "queue_size": 20, "bn_splits": 1, "projector_dim": 4} | changes
        encoder, projector = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5)), Projector(5, 8, 4)
        return build_method(TrainConfig(**settings), encoder, projector, 5), encoder, projector

    return make


def views(n=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 6, generator=generator), torch.randn(n, 6, generator=generator)


def step(pair, labels=None, watch=False, **told):
    rows = torch.arange(len(pair[0]))
    return Step(pair, labels, rows, rows, watch, **told)


def queries(method, encoder, projector, pair):
    h = encoder(torch.cat(pair) if method.both_views else pair[0])
    return projector(h), h


def test_methods_by_name(moco):
    encoder, projector = nn.Identity(), nn.Identity()
    settings = {"treatment": "margin", "margin": 0.2, "select": "random", "seed": 4}
    simclr = build_method(TrainConfig(temperature=0.3, **settings), encoder, projector, 5).loss
    spectral = build_method(TrainConfig(method="spectral", mu=3, **settings), encoder, projector, 5).loss
    queue = moco(**settings)[0].loss
    assert isinstance(simclr, NTXentLoss)
    assert simclr.temperature == 0.3
    assert isinstance(spectral, SpectralLoss)
    assert spectral.mu == 3
    assert queue.queue_z.shape == (20, 4)
    assert queue.queue_h.shape == (20, 5)
    assert queue.temperature == 0.2
    for loss in (simclr, spectral, queue):
        assert (loss.treatment.margin, loss.selection, loss.seed) == (0.2, "random", 4)


@pytest.mark.parametrize(("schedule", "away"), [("constant", 0.1), ("cosine", 0.05)])
def test_the_key_encoder_follows_by_its_momentum(moco, schedule, away):
    method, encoder, projector = moco(key_momentum=0.9, key_momentum_schedule=schedule)
    before = [p.clone() for p in method.key_encoder.parameters()]
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(1)
    method.follow(encoder, projector, progress=0.5)
    for old, new in zip(before, method.key_encoder.parameters(), strict=True):
        torch.testing.assert_close(new, old + away)
        assert not new.requires_grad


@pytest.mark.parametrize("both", [True, False])
def test_queries_meet_the_key_of_their_other_view(moco, both):
    """Before the first step both encoders are one, so the keys can be made by hand."""
    method, encoder, projector = moco(symmetric=both)
    pair, labels = views(), torch.arange(8)
    z, h = queries(method, encoder, projector, pair)
    outcome = method(z, h, step(pair, labels))
    assert float(outcome.loss.detach()) == pytest.approx(0, abs=1e-6)  # nothing was queued yet
    other = torch.cat([pair[1], pair[0]]) if both else pair[1]
    keys, features = method.loss.keys()
    torch.testing.assert_close(features, encoder(other).detach())
    torch.testing.assert_close(keys, nn.functional.normalize(projector(encoder(other))).detach())
    assert method.labels[: len(keys)].tolist() == [*range(8)] * (2 if both else 1)
    k = projector(encoder(other)).detach()
    z, h = queries(method, encoder, projector, pair)
    positive = (nn.functional.normalize(z) * nn.functional.normalize(k)).sum(1) / 0.2
    negatives = nn.functional.normalize(z) @ keys.T / 0.2
    expected = (torch.cat([positive[:, None], negatives], 1).logsumexp(1) - positive).mean()
    torch.testing.assert_close(method(z, h, step(pair, labels)).loss, expected)


def test_keys_are_encoded_in_random_groups_with_statistics_of_their_own(moco):
    """Groups change batch statistics, and nothing else: without batch norm they change nothing."""
    method, encoder, projector = moco(bn_splits=2, symmetric=False)
    pair = views()
    method(*queries(method, encoder, projector, pair), step(pair))
    grouped = method.loss.keys()[1]
    assert not torch.allclose(grouped, encoder(pair[1]).detach(), atol=1e-3)
    for module in (encoder, method.key_encoder):
        module[1] = nn.Identity()
    method(*queries(method, encoder, projector, pair), step(pair))
    torch.testing.assert_close(method.loss.keys()[1][8:], encoder(pair[1]).detach())


def test_no_group_of_keys_is_of_one_image(moco):
    """Ten keys in four groups: equal shares, as one image has no batch statistics."""
    method, encoder, projector = moco(bn_splits=4, batch_size=10, symmetric=False)
    seen = []
    method.key_encoder.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    pair = views(10)
    method(*queries(method, encoder, projector, pair), step(pair))
    assert sorted(seen) == [2, 2, 3, 3]


@pytest.mark.parametrize("watch", [True, False])
@pytest.mark.parametrize("name", ["simclr", "spectral", "moco"])
def test_what_is_not_treated_is_the_plain_method(moco, name, watch):
    """Two batches, as nothing is queued before the first."""

    def losses(treatment, **told):
        method, encoder, projector = moco(method=name, treatment=treatment, band_start=0.1, band_stop=0.5)
        pairs = [views(seed=seed) for seed in range(2)]
        return [
            float(method(*queries(method, encoder, projector, pair), step(pair, watch=watch, **told)).loss.detach())
            for pair in pairs
        ]

    assert losses("combined", treated=False) == losses("none")
    assert losses("combined", treated=True)[1] != losses("none")[1]


def test_flagged_pairs_and_their_classes_are_told(moco):
    method, encoder, projector = moco(treatment="margin", band_start=0.1, band_stop=0.5)
    for seed in range(3):
        pair, labels = views(seed=seed), torch.arange(8) % 2
        outcome = method(*queries(method, encoder, projector, pair), step(pair, labels, watch=True))
        if seed == 0:
            assert outcome.pairs is None
    assert outcome.pairs.shape == (16, 20)
    assert outcome.candidates == 16 * 20
    assert outcome.pairs.sum(1).tolist() == [8] * 16
    # Queue of 20: 16 keys of the second batch and, after it went round, the last 4 of the first.
    assert sorted(outcome.key_labels.tolist()) == [0] * 10 + [1] * 10


@pytest.mark.parametrize("method", ["spectral", "moco"])
def test_a_run_with_any_method_learns_and_is_measured(method, config, digits, small):
    settings = config(method=method, treatment="combined", epochs=8, queue_size=200)
    rows = pretrain(settings, images=digits, encoder=small()).metrics
    assert min(row["loss"] for row in rows[2:]) < rows[1]["loss"]
    assert 0.03 < rows[-1]["flagged"] < 0.1
    assert 0.7 < rows[-1]["different"] <= 1
    # Only the trained encoder is kept.
    assert Run(settings.run_dir).load_encoder(small())(torch.rand(2, 3, 8, 8)).shape == (2, 16)


def test_the_momentum_encoder_is_in_the_state_dict(moco):
    method, *_ = moco()
    assert isinstance(method, MomentumEncoder)
    names = set(method.state_dict())
    assert {"labels", "loss.queue_z", "loss.queue_h", "loss._next", "key_encoder.0.weight"} <= names
