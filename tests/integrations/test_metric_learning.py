import pytest
import torch
from torch import nn

import pairsift as ps
from pairsift.integrations import FeatureHook
from pairsift.integrations.metric_learning import NTXentLoss
from pairsift.integrations.solo_learn import simclr_loss_func
from pairsift.losses import LabelledNTXentLoss

peer = pytest.importorskip("pytorch_metric_learning.losses")
BAND, TREATMENT = ps.RankBand(0.1, 0.5), ps.Treatment(0.1, 0.7)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 3])


def rows(n=8, d=6, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_untreated_it_equals_pytorch_metric_learning():
    z, ref = rows(), rows(8, seed=1)
    ours, theirs = NTXentLoss(0.2), peer.NTXentLoss(0.2)
    torch.testing.assert_close(ours(z, LABELS), theirs(z, LABELS), atol=1e-6, rtol=0)
    torch.testing.assert_close(
        ours(z, LABELS, None, ref, LABELS.flip(0)), theirs(z, LABELS, None, ref, LABELS.flip(0)), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("symmetric", [True, False])
def test_it_works_in_the_self_supervised_wrapper(symmetric):
    z, ref = rows(), rows(8, seed=1)
    values = [peer.SelfSupervisedLoss(loss, symmetric)(z, ref) for loss in (NTXentLoss(0.2), peer.NTXentLoss(0.2))]
    torch.testing.assert_close(*values, atol=1e-6, rtol=0)


def test_features_come_from_a_hook_or_as_given():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)), rows()
    h = model[0](x).detach()
    expected = LabelledNTXentLoss(0.07, BAND, TREATMENT)(model(x), LABELS, h)
    torch.testing.assert_close(NTXentLoss(0.07, BAND, TREATMENT)(model(x), LABELS, features=h), expected)
    hooked = NTXentLoss(0.07, BAND, TREATMENT, FeatureHook(model, "0"))
    torch.testing.assert_close(hooked(model(x), LABELS), expected)
    wrapped = peer.SelfSupervisedLoss(hooked)(model(x), model(x.flip(1)))
    both = torch.cat([model(x), model(x.flip(1))])
    features = torch.cat([model[0](x), model[0](x.flip(1))]).detach()
    torch.testing.assert_close(
        wrapped, LabelledNTXentLoss(0.07, BAND, TREATMENT)(both, torch.arange(8).repeat(2), features)
    )
    against = hooked(model(x), ref_emb=model(x.flip(1)))
    expected = LabelledNTXentLoss(0.07, BAND, TREATMENT)(
        both[:8], torch.arange(8), features[:8], ref_z=both[8:], ref_labels=torch.arange(8), ref_h=features[8:]
    )
    torch.testing.assert_close(against, expected)


def test_miners_and_missing_labels_are_refused():
    loss = NTXentLoss()
    with pytest.raises(ValueError, match="indices_tuple has 2 tensors: NT-Xent takes pairs"):
        loss(rows(), LABELS, (torch.arange(2),) * 2)
    with pytest.raises(TypeError, match="NTXentLoss has no 'reducer': it compares by cosine"):
        NTXentLoss(reducer=None)
    with pytest.raises(ValueError, match="labels are needed"):
        loss(rows())


