"""Targets of the fuzz campaign: arrays, tensors and numbers through the public functions, results against oracles."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import inputs as given_
import numpy as np
import torch
from hypothesis import strategies as st
from judge import Defect, Judge

import pairsift as ps

sys.path.append(str(Path(__file__).parents[2]))
import oracle

SMALL = st.integers(1, 9)


def expect(holds: Any, what: str) -> None:
    """A result that does not hold is a defect."""
    if not bool(holds):
        raise Defect(f"wrong result: {what}")


# Pairs


@st.composite
def bands(draw: Any) -> Any:
    """Two numbers for a band, mostly in order."""
    if draw(st.integers(0, 9)) == 0:
        return draw(given_.numbers), draw(given_.numbers)
    high = draw(st.integers(1, 98))
    return high / 100, draw(st.integers(high + 1, 100)) / 100


def exact_cosines(rows: Any, keys: Any) -> Any:
    """Cosines in extended precision; a zero row has cosine 0."""
    units = []
    for x in (rows, keys):
        x = np.asarray(x, np.longdouble)
        x = x / np.maximum(np.abs(x).max(axis=1, keepdims=True), np.finfo(np.longdouble).tiny)
        units.append(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), np.finfo(np.longdouble).tiny))
    return np.asarray(units[0] @ units[1].T, np.float64)


def check_band(pairs: Any, rows: Any, keys: Any, band: Any, itself: bool, eps: float = 1e-5) -> None:
    """Every flagged pair lies between the edges of its row, every other one outside, to rounding."""
    s = exact_cosines(rows, keys)
    for i in range(len(s)):
        others = np.delete(s[i], i) if itself else s[i]
        flagged = np.delete(pairs[i], i) if itself else pairs[i]
        expect(not (itself and pairs[i, i]), "a pair with itself")
        if not len(others):
            continue
        ranked = np.sort(others)[::-1]
        high, low = (ranked[max(1, math.ceil(f * len(ranked) - 1e-9)) - 1] for f in (band.start, band.stop))
        expect((others[flagged] >= low - eps).all(), f"row {i}: flagged below the band")
        expect((others[flagged] < high + eps).all(), f"row {i}: flagged above the band")
        rest = others[~flagged]
        expect(((rest < low + eps) | (rest >= high - eps)).all(), f"row {i}: not flagged in the band")


@st.composite
def selections(draw: Any) -> Any:
    """Features, perhaps keys, and a band."""
    n, width = draw(SMALL), draw(SMALL)
    strange = draw(given_.rarely)
    features = draw(given_.junk if strange and draw(st.booleans()) else given_.tensors(n, width, strange))
    keys = draw(st.one_of(st.none(), given_.tensors(draw(SMALL), width, strange)))
    return features, keys, draw(bands()), draw(st.sampled_from(("fp32", "fp32", "bf16", "fp8" if strange else "fp32")))


def select(judge: Judge, case: Any) -> None:
    """`select_pairs`."""
    features, keys, edges, precision = case

    def check(pairs: Any) -> None:
        wanted = (len(features), len(features) if keys is None else len(keys))
        expect(pairs.dtype == torch.bool and tuple(pairs.shape) == wanted, "shape or type of pairs")
        eps = 2e-2 if precision == "bf16" else 1e-5
        rows, against = features.double().numpy(), (features if keys is None else keys).double().numpy()
        check_band(pairs.numpy(), rows, against, ps.RankBand(*edges), keys is None, eps)

    judge.call(lambda: ps.select_pairs(features, ps.RankBand(*edges), keys, precision=precision), check)


# Losses

LOSSES = ("ntxent", "spectral", "two-tower", "moco", "labelled", "mixed", "semantic")


@st.composite
def loss_cases(draw: Any) -> Any:
    """A loss with settings, and a batch for it."""
    n, width, wide = draw(st.integers(1, 6)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    strange = draw(given_.rarely)
    batch = [draw(given_.tensors(n, w, strange)) for w in (width, width, wide, wide)]
    number = given_.numbers if draw(given_.rarely) else st.floats(0.05, 2)
    treatment: dict[str, Any] = {}
    if draw(st.integers(0, 3)) == 0:
        treatment["removal"] = draw(st.sampled_from(("neutral", "exclude")))
    for name in draw(st.sets(st.sampled_from(("margin", "temperature_scale")))) if not treatment or strange else ():
        treatment[name] = draw(number)
    labels = draw(st.lists(st.integers(-1, 3), min_size=n, max_size=n))
    return {
        "name": draw(st.sampled_from(LOSSES)), "batch": batch, "scale": draw(number), "treatment": treatment,
        "band": draw(bands()), "tile": draw(st.sampled_from(("auto", "dense", 1, 3, -1 if strange else 2))),
        "labels": labels, "features": draw(st.booleans()),
    }  # fmt: skip


def build(case: Any) -> Any:
    """The loss of a case as a function of the batch."""
    z0, _, h0, _ = case["batch"]
    band = ps.RankBand(*case["band"])
    treatment = ps.Treatment(**case["treatment"])
    settings = {"selector": band, "treatment": treatment, "tile": case["tile"]}
    name, scale = case["name"], case["scale"]
    if name == "ntxent":
        return ps.losses.NTXentLoss(scale, **settings)
    if name == "spectral":
        return ps.losses.SpectralLoss(scale, **settings)
    if name == "two-tower":
        return ps.losses.TwoTowerLoss(scale, **settings)
    if name == "moco":
        return ps.losses.MoCoLoss(8, z0.shape[-1], h0.shape[-1] if case["features"] else None, scale, **settings)
    if name == "labelled":
        return ps.losses.LabelledNTXentLoss(scale, **settings)
    if name == "mixed":
        return ps.losses.MixedContrastiveLoss(scale, **settings)
    return ps.losses.SemanticNegativeLoss(scale, treatment, tile=case["tile"])


def value_of(case: Any) -> Any:
    """Value of the loss and gradient by the first projections."""
    loss, (z0, z1, h0, h1) = build(case), case["batch"]
    if z0.is_floating_point():
        z0 = z0.detach().clone().requires_grad_()
    features = (h0, h1) if case["features"] else ()
    name, labels = case["name"], torch.tensor(case["labels"])
    if name == "moco":
        loss(z0.detach(), z1, *features)
        value = loss(z0, z1, *features)
    elif name == "labelled":
        value = loss(z0, labels, *features[:1])
    elif name == "mixed":
        value = loss(z0, z1, labels, *features)
    elif name == "semantic":
        value = loss(z0, z1, z1.flip(0))
    else:
        value = loss(z0, z1, *features)
    value.backward()
    return loss, value.detach(), z0.grad


def losses(judge: Judge, case: Any) -> None:
    """Every treated loss: finite where its input is, and the oracle's value in small numbers."""
    z0, z1, h0, h1 = case["batch"]
    used = [z0, z1, *((h0, h1) if case["features"] else ())]

    def check(found: Any) -> None:
        loss, value, gradient = found
        expect(value.dim() == 0, "a loss is a scalar")
        if not all(bool(x.isfinite().all()) for x in used):
            return
        expect(bool(value.isfinite()), f"loss {value} of finite input")
        expect(gradient is not None and bool(gradient.isfinite().all()), "gradient of finite input not finite")
        check_value(case, loss)

    judge.call(lambda: value_of(case), check)


