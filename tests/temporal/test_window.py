"""The selector that spares neighbours in time, against a loop, inside losses and around other selectors."""

import pytest
import torch

import pairsift as ps

SEQUENCES = torch.arange(60) // 20
TIMES = torch.arange(60) % 20
ROWS = torch.arange(60)


@pytest.fixture
def h():
    torch.manual_seed(0)
    return torch.randn(60, 6)


@pytest.mark.parametrize("window", [0, 1, 4.5])
def test_near_pairs_are_not_flagged_and_the_others_are_those_of_the_band(h, window):
    band = ps.RankBand(0.1, 0.6)
    near = ps.TemporalWindow(band, window, SEQUENCES, TIMES)
    masks, plain = near.masks(h, rows=ROWS), ps.select_pairs(h, band)
    expected = plain.clone()
    for i in range(60):
        for j in range(60):
            if SEQUENCES[i] == SEQUENCES[j] and abs(int(TIMES[i] - TIMES[j])) <= window:
                expected[i, j] = False
    assert torch.equal(masks.whole(), expected)
    assert torch.equal(torch.cat([masks.tile(0, 25) > 0, masks.tile(25, 60) > 0]), expected)
    assert (expected != plain).any() == (window > 0)


def test_rows_against_keys(h):
    near = ps.TemporalWindow(ps.RankBand(0.1, 1.0), 2, SEQUENCES, TIMES)
    masks = near.masks(h[:20], h[20:], None, rows=ROWS[:20], key_rows=ROWS[20:])
    plain = ps.select_pairs(h[:20], ps.RankBand(0.1, 1.0), h[20:])
    assert torch.equal(masks.whole(), plain)  # no sequence is on both sides
    assert not near.masks(h[:1], h[:3], rows=ROWS[:1], key_rows=ROWS[:3]).whole()[0, :3].any()


@pytest.mark.parametrize("tile", ["dense", 16])
def test_losses_take_it(h, tile):
    near = ps.TemporalWindow(ps.RankBand(0.1, 0.5), 3, SEQUENCES, TIMES)
    treatment, ids = ps.Treatment(margin=0.2, temperature_scale=0.7), {"rows": ROWS[:30], "key_rows": ROWS[30:]}
    z0, z1 = torch.randn(2, 30, 5, dtype=torch.float64).requires_grad_().unbind()
    loss = ps.losses.NTXentLoss(0.5, near, treatment, tile=tile)
    pairs = loss.select(h[:30], h[30:], **ids)
    given = ps.losses.NTXentLoss(0.5, ps.GivenPairs(pairs), treatment)
    torch.testing.assert_close(loss(z0, z1, h[:30], h[30:], **ids), given(z0, z1, h[:30], h[30:]))
    plain = ps.losses.NTXentLoss(0.5, near.selector, treatment)
    assert not torch.equal(plain(z0, z1, h[:30], h[30:]), loss(z0, z1, h[:30], h[30:], **ids))
    spectral = ps.losses.SpectralLoss(5.0, near, treatment)
    assert torch.isfinite(spectral(z0, z1, h[:30], h[30:], **ids))
    control = ps.losses.NTXentLoss(0.5, near, treatment, select="random")
    assert torch.equal(control.select(h[:30], h[30:], **ids).sum(1), pairs.sum(1))


def test_it_wraps_confident_negatives():
    torch.manual_seed(0)
    features = torch.eye(4).repeat_interleave(50, dim=0) + 0.2 * torch.randn(200, 4)
    affinity, rows = ps.Affinity.fit(features), torch.arange(0, 200, 4)
    near = ps.TemporalWindow(ps.ConfidentNegatives(affinity), 1000, torch.arange(200) // 100, torch.arange(200))
    masks = near.masks(features[rows], rows=rows)
    inner = ps.ConfidentNegatives(affinity).masks(features[rows], rows=rows)
    across = (rows[:, None] // 100) != rows // 100
    assert torch.equal(masks.whole(), inner.whole() & across)
    torch.testing.assert_close(masks.log_weights(0, 10), inner.log_weights(0, 10))
    plain = ps.TemporalWindow(ps.RankBand(0.1, 0.2), 1, torch.arange(200) // 100, torch.arange(200))
    assert plain.masks(features[rows], rows=rows).log_weights(0, 10) is None


def test_what_is_wrong_is_said(h):
    with pytest.raises(TypeError, match="selector must be"):
        ps.TemporalWindow(0.2, 3)
    for window in (-1, float("nan"), True):
        with pytest.raises(ValueError, match="window must be"):
            ps.TemporalWindow(ps.RankBand(0.1, 0.2), window)
    band = ps.RankBand(0.1, 0.2)
    near = ps.TemporalWindow(band, 3, SEQUENCES, TIMES)
    with pytest.raises(ValueError, match="TemporalWindow has to know which examples these are: pass rows="):
        near.masks(h)
    with pytest.raises(ValueError, match="rows hold positions from 0 to 60, and the window knows 60"):
        near.masks(torch.cat([h, h[:1]]), rows=torch.arange(61))
    with pytest.raises(ValueError, match="60 rows and their keys need an id each, got 5"):
        near.masks(h, rows=ROWS[:5])
    with pytest.raises(ValueError, match="the sequences and the times of all frames, or neither"):
        ps.TemporalWindow(band, 3, SEQUENCES)
    with pytest.raises(ValueError, match=r"sequences must be \(N,\) whole numbers"):
        ps.TemporalWindow(band, 3, SEQUENCES[:5], TIMES)
    with pytest.raises(ValueError, match="times must be finite"):
        ps.TemporalWindow(band, 3, SEQUENCES, TIMES / 0)
    with pytest.raises(ValueError, match="ids must be distinct"):
        ps.TemporalWindow(band, 3, SEQUENCES, TIMES, ids=SEQUENCES)
    with pytest.raises(ValueError, match="without sequences and times, so it cannot take rows="):
        ps.TemporalWindow(band, 3).masks(h, rows=ROWS)
    with pytest.raises(ValueError, match=r"better make it as TemporalWindow"):
        ps.TemporalWindow(band, 3).masks(h)
    assert repr(near) == "TemporalWindow(RankBand(start=0.1, stop=0.2), window=3)"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_attached_times_have_a_range(h):
    near = ps.TemporalWindow(ps.RankBand(0.1, 0.2), 3)
    with pytest.raises(ValueError, match=r"sequences must be \(B,\)"):
        near.attach(h, SEQUENCES[:5], TIMES)
    with pytest.raises(ValueError, match="times must lie"):
        near.attach(h, SEQUENCES, TIMES + 2**25)
    with pytest.raises(ValueError, match="sequences must lie"):
        near.attach(h, SEQUENCES - 1, TIMES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_times_in_seconds_since_1970_are_told_apart(h, dtype):
    """Given as a list, whatever torch's default type: float32 rounds such times to two minutes."""
    torch.set_default_dtype(dtype)
    try:
        seconds = [1.7e9 + 10.0 * i for i in range(60)]
        near = ps.TemporalWindow(ps.RankBand(0.1, 0.6), 15, [0] * 60, seconds)
        pairs = near.masks(h, rows=ROWS).whole()
    finally:
        torch.set_default_dtype(torch.float32)
    apart = (ROWS[:, None] - ROWS).abs()
    assert torch.equal(pairs, ps.select_pairs(h, ps.RankBand(0.1, 0.6)) & (apart > 1))
