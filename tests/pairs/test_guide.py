import math

import numpy as np
import pytest
import torch
from oracle import cosine, two_tower

import pairsift as ps
from pairsift.losses import TwoTowerLoss
from pairsift.losses.engine import Engine
from pairsift.pairs.guide_table import spread_margin

EXCLUDE = ps.Treatment(removal="exclude")


def guides(n=40, d=6, columns=2, seed=0):
    """Guide features of anchors, positives near them and hard negatives, as the float32 numbers the mask works on."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(n, d, generator=generator)
    rest = [first + 0.8 * torch.randn(n, d, generator=generator) for _ in range(columns - 1)]
    return [torch.nn.functional.normalize(each, dim=1) for each in (first, *rest)]


def oracle(anchors, positives, keys, texts, key_texts, margin, cap, floor):
    """The rule in loops: (B, K) false negatives; row i belongs to key i."""
    masked = np.zeros((len(anchors), len(keys)), bool)
    for i, anchor in enumerate(anchors):
        own = cosine(anchor, positives[i])
        others = [k for k in range(len(keys)) if k != i]
        same = {k for k in others if key_texts[k] in texts[i]}
        if len(same) == len(others):
            same = set()
        guided = {k for k in others if cosine(anchor, keys[k]) > max(own - margin * abs(own), floor)} | same
        for k in guided if len(guided) <= cap * len(others) else same:
            masked[i, k] = True
    return masked


def case(columns, margin, cap, floor=-1.0, **options):
    features = guides(columns=columns)
    names = [f"{column} {i}" for column in "apnm"[:columns] for i in range(40)]
    names[40 + 7] = names[40 + 3].upper() + " "  # a positive twice
    names[40 + 9] = names[12]  # an anchor that is another one's positive
    texts = [names[40 * i : 40 * (i + 1)] for i in range(columns)]
    mask = ps.GuideMask.fit(
        features[0], features[1], features[2:], texts=texts, margin=margin, cap=cap, floor=floor, **options
    )
    mask.off_because = ""
    rows = torch.arange(20)
    z = torch.randn(20 * columns, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    kept = [each[:20].double().tolist() for each in features]
    keys = [row for column in kept[1:] for row in column]
    plain = [[" ".join(text.casefold().split()) for text in column[:20]] for column in texts]
    own = [{a, p} for a, p in zip(plain[0], plain[1], strict=True)]
    key_texts = [text for column in plain[1:] for text in column]
    expected = oracle(kept[0], kept[1], keys, own, key_texts, margin, cap, floor)
    back = oracle(kept[1], kept[0], kept[0], own, plain[0], margin, cap, floor)
    return mask, rows, z[:20], z[20:], expected, back


@pytest.mark.parametrize("columns", [2, 4])
@pytest.mark.parametrize("margin", [-0.1, 0.0, 0.3])
@pytest.mark.parametrize("cap", [0.1, 1.0])
@pytest.mark.parametrize(("tile", "floor"), [(None, -1.0), (7, -1.0), (7, 0.5)])
def test_masks_and_loss_equal_the_oracle_in_both_directions(columns, margin, cap, tile, floor):
    mask, rows, z0, z1, forth, back = case(columns, margin, cap, floor)
    keys = torch.cat([mask.identify(rows, column) for column in range(1, columns)])
    assert (mask.masks(z0, z1, rows=rows, key_rows=keys).whole().numpy() == forth).all()
    assert (mask.masks(z1[:20], z0, rows=keys[:20], key_rows=mask.identify(rows, 0)).whole().numpy() == back).all()
    assert forth.any()
    expected = two_tower(z0.tolist(), z1.tolist(), 0.2, forth, removal="exclude")
    turned = two_tower(z1[:20].tolist(), z0.tolist(), 0.2, back, removal="exclude")
    for treatment in (EXCLUDE, ps.Treatment(same_class_weight=1)):
        settings = dict(selector=mask, treatment=treatment, engine=Engine(tile=tile or "auto"))
        assert float(TwoTowerLoss(0.2, symmetric=False, **settings)(z0, z1, z0, z1, rows=rows)) == pytest.approx(
            expected, abs=1e-10
        )
        both = float(TwoTowerLoss(0.2, **settings)(z0, z1, z0, z1, rows=rows))
        assert both == pytest.approx((expected + turned) / 2, abs=1e-10)


@pytest.mark.parametrize("treatment", [EXCLUDE, ps.Treatment(margin=0.1, temperature_scale=0.6, same_class_weight=1)])
def test_gradcheck(treatment):
    mask, rows, z0, z1, _, _ = case(4, 0.0, 1.0, difficult=None if treatment is EXCLUDE else 0.2)
    z0, z1, rows = z0[:5], z1.view(3, 20, 8)[:, :5].reshape(15, 8), rows[:5]
    loss = TwoTowerLoss(0.5, selector=mask, treatment=treatment)
    assert torch.autograd.gradcheck(
        lambda a, b: loss(a, b, z0, z1, rows=rows), (z0.clone().requires_grad_(), z1.clone().requires_grad_())
    )


def test_difficult_pairs_are_the_closest_of_the_others():
    mask, rows, z0, z1, expected, _ = case(2, 0.0, 1.0, difficult=0.2)
    masks = mask.masks(z0, z1, rows=rows, key_rows=rows)
    flagged, unit = masks.whole().numpy(), torch.nn.functional.normalize
    similar = (unit(z0) @ unit(z1).T).numpy()
    for i in range(20):
        left = [k for k in range(20) if k != i and not expected[i, k]]
        closest = sorted(left, key=lambda k: -similar[i, k])[:4]
        assert set(np.flatnonzero(flagged[i])) == set(closest)
    assert ((masks.log_weights(0, 20) < -1).numpy() == expected).all()


def test_difficult_pairs_are_the_same_under_autocast():
    first, second = guides(200)
    mask, rows = ps.GuideMask.fit(first, second, difficult=0.3), torch.arange(200)
    mask.off_because = ""
    h = torch.randn(2, 200, 16, generator=torch.Generator().manual_seed(0))
    whole = mask.masks(*h, rows=rows, key_rows=rows).whole()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mask.masks(*h, rows=rows, key_rows=rows).whole(), whole)


def test_the_cap_leaves_rows_alone_and_identity_stays():
    mask, rows, z0, z1, _, _ = case(2, 10.0, 0.1)  # such a margin masks everything
    whole = mask.masks(z0, z1, rows=rows, key_rows=rows).whole()
    report = mask.report()
    assert report.rows_off == report.rows == 20
    assert (report.guide, report.identity) == (0, int(whole.sum()))
    assert all(whole[pair] for pair in ((3, 7), (7, 3), (12, 9)))


def test_a_bad_guide_is_off_for_the_run_with_a_reason():
    anchors, positives = torch.randn(2, 300, 16, generator=torch.Generator().manual_seed(0))
    mask = ps.GuideMask.fit(anchors, positives, texts=[list(range(300)), [0, 0, *range(302, 600)]])
    assert "below 5" in mask.off_because or "below 4" in mask.off_because
    assert mask.describe() == mask.off_because
    assert "off" in repr(mask)
    rows = torch.arange(50)
    whole = mask.masks(anchors[:50], positives[:50], rows=rows, key_rows=rows).whole()
    assert whole.nonzero().tolist() == [[0, 1], [1, 0]]
    mask.difficult = 0.1
    assert not mask.masks(anchors[:50], positives[:50], rows=rows, key_rows=rows).whole().any()
    good = ps.GuideMask.fit(anchors, anchors + 0.01 * positives)
    assert not good.off_because
    assert "identical texts; at most 10 %" in good.describe()


def test_the_margin_is_the_spread_of_known_positives():
    own = 0.6 + 0.09 * torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    assert spread_margin(own) == pytest.approx(0.15, abs=0.002)
    assert spread_margin(torch.full((10,), 0.5)) == 0
    assert spread_margin(torch.tensor([0.0, 1.0, -1.0])) == 1
    first, second = guides(500)
    mask = ps.GuideMask.fit(first, second)
    assert mask.margin == pytest.approx(spread_margin((first * second).sum(1)), abs=1e-6)


def test_the_floor_is_the_closest_tenth_of_known_positives():
    first, second = guides(500)
    mask = ps.GuideMask.fit(first, second)
    assert mask.floor == pytest.approx(np.quantile((first * second).sum(1).numpy(), 0.9), abs=1e-6)
    assert f"of it and {mask.floor:.2f}" in mask.describe()


def test_it_counts_and_goes_on_counting_after_a_resume():
    first, second = guides()
    labels = np.arange(40) // 4
    mask = ps.GuideMask.fit(first, second, labels=labels, margin=0.1, floor=-1, cap=1.0)
    mask.off_because = ""
    loss = TwoTowerLoss(selector=mask, treatment=EXCLUDE, symmetric=False)
    rows = torch.arange(40)
    z = torch.randn(40, 8, requires_grad=True)
    loss(z, z, z, z, rows=rows).backward()
    whole = mask.masks(z, z, rows=rows, key_rows=rows).whole().numpy()
    same = (labels[:, None] == labels) & ~np.eye(40, dtype=bool)
    report = mask.report()
    mask.set_state({"counts": torch.zeros(9, dtype=torch.int64)})
    loss(z, z, z, z, rows=rows)
    assert mask.report() == ps.pairs.GuideReport(
        40 * 39, whole.sum(), 0, 40, 0, 40 * 39, same.sum(), whole.sum(), (whole & same).sum()
    )
    assert mask.report().precision == (whole & same).sum() / whole.sum()
    assert mask.report().recall == (whole & same).sum() / same.sum()
    assert report.pairs == 2 * 40 * 39  # by the loss, and by the masks asked for beside it
    assert "masked" in str(report)
    again = ps.GuideMask.fit(first, second, labels=labels, margin=0.1, floor=-1, cap=1.0)
    TwoTowerLoss(selector=again, treatment=EXCLUDE).load_state_dict(loss.state_dict())
    assert again.report() == mask.report()
    assert math.isnan(ps.GuideMask.fit(first, second).report().precision)


def test_an_example_that_is_drawn_twice_is_no_negative_of_itself():
    first, second = guides()
    mask = ps.GuideMask.fit(first, second, margin=-2.0)  # the guide masks nothing
    rows = torch.tensor([3, 5, 3])
    whole = mask.masks(first[rows], second[rows], rows=rows, key_rows=rows).whole()
    assert whole.nonzero().tolist() == [[0, 0], [0, 2], [2, 0], [2, 2]]


def test_where_all_candidates_would_go_none_goes_and_one_row_is_no_batch():
    first, second = guides()
    mask = ps.GuideMask.fit(first, second, texts=[["a"] * 40, ["b"] * 40], margin=5.0, floor=-1, cap=0.5)
    for count in (1, 4):
        rows = torch.arange(count)
        batch = first[:count], second[:count]
        assert not mask.masks(*batch, rows=rows, key_rows=rows).whole().any()
        value = TwoTowerLoss(selector=mask, treatment=EXCLUDE)(*batch, *batch, rows=rows)
        assert torch.isfinite(value)


def test_bfloat16_masks_nearly_the_same():
    mask, rows, z0, z1, expected, _ = case(4, 0.0, 1.0, difficult=None)
    keys = torch.cat([mask.identify(rows, column) for column in (1, 2, 3)])
    masks = mask.masks(z0, z1, rows=rows, key_rows=keys, precision="bf16")
    assert (masks.whole().numpy() == expected).mean() > 0.98


def test_bad_input_is_refused_by_name():
    first, second = guides()
    nan = second.clone()
    nan[4, 0] = float("nan")
    for wrong, error, words in (
        ((first, second[:, :3]), ValueError, r"positives are \(40, 3\) and those of anchors \(40, 6\)"),
        ((first, second[:30]), ValueError, "a row for each example"),
        ((first, nan), ValueError, "positives row 4 is not finite"),
        ((first, None), TypeError, "every example needs a positive"),
    ):
        with pytest.raises(error, match=words):
            ps.GuideMask.fit(*wrong)
    texts = [f"text {i}" for i in range(40)]
    for column, error, words in (
        ([None, *texts[1:]], TypeError, "text 0 of positives is None"),
        ([*texts[:39], " "], ValueError, "text 39 of positives is empty"),
        (texts[:39], ValueError, "texts of positives must be 40"),
        (None, TypeError, "must be a list of 40 texts"),
    ):
        with pytest.raises(error, match=words):
            ps.GuideMask.fit(first, second, texts=[texts, column])
    with pytest.raises(ValueError, match="must hold 2 columns"):
        ps.GuideMask.fit(first, second, texts=[texts])
    with pytest.raises(ValueError, match="labels must be"):
        ps.GuideMask.fit(first, second, labels=[0.5] * 40)
    for name in ("cap", "difficult"):
        with pytest.raises(ValueError, match=f"{name} must lie in"):
            ps.GuideMask.fit(first, second, **{name: 0})
    for name in ("margin", "floor"):
        with pytest.raises(ValueError, match=f"{name} must be a finite number"):
            ps.GuideMask.fit(first, second, **{name: math.nan})
    mask = ps.GuideMask.fit(first, second)
    with pytest.raises(ValueError, match="fitted to 40 examples"):
        mask.masks(first[:1], second[:1], rows=torch.tensor([40]), key_rows=torch.tensor([0]))
    with pytest.raises(ValueError, match="integer positions"):
        mask.masks(first[:1], rows=torch.tensor([0.5]))
    with pytest.raises(ValueError, match=r"rows must be \(3,\), an id for each feature row"):
        mask.masks(first[:3], rows=torch.arange(2))
    with pytest.raises(ValueError, match=r"GuideMask has to know which examples these are: pass rows="):
        mask.masks(first, second)
    with pytest.raises(ValueError, match=r"examples the keys are of: pass key_rows="):
        mask.masks(first, second, rows=torch.arange(40))
    with pytest.raises(ValueError, match="fitted to 2 columns"):
        TwoTowerLoss(selector=mask)(first, first.repeat(2, 1), first, first.repeat(2, 1), rows=torch.arange(40))


def test_masked_pairs_are_excluded_by_default_and_harder_treatments_are_refused():
    mask, rows, z0, z1, _, _ = case(2, 0.0, 1.0)
    losses = [TwoTowerLoss(0.2, selector=mask, treatment=each) for each in (None, EXCLUDE)]
    assert losses[0](z0, z1, z0, z1, rows=rows) == losses[1](z0, z1, z0, z1, rows=rows)
    assert TwoTowerLoss(0.2, selector=mask, treatment=ps.Treatment())(z0, z1, z0, z1) == TwoTowerLoss(0.2)(z0, z1)
    for treatment in (ps.Treatment(margin=0.1), ps.Treatment(temperature_scale=0.6), ps.Treatment(0.03, 0.6)):
        with pytest.raises(ValueError, match="pushes the false negatives that the mask finds apart harder: give no"):
            TwoTowerLoss(0.2, selector=mask, treatment=treatment)
        with pytest.raises(ValueError, match="apart harder"):
            TwoTowerLoss(0.2)(z0, z1, z0, z1, rows=rows, selector=mask, treatment=treatment)
    for treatment in (
        ps.Treatment(removal="neutral"),
        ps.Treatment(temperature_scale=2),
        ps.Treatment(same_class_weight=1),
    ):
        assert TwoTowerLoss(0.2, selector=mask, treatment=treatment)(z0, z1, z0, z1, rows=rows).isfinite()
    mask.difficult = 0.2
    for treatment in (ps.Treatment(margin=0.1), EXCLUDE):
        with pytest.raises(ValueError, match="leaves the false negatives that the mask finds in the denominator"):
            TwoTowerLoss(0.2, selector=mask, treatment=treatment)
    assert TwoTowerLoss(0.2, selector=mask).treatment == ps.Treatment(same_class_weight=1)
    for wrapped in (ps.RandomPairs(mask), ps.TemporalWindow(mask, 1)):
        with pytest.raises(ValueError, match="in the denominator"):
            TwoTowerLoss(0.2, selector=wrapped, treatment=EXCLUDE)