@pytest.mark.parametrize("name", ["pairs", "triplets", "repeated", "histogram", "hard", "margin"])
@pytest.mark.parametrize("referred", [False, True])
def test_pairs_count_as_often_as_they_are_named(name, referred):
    from pytorch_metric_learning import miners
    from pytorch_metric_learning.utils import loss_and_miner_utils as tuples

    z, labels, ref = rows(24), torch.arange(6).repeat(4), rows(18, seed=1)
    ref_labels = torch.arange(6).repeat(3) if referred else None
    if name in ("pairs", "repeated"):
        named = tuples.get_all_pairs_indices(labels, ref_labels)
        named = named if name == "pairs" else tuple(torch.cat([each, each[::2]]) for each in named)
    elif name == "triplets":
        named = tuples.get_all_triplets_indices(labels, ref_labels)
    else:
        torch.manual_seed(0)
        miner = {"histogram": miners.UniformHistogramMiner, "hard": miners.BatchHardMiner}.get(
            name, miners.TripletMarginMiner
        )
        named = miner()(z, labels, ref, ref_labels) if referred else miner()(z, labels)
    others = {"ref_emb": ref, "ref_labels": ref_labels} if referred else {}
    expected = peer.NTXentLoss(0.5)(z, labels, named, **others)
    torch.testing.assert_close(NTXentLoss(0.5)(z, labels, named, **others), expected)
    without_labels = {"ref_emb": ref} if referred else {}
    torch.testing.assert_close(NTXentLoss(0.5)(z, None, named, **without_labels), expected)


def test_rows_that_are_their_own_references_are_no_pairs():
    z = rows()
    expected = peer.NTXentLoss(0.5)(z, LABELS, ref_emb=z, ref_labels=LABELS)
    torch.testing.assert_close(NTXentLoss(0.5)(z, LABELS, ref_emb=z, ref_labels=LABELS), expected)
    torch.testing.assert_close(NTXentLoss(0.5)(z, LABELS), expected)


def test_solo_learns_function():
    """-log of the summed positives over everything, as its SimCLR loss has it; three views of an image."""
    z, index, h = rows(9), torch.arange(3).repeat(3), rows(9, seed=2)
    unit = nn.functional.normalize(z)
    similarity = (unit @ unit.T / 0.1).exp().fill_diagonal_(0)
    positive = (similarity * (index[:, None] == index)).sum(1)
    expected = -(positive / similarity.sum(1)).log().mean()
    torch.testing.assert_close(simclr_loss_func(z, index), expected)
    treated = simclr_loss_func(z, index, h=h, selector=BAND, treatment=TREATMENT)
    assert not torch.isclose(treated, expected)


def test_it_works_in_the_librarys_wrappers():
    library = pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning import losses, miners
    from pytorch_metric_learning.utils.distributed import DistributedLossWrapper

    assert library
    torch.manual_seed(0)
    z, labels = torch.randn(3, 16, 8), torch.arange(8).repeat(2)
    ours, theirs = NTXentLoss(0.5), losses.NTXentLoss(0.5)
    memories = [losses.CrossBatchMemory(each, 8, memory_size=40) for each in (ours, theirs)]
    for batch in z:  # the memory goes round
        values = [memory(batch, labels) for memory in memories]
        torch.testing.assert_close(*values)
    mask = torch.arange(16) > 7
    values = [
        losses.CrossBatchMemory(each, 8, memory_size=40)(z[0], labels, enqueue_mask=mask) for each in (ours, theirs)
    ]
    torch.testing.assert_close(*values)
    miner = miners.MultiSimilarityMiner()
    pairs = miner(z[0], labels)
    torch.testing.assert_close(ours(z[0], labels, pairs), theirs(z[0], labels, pairs))
    both = [losses.MultipleLosses([each, each], miners=[miner, None])(z[0], labels) for each in (ours, theirs)]
    torch.testing.assert_close(*both)
    for symmetric in (True, False):
        views = [losses.SelfSupervisedLoss(each, symmetric=symmetric)(z[0], z[1]) for each in (ours, theirs)]
        torch.testing.assert_close(*views)
    with pytest.warns(UserWarning, match="non-distributed"):
        assert DistributedLossWrapper(ours)(z[0], labels) == ours(z[0], labels)
    treated = NTXentLoss(0.5, ps.RankBand(0.1, 0.5), ps.Treatment(0.1))
    memory = losses.CrossBatchMemory(treated, 8, memory_size=40)
    with pytest.warns(UserWarning, match="selected on the projections"):
        assert memory(z[0], labels) > losses.CrossBatchMemory(ours, 8, memory_size=40)(z[0], labels)
