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
    if together:
        with pytest.raises(ValueError, match="it cannot be told which rows belong together: pass slices"):
            hooked(unit(z[0]), unit(z[1]))


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
    # Where the layer has a graph and the projections show their place, other calls disturb nothing.
    may_refuse = run["frozen"] or (run["together"] and run["unit"])
    with contextlib.suppress(ValueError) if may_refuse else contextlib.nullcontext():
        found = hooked(*chosen)
        if run["unit"] and run["together"] and len(x) == 2 and (a, b) != tuple(run["order"]):
            return  # rows that were made together are taken in their order, as the documentation says
        torch.testing.assert_close(found, expected)


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
