"""Which examples a batch holds: ids of any size in every loss, queue and drop-in, as the deprecated `attach`."""

import copy

import pytest
import torch
from torch.nn.functional import normalize

import pairsift as ps
from pairsift.integrations import HookedLoss
from pairsift.integrations.grad_cache import CachedEmbeddings
from pairsift.integrations.metric_learning import NTXentLoss as MetricNTXent
from pairsift.integrations.solo_learn import simclr_loss_func
from pairsift.losses import LabelledNTXentLoss, MixedContrastiveLoss, MoCoLoss, NTXentLoss, SpectralLoss, TwoTowerLoss

N, D, WIDTH = 240, 6, 8
MARGIN, SOFT = ps.Treatment(0.05, 0.7), ps.Treatment(0.05, 0.7, same_class_weight=1.0)
# Positions, ids that float32 does not tell apart, and ids that int32 does not hold.
IDS = {"positions": None, "2^24": 2**24 + torch.arange(N), "2^31": 2**31 + 7 * torch.randperm(N)}


def features(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.eye(D).repeat_interleave(N // D, 0) + 0.3 * torch.randn(N, D, generator=generator)


def selector(name, ids=None):
    """A selector of N examples, and a treatment for it."""
    if name == "guide":
        mask = ps.GuideMask.fit(features(), features(1), ids=ids, cap=1.0, margin=0.2, floor=0.5)
        mask.off_because = ""
        return mask, None
    if name == "affinity":
        return ps.ConfidentNegatives(ps.Affinity.fit(features(), ids=ids), 0.6, 0.3), SOFT
    frames = torch.arange(N)
    return ps.TemporalWindow(ps.RankBand(0.1, 0.6), 5, frames // 60, frames % 60, ids=ids), MARGIN


NAMES = ("guide", "affinity", "window")
# All but a guide's with labels: rows of several views are no anchors with positives, as `attach_keys` has them.
ATTACHED = [(name, loss) for name in NAMES for loss in ("ntxent", "two-tower", "moco", "labelled", "mixed")]
ATTACHED.remove(("guide", "labelled"))
AT = torch.arange(0, N, 3)


def batch(dtype=torch.float64, seed=2):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(len(AT), w, generator=generator, dtype=dtype) for w in (D, D, WIDTH, WIDTH)]


def attached(name, chosen, h0, h1):
    if name == "guide":
        return chosen.attach(h0, AT), chosen.attach_keys(h1, AT)
    if name == "affinity":
        return chosen.affinity.attach(h0, AT), chosen.affinity.attach(h1, AT)
    return [chosen.attach(each, AT // 60, AT % 60) for each in (h0, h1)]


def moco(chosen, treatment, width=WIDTH, **options):
    loss = MoCoLoss(200, D, width, 0.3, chosen, treatment, **options).double()
    return lambda z0, z1, h0, h1, **known: [loss(z0, z1, h0, h1, **known), loss(z0, z1, h0, h1, **known)][1]


def labelled(chosen, treatment, **options):
    loss = LabelledNTXentLoss(0.3, chosen, treatment, **options)
    labels = torch.arange(len(AT)).repeat(2)
    return lambda z0, z1, h0, h1, **known: loss(
        torch.cat([z0, z1]), labels, torch.cat([h0, h1]), **{key: ids.repeat(2) for key, ids in known.items()}
    )


def mixed(chosen, treatment, **options):
    loss = MixedContrastiveLoss(0.3, 0.3, chosen, treatment, **options)
    return lambda z0, z1, h0, h1, **known: loss(z0, z1, torch.arange(len(AT)) % 5, h0, h1, **known)


MAKERS = {
    "ntxent": lambda chosen, treatment, **options: NTXentLoss(0.3, chosen, treatment, **options),
    "two-tower": lambda chosen, treatment, **options: TwoTowerLoss(0.3, False, chosen, treatment, **options),
    "moco": moco, "labelled": labelled, "mixed": mixed,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("tile", ["dense", 32])
@pytest.mark.parametrize(("name", "loss"), ATTACHED)
def test_ids_give_what_attached_numbers_gave(name, loss, tile):
    chosen, treatment = selector(name)
    z0, z1, h0, h1 = batch()
    value = MAKERS[loss](chosen, treatment, tile=tile)(z0, z1, h0, h1, rows=AT)
    old = ps.TemporalWindow(chosen.selector, 5) if name == "window" else copy.deepcopy(chosen)
    known = attached(name, old, h0, h1)
    width = {"width": known[0].shape[1]} if loss == "moco" else {}
    assert float(MAKERS[loss](old, treatment, tile=tile, **width)(z0, z1, *known)) == pytest.approx(
        float(value), abs=1e-12
    )
    plain = MAKERS[loss](None, None, tile=tile)(z0, z1, h0, h1)
    assert abs(float(plain) - float(value)) > 1e-3


@pytest.mark.parametrize("size", ["2^24", "2^31"])
@pytest.mark.parametrize("loss", MAKERS)
@pytest.mark.parametrize("name", NAMES)
def test_large_ids_are_as_good_as_small_ones(name, loss, size):
    values = [
        float(MAKERS[loss](*selector(name, ids))(*batch(), rows=AT if ids is None else ids[AT]))
        for ids in (None, IDS[size])
    ]
    assert values[0] == values[1]


@pytest.mark.parametrize("name", NAMES)
def test_select_and_the_spectral_loss_take_ids(name):
    ids = IDS["2^31"]
    chosen, treatment = selector(name, ids)
    z0, z1, h0, h1 = batch()
    treatment = MARGIN if name == "affinity" else treatment
    loss = SpectralLoss(2.0, chosen, treatment)
    pairs = loss.select(h0, h1, rows=ids[AT])
    assert pairs.any()
    torch.testing.assert_close(loss(z0, z1, h0, h1, rows=ids[AT]), loss(z0, z1, pairs=pairs))
    control = NTXentLoss(0.3, chosen, treatment, select="random")
    taken = NTXentLoss(0.3, chosen, treatment).select(h0, h1, rows=ids[AT])
    assert torch.equal(control.select(h0, h1, rows=ids[AT]).sum(1), taken.sum(1))


def test_second_views_may_be_of_other_examples():
    chosen, treatment = selector("window")
    h0, h1 = batch()[2:]
    loss = NTXentLoss(0.3, chosen, treatment)
    moved = loss.select(h0, h1, rows=AT, key_rows=AT.roll(1))
    expected = chosen.masks(torch.cat([h0, h1]), rows=torch.cat([AT, AT.roll(1)])).whole()
    assert torch.equal(moved, expected)
    assert not torch.equal(moved, loss.select(h0, h1, rows=AT))


def test_a_call_may_name_selector_and_treatment_and_changes_nothing_in_the_loss():
    z0, z1, h0, h1 = batch()
    plain = NTXentLoss(0.3)
    for name in NAMES:
        chosen, treatment = selector(name)
        value = plain(z0, z1, h0, h1, rows=AT, selector=chosen, treatment=treatment)
        assert value == NTXentLoss(0.3, chosen, treatment)(z0, z1, h0, h1, rows=AT)
        assert (plain.selector, plain.treatment) == (None, None)
    banded = NTXentLoss(0.3, ps.RankBand(0.1, 0.5), MARGIN)
    assert banded(z0, z1, treatment=ps.Treatment()) == plain(z0, z1)
    with pytest.raises(ValueError, match="needs a selector"):
        plain(z0, z1, treatment=MARGIN)


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_says_which_ids_are_missing(name):
    chosen, treatment = selector(name)
    for make in MAKERS.values():
        with pytest.raises(ValueError, match=r"has to know which examples these are: pass rows="):
            make(chosen, treatment)(*batch())


def test_ids_that_do_not_fit_are_refused():
    z0, z1, h0, h1 = batch()
    loss = NTXentLoss(0.3, *selector("affinity"))
    with pytest.raises(TypeError, match="rows must be a torch tensor, got list"):
        loss(z0, z1, h0, h1, rows=AT.tolist())
    for wrong in (AT[:3], AT.float(), AT > 3, AT[:, None]):
        with pytest.raises(ValueError, match=r"rows must be \(80,\) whole numbers"):
            loss(z0, z1, h0, h1, rows=wrong)
    with pytest.raises(ValueError, match="rows hold positions from 240 to"):
        loss(z0, z1, h0, h1, rows=AT + N)
    known = ps.ConfidentNegatives(ps.Affinity.fit(features(), ids=IDS["2^31"]))
    with pytest.raises(ValueError, match="rows hold 0, which is none of the 240 ids"):
        NTXentLoss(0.3, known, SOFT)(z0, z1, h0, h1, rows=AT)
    with pytest.raises(ValueError, match="ids must be distinct"):
        ps.Affinity(torch.rand(3, 4), ids=torch.tensor([1, 2, 1]))
    with pytest.raises(ValueError, match=r"ids must be \(3,\) integers"):
        ps.Affinity(torch.rand(3, 4), ids=torch.tensor([1.0, 2, 3]))
    towers = TwoTowerLoss(0.3, False, *selector("affinity"))
    with pytest.raises(ValueError, match="161 keys are no multiple of 80 rows: pass key_rows="):
        towers(z0, torch.cat([z1, z1, z1[:1]]), h0, torch.cat([h1, h1, h1[:1]]), rows=AT)


def test_the_queue_keeps_ids_and_gives_them_to_a_resumed_run():
    ids = IDS["2^31"]
    chosen, treatment = selector("affinity", ids)
    loss = MoCoLoss(100, D, WIDTH, 0.3, chosen, treatment)
    first, second, third = (batch(torch.float32, seed) for seed in (3, 4, 5))
    loss(*first, rows=ids[AT])
    loss(*second, rows=ids[AT], key_rows=ids[AT + 1])
    assert loss.queue_rows.dtype == torch.int64
    # A queue of 100 with 160 keys went round: slots 60 to 79 hold the first batch still.
    assert torch.equal(loss.queue_rows[60:80], ids[AT][60:])
    assert torch.equal(loss.queue_rows[80:], ids[AT + 1][:20])
    resumed = MoCoLoss(100, D, WIDTH, 0.3, chosen, treatment)
    resumed.load_state_dict(loss.state_dict())
    assert resumed(*third, rows=ids[AT]) == loss(*third, rows=ids[AT])
    with pytest.raises(ValueError, match="ids in a queue must be >= 0"):
        loss.enqueue(third[1], third[3], -ids[AT])
    loss.enqueue(third[1], third[3])
    with pytest.raises(ValueError, match="80 of 100 queued keys came without an id"):
        loss(*third, rows=ids[AT])
    assert loss(*third, treated=False).isfinite()


def test_integrations_pass_ids_on():
    ids = IDS["2^31"]
    chosen, treatment = selector("affinity", ids)
    z0, z1, h0, h1 = (each.float() for each in batch())
    labels, views = torch.arange(len(AT)).repeat(2), ids[AT].repeat(2)
    both = torch.cat([z0, z1]), labels, torch.cat([h0, h1])
    expected = LabelledNTXentLoss(0.3, chosen, treatment)(*both, rows=views)
    metric = MetricNTXent(0.3, chosen, treatment)
    assert metric(*both[:2], features=both[2], rows=views) == expected
    summed = LabelledNTXentLoss(0.3, chosen, treatment, positives="summed")(*both, rows=views)
    settings = {"h": both[2], "selector": chosen, "treatment": treatment}
    assert simclr_loss_func(both[0], labels, 0.3, rows=views, **settings) == summed
    assert simclr_loss_func(both[0], views, 0.3, **settings) == summed  # indexes are ids already
    model = torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.Linear(WIDTH, D))
    hooked = HookedLoss(NTXentLoss(0.3, chosen, treatment), model, "0")
    value = hooked(model(h0), model(h1), rows=ids[AT])
    assert value == hooked.loss(model(h0), model(h1), model[0](h0), model[0](h1), rows=ids[AT])


@pytest.mark.parametrize("name", NAMES)
def test_cached_embeddings_have_the_same_gradient(name):
    ids = IDS["2^31"]
    loss = TwoTowerLoss(0.3, False, *selector(name, ids))
    torch.manual_seed(0)
    model, (_, _, x0, x1) = torch.nn.Linear(WIDTH, D).double(), batch()
    gradients = []
    for cached in (False, True):
        made = CachedEmbeddings(lambda tokens: model(tokens["x"]), [{"x": x0}, {"x": x1}], 32)
        z = made.columns if cached else [model(x0), model(x1)]
        value = loss(*z, *(each.detach() for each in z), rows=ids[AT])
        (made.loss(value) if cached else value).backward()
        gradients.append(model.weight.grad.clone())
        model.zero_grad()
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


def test_wrapped_selectors_keep_their_state():
    mask, _ = selector("guide")
    frames = torch.arange(N)
    z0, z1, h0, h1 = batch()
    loss = TwoTowerLoss(0.3, selector=ps.TemporalWindow(mask, 5, frames // 60, frames % 60))
    loss(z0, z1, h0, h1, rows=AT)
    counted = mask.report()
    assert counted.pairs
    again, _ = selector("guide")
    TwoTowerLoss(0.3, selector=ps.TemporalWindow(again, 5, frames // 60, frames % 60)).load_state_dict(
        loss.state_dict()
    )
    assert again.report() == counted
    control = TwoTowerLoss(0.3, selector=ps.RandomPairs(ps.TemporalWindow(mask, 5, frames // 60, frames % 60)))
    control(z0, z1, h0, h1, rows=AT)
    names = {"selector_state.draws", "selector_state.selector.selector.counts"}
    assert set(control.state_dict()) == names


def test_normalized_features_do_not_matter():
    chosen, treatment = selector("affinity")
    z0, z1, h0, h1 = batch()
    loss = NTXentLoss(0.3, chosen, treatment)
    torch.testing.assert_close(
        loss(z0, z1, h0, h1, rows=AT), loss(z0, z1, 3 * normalize(h0), normalize(h1), rows=AT), rtol=1e-6, atol=1e-6
    )
