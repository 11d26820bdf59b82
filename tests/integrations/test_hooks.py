import contextlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import pairsift as ps
from pairsift.integrations import FeatureHook, HookedLoss
from pairsift.losses import MoCoLoss, NTXentLoss, SpectralLoss, TwoTowerLoss

BAND, TREATMENT = ps.RankBand(0.1, 0.5), ps.Treatment(0.1, 0.7)


class Model(nn.Module):
    """Gives projections only, as the models of other libraries do; features have trailing axes of length 1."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Sequential(nn.Linear(6, 5), nn.Unflatten(1, (5, 1, 1)))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(5, 3))

    def forward(self, x):
        return self.head(self.backbone(x))

    def features(self, x):
        return self.backbone(x).flatten(1).detach()


def views(n=8):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 6, generator=generator), torch.randn(n, 6, generator=generator)


@pytest.mark.parametrize("loss", [NTXentLoss(0.3, BAND, TREATMENT), SpectralLoss(1.0, BAND, TREATMENT)])
@pytest.mark.parametrize("together", [True, False])
def test_features_are_fetched_from_inside_the_model(loss, together):
    model, (x0, x1) = Model(), views()
    expected = loss(model(x0), model(x1), model.features(x0), model.features(x1))
    hooked = HookedLoss(loss, model, "backbone")
    model(x0[:3])  # an evaluation before it
    z0, z1 = model(torch.cat([x0, x1])).chunk(2) if together else (model(x0), model(x1))
    torch.testing.assert_close(hooked(z0, z1), expected)
    assert not list(hooked.parameters())  # the model is watched, not owned
    hooked.remove()
    z0, z1 = model(x0), model(x1)
    with pytest.raises(ValueError, match=r"gave batches of \[\] rows"):
        hooked(z0, z1)


@pytest.mark.parametrize("together", [True, False])
def test_views_may_be_many_and_come_in_any_order(together):
    """Features are those of the projections that are passed, whatever else the model was run on."""
    model, x = Model(), torch.randn(4, 8, 6, generator=torch.Generator().manual_seed(2))
    loss = NTXentLoss(0.3, BAND, TREATMENT)
    hooked = HookedLoss(loss, model, "backbone")
    z = model(x.flatten(0, 1)).chunk(4) if together else [model(view) for view in x]
    with torch.no_grad():
        model.eval()(x[0])
    model.train()
    for a, b in ((0, 1), (1, 0), (3, 2), (0, 3)):
        expected = loss(z[a], z[b], model.features(x[a]), model.features(x[b]))
        torch.testing.assert_close(hooked(z[a], z[b]), expected)
    unit = torch.nn.functional.normalize
    pair = [unit(each) for each in (model(x[:2].flatten(0, 1)).chunk(2))]  # made together, and no slices any more
    torch.testing.assert_close(hooked(*pair), loss(*pair, model.features(x[0]), model.features(x[1])))
    parts = [torch.cat([model(view[:3]), model(view[3:])]) for view in x[:2]]
    torch.testing.assert_close(hooked(*parts), loss(*parts, model.features(x[0]), model.features(x[1])))
    pair = [unit(z[3]), unit(z[1])]
    torch.testing.assert_close(hooked(*pair), loss(*pair, model.features(x[3]), model.features(x[1])))


def test_a_frozen_encoder_is_matched_by_its_calls():
    model, (x0, x1) = Model(), views()
    model.backbone.requires_grad_(False)
    loss = NTXentLoss(0.3, BAND, TREATMENT)
    hooked = HookedLoss(loss, model, "backbone")
    z = model(x0), model(x1)
    model.eval()(x0[:3])  # evaluation does not count
    model.train()
    expected = loss(*z, *(model.backbone.forward(x).flatten(1) for x in (x0, x1)))
    torch.testing.assert_close(hooked(*z), expected)
    z = model(x0), model(x1), model(x0)
    with pytest.raises(ValueError, match=r"gave batches of \[8, 8, 8\] rows since the last loss, and not the 16 rows"):
        hooked(*z[:2])
    with pytest.raises(ValueError, match=r"gave batches of \[\] rows"):  # an error leaves nothing over
        hooked(*z[:2])


@st.composite
def runs_of_a_model(draw):
    """Views of a batch, how a model is run on them, what else it is run on, and which two go to the loss."""
    number, n = draw(st.integers(2, 4)), draw(st.integers(3, 7))
    return {
        "views": torch.randn(number, n, 6, generator=torch.Generator().manual_seed(draw(st.integers(0, 99)))),
        "order": draw(st.permutations(range(number))), "frozen": draw(st.booleans()),
        "together": draw(st.booleans()), "unit": draw(st.booleans()),
        "others": draw(st.lists(st.sampled_from(("train", "eval", "no_grad", "half")), max_size=3)),
        "when": draw(st.integers(0, 3)), "pair": draw(st.permutations(range(number)))[:2],
    }  # fmt: skip


@settings(max_examples=150)
@given(runs_of_a_model())
def test_features_are_those_of_the_projections_whatever_the_order_of_calls(run):
    """Or the loss refuses in words: never other features."""
    model, x, loss = Model(), run["views"], NTXentLoss(0.3, BAND, TREATMENT)
    model.backbone.requires_grad_(not run["frozen"])
    hooked, z = HookedLoss(loss, model, "backbone"), {}

    def other():
        for kind in run["others"]:
            with torch.set_grad_enabled(kind != "no_grad"):
                model.train(kind == "train")(x[0] * 2 if kind != "half" else x[1][:2])
            model.train()

    if run["when"] == 0:
        other()
    if run["together"]:
        made = model(x[list(run["order"])].flatten(0, 1)).chunk(len(x))
        z = dict(zip(run["order"], made, strict=True))
    else:
        for at, view in enumerate(run["order"]):
            z[view] = model(x[view])
            if run["when"] == at + 1:
                other()
    a, b = run["pair"]
    chosen = [nn.functional.normalize(z[each]) if run["unit"] else z[each] for each in (a, b)]
    expected = loss(*chosen, *(model.backbone.forward(x[each]).flatten(1).detach() for each in (a, b)))
    # Where the layer has a graph, other calls disturb nothing.
    with contextlib.suppress(ValueError) if run["frozen"] else contextlib.nullcontext():
        torch.testing.assert_close(hooked(*chosen), expected)


MOVED = {
    "every other": lambda z, n: (z[0::2], z[1::2]), "view": lambda z, n: z.view(n, 2, -1).unbind(1),
    "select": lambda z, n: (z.view(n, 2, -1)[:, 0], z.reshape(n, 2, -1)[:, -1]),
    "halves": lambda z, n: z.chunk(2), "swapped": lambda z, n: z.split([n, n])[::-1],
    "flipped": lambda z, n: (z[:n].flip(0), z[n:].flip(0)), "rolled": lambda z, n: (z.roll(1, 0)[:n], z[-n:]),
    "picked": lambda z, n: (z[torch.arange(2 * n) % 2 == 0], z.index_select(0, torch.arange(1, 2 * n, 2))),
    "joined": lambda z, n: (torch.cat([z[n:], z[:1]])[:n], torch.stack([z[:n], z[n:]])[1]),
    "turned": lambda z, n: (z.t()[:, :n].t(), z.transpose(0, 1).permute(1, 0)[n:]),
    "grown": lambda z, n: (z[None].squeeze(0)[:n], z.repeat(2, 1)[2 * n : 3 * n]),
}  # fmt: skip


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("name", MOVED)
def test_features_follow_the_rows_of_a_joint_call(name, unit, frozen):
    model, n, loss = Model(), 6, NTXentLoss(0.3, BAND, TREATMENT)
    model.backbone.requires_grad_(not frozen)
    hooked, x = HookedLoss(loss, model, "backbone"), torch.randn(12, 6, generator=torch.Generator().manual_seed(2))
    z = model(x)
    pair = [nn.functional.normalize(each) if unit else each for each in MOVED[name](z, n)]
    features = MOVED[name](model.backbone.forward(x).flatten(1).detach(), n)
    torch.testing.assert_close(hooked(*pair), loss(*pair, *features))


class Tokens(nn.Module):
    """Attention between the layer and the projections, which mixes tokens in the graph."""

    def __init__(self, batch_first):
        super().__init__()
        torch.manual_seed(0)
        self.backbone, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.attention = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=batch_first)
        self.batch_first = batch_first

    def forward(self, x):
        h = self.backbone(x)
        return self.head(self.attention(h)[:, 0] if self.batch_first else self.attention(h.transpose(0, 1))[0])


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", ["halves", "swapped", "every other", "flipped"])
def test_rows_are_followed_behind_attention(name, batch_first, frozen):
    model, loss = Tokens(batch_first), NTXentLoss(0.3, BAND, TREATMENT)
    model.backbone.requires_grad_(not frozen)
    for tokens in (5, 12):  # 12 are as many as rows
        hooked = HookedLoss(loss, model, "backbone")
        x = torch.randn(12, tokens, 6, generator=torch.Generator().manual_seed(2))
        pair = [nn.functional.normalize(each) for each in MOVED[name](model(x), 6)]
        features = MOVED[name](model.backbone.forward(x).flatten(1).detach(), 6)
        torch.testing.assert_close(hooked(*pair), loss(*pair, *features))
        hooked.remove()


def test_rows_of_parts_follow_their_order():
    model, x, loss = Model(), torch.randn(2, 8, 6), NTXentLoss(0.3, BAND, TREATMENT)
    hooked = HookedLoss(loss, model, "backbone")
    late, early = model(x[0, 4:]), model(x[0, :4])
    pair = torch.cat([early, late]), model(x[1])
    torch.testing.assert_close(hooked(*pair), loss(*pair, model.features(x[0]), model.features(x[1])))


def test_rows_whose_way_is_not_known_are_refused():
    model, x = Model(), torch.randn(16, 6)
    hooked = HookedLoss(NTXentLoss(0.3, BAND, TREATMENT), model, "backbone")
    z = model(x)
    with pytest.raises(ValueError, match="it cannot be told which rows belong together: pass slices"):
        hooked(z.gather(0, torch.arange(8)[:, None].expand(8, 3)), z[:8])
    with pytest.raises(ValueError, match="it cannot be told which rows belong together: pass slices"):
        hooked(z[:8] + z[8:], z[:8])
    with pytest.raises(ValueError, match="it cannot be told which rows belong together: pass slices"):
        hooked(z.sort(0).values, z)


def test_two_layers_serve_two_towers_and_a_key_encoder():
    text, image, (x0, x1) = Model(), Model(), views()
    both = nn.ModuleDict({"text": text, "image": image})
    loss = TwoTowerLoss(0.1, selector=BAND, treatment=TREATMENT)
    hooked = HookedLoss(loss, both, ("text.backbone", "image.backbone"))
    value = hooked(text(x0), image(x1))
    torch.testing.assert_close(value, loss(text(x0), image(x1), text.features(x0), image.features(x1)))
    queue = HookedLoss(MoCoLoss(16, 3, 5, 0.2, BAND, TREATMENT), both, ("text.backbone", "image.backbone"))
    queue(text(x0), image(x1))
    torch.testing.assert_close(queue.loss.keys()[1], image.features(x1))


def test_projections_of_another_model_are_refused():
    model, (x0, x1) = Model(), views()
    hooked = HookedLoss(NTXentLoss(0.3, BAND, TREATMENT), model, "backbone")
    model(x0), model(x1)
    other = Model()
    with pytest.raises(ValueError, match=r"gave batches of \[\] rows .* the 16 rows of the projections"):
        hooked(other(x0), other(x1))


def test_a_missing_layer_names_the_existing_ones():
    model = Model()
    with pytest.raises(ValueError, match="no layer 'encoder' in Model: there are backbone, head"):
        FeatureHook(model, "encoder")
    with pytest.raises(ValueError, match=r"no layer 'head.norm' in Model: there are head.0, head.1"):
        HookedLoss(NTXentLoss(), model, ("backbone", "head.norm"))
    assert not model.backbone._forward_hooks
    with pytest.raises(ValueError, match=r"no layer 'head\.1\.x' in Model: there are none below it"):
        FeatureHook(model, "head.1.x")


def test_layers_without_rows_are_refused():
    class Odd(nn.Module):
        def forward(self, x):
            return x

    model = nn.Sequential(Odd())
    hook = FeatureHook(model, "0")
    with pytest.raises(ValueError, match=r"layer '0' gave \(4,\); features are a tensor"):
        model(torch.zeros(4))
    with pytest.raises(ValueError, match="layer '0' gave dict"):
        model({})
    model((torch.ones(4, 2), None))
    torch.testing.assert_close(hook.take(4), torch.ones(4, 2))