def check_value(case: Any, loss: Any) -> None:
    """Against nested loops in float64, with pairs as they were selected, where exponentials take the numbers."""
    name, scale, treatment = case["name"], float(case["scale"]), loss.treatment
    if name not in ("ntxent", "spectral", "two-tower") or not 0.02 < scale < 1e3:
        return
    if (1 + treatment.margin) / (treatment.temperature_scale * min(scale, 1)) > 300:
        return
    z0, z1 = (x.double().tolist() for x in case["batch"][:2])
    lengths = [max(map(abs, row)) for rows in (z0, z1) for row in rows]
    if min(lengths) < 1e-10 or (name == "spectral" and (max(lengths) > 1e3 or len(z0) < 2)):
        return
    first, second = case["batch"][2:] if case["features"] else case["batch"][:2]
    selected = loss.select(first, second)
    value, pairs = float(loss(*case["batch"][:2], pairs=selected).detach()), selected.numpy()
    how = {"sigma": treatment.margin, "rho": treatment.temperature_scale, "removal": treatment.removal}
    if name == "ntxent":
        expected = float(np.mean(oracle.nt_xent(z0, z1, scale, pairs, **how)))
    elif name == "spectral":
        if treatment.removal == "exclude" and (pairs | np.eye(len(z0), dtype=bool)).all():
            return
        expected = oracle.spectral(z0, z1, scale, pairs, **how)
    else:
        forth = oracle.two_tower(z0, z1, scale, pairs, **how)
        expected = (forth + oracle.two_tower(z1, z0, scale, pairs.T, **how)) / 2
    expect(math.isclose(value, expected, rel_tol=2e-3, abs_tol=2e-3), f"{value}, oracle {expected}")
