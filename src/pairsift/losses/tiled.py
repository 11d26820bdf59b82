"""The one engine under the objectives: rows of logits a tile at a time, and their gradient in the same pass.

Memory is O(B (d + D) + tile x K) for B anchors against K keys: no (B, K) matrix is made, neither of similarities nor of
pairs. A tile is selected (exact order statistics of its rows), treated, reduced, and turned into its share of both
gradients while it is in cache. Small batches go through whole matrices and autograd instead, which is faster there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from pairsift.kernels import runs_kernels
from pairsift.kernels import softmax_rows as softmax_rows_by_kernel
from pairsift.pairs import PairMasks, tile_rows
from pairsift.treatments import Treatment

Tile = int | Literal["auto", "dense"]
_Function = TypeVar("_Function", bound=Callable[..., Any])

# Keys from which on tiles are faster than whole matrices on a CPU; on a GPU they only save memory.
_FEWEST_KEYS = {"cpu": 256, "cuda": 16384}

# Takes a pair out of a log-sum-exp and, unlike -inf, can be multiplied by 0.
_NOTHING = -1e30


def check_tile(tile: Tile) -> Tile:
    """Refuse what is neither a number of rows, 'auto' nor 'dense'."""
    if tile in ("auto", "dense") or (isinstance(tile, int) and not isinstance(tile, bool) and tile > 0):
        return tile
    raise ValueError(f"tile must be 'auto', 'dense' or a positive number of rows, got {tile!r}")


def rows_per_tile(tile: Tile, keys: int, device: torch.device) -> int | None:
    """Rows of a tile against so many keys, None for whole matrices."""
    if tile == "dense" or (tile == "auto" and keys < _FEWEST_KEYS.get(device.type, 256)):
        return None
    return tile_rows(keys) if tile == "auto" else tile


def _opaque(function: _Function) -> _Function:
    """Keeps `torch.compile` out: it breaks its graph here and goes on behind."""
    hidden: _Function = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return hidden


@dataclass(frozen=True)
class Job:
    """How B rows are compared with K keys.

    Attributes:
        rows: rows of a tile; None for whole matrices and autograd.
        masks: the difficult pairs; None treats nothing.
        treatment: what happens to them; None treats nothing.
        own: where among the keys the first row itself stands, the others following, to be left out; None where they
            are not among them.
        positives: (B,) where among the keys each row's positive stands; None where it is given apart.
        treat_positives: whether a positive in the band is treated like any pair; excluding never takes it.
    """

    rows: int | None
    masks: PairMasks | None = None
    treatment: Treatment | None = None
    own: int | None = None
    positives: Tensor | None = None
    treat_positives: bool = True

    @property
    def treats(self) -> bool:
        return self.masks is not None and self.treatment is not None and not self.masks.empty

    def pairs(self) -> Tensor:
        """(B, K) bool: the pairs that are treated."""
        assert self.masks is not None
        pairs, spared = self.masks.whole(), self._spared
        return pairs if spared is None else pairs.scatter(1, spared[:, None], False)

    def mask(self, start: int, stop: int, dtype: torch.dtype) -> Tensor | None:
        """Numbers (stop - start, K): 1 where a pair is treated, else 0; None where nothing is."""
        if not self.treats:
            return None
        assert self.masks is not None
        mask, spared = self.masks.tile(start, stop).to(dtype), self._spared
        return mask if spared is None else mask.scatter_(1, spared[start:stop, None], 0.0)

    @property
    def _spared(self) -> Tensor | None:
        """Where the positives stand if they are not treated whatever the masks say."""
        excludes = self.treatment is not None and self.treatment.removal == "exclude"
        return self.positives if excludes or not self.treat_positives else None


@_opaque
def info_nce(
    anchors: Tensor, keys: Tensor, temperature: float | Tensor, job: Job, extra: Tensor | None = None,
    weight: float | None = None,
) -> Tensor:  # fmt: skip
    """InfoNCE of every anchor against its positive and all other keys, with treated pairs (Eqs. 13 to 16).

    Args:
        anchors: (B, d) unit rows.
        keys: (K, d) unit rows; may be the anchors themselves.
        temperature: tau; a scalar tensor takes part in the gradient.
        job: how they are compared.
        extra: (B,) cosine similarities to positives that are not among the keys; such positives are never treated.
        weight: of every anchor in the sum that is returned, 1 / B for the mean; None returns the losses one by one.

    Returns:
        Scalar, or (B,) without a weight.

    Raises:
        RuntimeError: in a second differentiation, by tiles.
    """
    if job.rows is None:
        losses = _whole(anchors, keys, temperature, job, extra)
        return losses if weight is None else losses.sum() * weight
    tau = temperature if isinstance(temperature, Tensor) else anchors.new_tensor(temperature)
    value: Tensor = _InfoNCE.apply(anchors, keys, extra, tau, job, weight)  # type: ignore[no-untyped-call]
    return value


def _whole(anchors: Tensor, keys: Tensor, temperature: float | Tensor, job: Job, extra: Tensor | None) -> Tensor:
    """Losses (B,) by whole matrices and autograd."""
    similarities = anchors @ keys.T
    if job.treats and job.treatment is not None:
        logits = job.treatment.logits(similarities, job.pairs(), temperature)
    else:
        logits = similarities / temperature
    if job.own is not None:
        themselves = torch.arange(len(anchors), device=anchors.device) + job.own
        logits = logits.scatter(1, themselves[:, None], -torch.inf)
    if job.positives is not None:
        return logits.logsumexp(dim=1) - logits.gather(1, job.positives[:, None]).squeeze(1)
    assert extra is not None
    positive = extra / temperature
    return torch.cat([positive[:, None], logits], dim=1).logsumexp(dim=1) - positive


class _InfoNCE(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, anchors: Tensor, keys: Tensor, extra: Tensor | None, tau: Tensor, job: Job, weight: float | None
    ) -> Tensor:
        ctx.job, ctx.at_once = job, weight is not None
        if weight is None:  # the weights of the rows come with the backward pass, which walks again
            ctx.save_for_backward(anchors, keys, extra, tau)
            return _walk(anchors, keys, extra, tau, job, None, ctx.needs_input_grad)[0]
        weights = anchors.new_full((len(anchors),), weight) if any(ctx.needs_input_grad) else None
        losses, gradients = _walk(anchors, keys, extra, tau, job, weights, ctx.needs_input_grad)
        ctx.save_for_backward(*gradients)
        return losses.sum() * weight

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivatives()
        if ctx.at_once:
            return *(None if g is None else g * upstream for g in ctx.saved_tensors), None, None
        anchors, keys, extra, tau = ctx.saved_tensors
        return *_walk(anchors, keys, extra, tau, ctx.job, upstream, ctx.needs_input_grad)[1], None, None


def _walk(
    anchors: Tensor, keys: Tensor, extra: Tensor | None, tau: Tensor, job: Job, weights: Tensor | None,
    needed: tuple[bool, ...],
) -> tuple[Tensor, tuple[Tensor | None, ...]]:  # fmt: skip
    """Losses (B,) and, with weights of the rows, the gradients of their weighted sum."""
    assert job.rows is not None
    n, temperature = len(anchors), float(tau)
    scaled = anchors / temperature
    losses = anchors.new_empty(n)
    learn = needed if weights is not None else (False,) * 4
    d_anchors = torch.empty_like(anchors) if learn[0] else None
    d_keys = torch.zeros_like(keys) if learn[1] else None
    d_extra = torch.empty_like(losses) if learn[2] else None
    d_tau = torch.zeros_like(tau) if learn[3] else None
    factor, offset = _edit(job.treatment, temperature)
    softmax_rows = softmax_rows_by_kernel if runs_kernels(anchors) else _softmax_rows
    buffer = anchors.new_empty(min(job.rows, n), len(keys))
    for start in range(0, n, job.rows):
        rows = slice(start, min(start + job.rows, n))
        x = torch.mm(scaled[rows], keys.T, out=buffer[: rows.stop - start])
        mask = job.mask(start, rows.stop, x.dtype)
        loss, d_positive, colder = softmax_rows(
            x, mask, factor, offset,
            own=None if job.own is None else job.own + start,
            positives=None if job.positives is None else job.positives[rows],
            extra=None if extra is None else extra[rows] / temperature,
            weights=None if weights is None else weights[rows],
            d_temperature=d_tau is not None,
        )  # fmt: skip
        losses[rows] = loss
        if d_extra is not None:
            torch.div(d_positive, temperature, out=d_extra[rows])
        if d_tau is not None:
            d_tau -= colder / temperature
        if d_anchors is not None:
            torch.mm(x, keys, out=d_anchors[rows])
        if d_keys is not None:
            d_keys.addmm_(x.T, scaled[rows])
    if d_anchors is not None:
        d_anchors /= temperature
    return losses, (d_anchors, d_keys, d_extra, d_tau)


def _softmax_rows(
    x: Tensor, mask: Tensor | None, factor: float, offset: float, *,
    own: int | None, positives: Tensor | None, extra: Tensor | None, weights: Tensor | None, d_temperature: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Losses of a tile of rows; plain logits (R, K) are overwritten by their gradients.

    With `x` the plain logit, its treated one is `factor * x + offset` where the mask is 1.

    Args:
        x: (R, K) plain logits; leaves as d(weighted loss) / d(plain logit), or as scratch without weights.
        mask: (R, K) numbers, 1 where treated; None for nowhere.
        factor, offset: the edit.
        own: column of the first row itself, the others following, to be left out; None leaves none out.
        positives: (R,) columns of the positives; None where their logits come apart, in `extra` (R,).
        weights: (R,) weights of the rows; None wants no gradient.
        d_temperature: whether the third result is wanted.

    Returns:
        Losses (R,); the derivatives by the extra logits (R,); the sum of logits times their derivatives (scalar). The
        last two mean nothing where they were not asked for.
    """
    if mask is not None:
        if factor != 1:
            x.addcmul_(x, mask, value=factor - 1)
        if offset:
            x.add_(mask, alpha=offset)
    if own is not None:
        x.diagonal(own).fill_(_NOTHING)
    if positives is not None:
        positive = x.gather(1, positives[:, None])
        peak = x.amax(dim=1, keepdim=True)
    else:
        assert extra is not None
        positive = extra[:, None]
        peak = torch.maximum(x.amax(dim=1, keepdim=True), positive)
    logits = x.clone() if d_temperature else x
    x.sub_(peak).exp_()
    total = x.sum(dim=1, keepdim=True)
    if positives is None:
        total += (positive - peak).exp()
    losses = total.log() + peak - positive
    if weights is None:
        return losses.squeeze(1), losses, losses
    # d loss_i / d logit_ik = softmax_ik - [k is the positive of i]
    weight = weights[:, None]
    x.mul_(weight / total)
    d_positive = weight * ((positive - peak).exp() / total - 1)
    if positives is not None:
        x.scatter_(1, positives[:, None], d_positive)
    colder = losses
    if d_temperature:
        colder = torch.dot(x.view(-1), logits.view(-1))
        if positives is None:
            colder += (d_positive * positive).sum()
    if mask is not None and factor != 1:
        x.addcmul_(x, mask, value=factor - 1)
    return losses.squeeze(1), d_positive.squeeze(1), colder


def _edit(treatment: Treatment | None, temperature: float) -> tuple[float, float]:
    """The edit of a difficult pair's logit as factor and finite offset; an excluded pair's softmax is 0 by it."""
    if treatment is None:
        return 1.0, 0.0
    if treatment.removal == "exclude":
        return 1.0, _NOTHING
    return treatment.affine(temperature)


@_opaque
def squares(anchors: Tensor, keys: Tensor, mu: float, job: Job) -> tuple[Tensor, Tensor, Tensor]:
    """Squared products of every anchor with all keys but its positive, treated as in Eqs. 31 and 40, by tiles.

    Args:
        anchors, keys: (B, d) and (K, d).
        mu: what the treatment's margin is measured in.
        job: how they are compared; `positives` are left out.

    Returns:
        Sum of the squares (scalar), how many there are (scalar), and 1 for each anchor whose positive is treated (B,).

    Raises:
        RuntimeError: in a second differentiation.
    """
    total, count, flagged = _Squares.apply(anchors, keys, mu, job)  # type: ignore[no-untyped-call]
    return total, count, flagged


class _Squares(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchors: Tensor, keys: Tensor, mu: float, job: Job) -> tuple[Tensor, Tensor, Tensor]:
        n = len(anchors)
        assert job.rows is not None
        assert job.positives is not None
        d_anchors = torch.empty_like(anchors) if ctx.needs_input_grad[0] else None
        d_keys = torch.zeros_like(keys) if ctx.needs_input_grad[1] else None
        total = anchors.new_zeros(())
        count = torch.tensor(n * (len(keys) - 1), device=anchors.device)
        flagged = anchors.new_zeros(n)
        factor, offset = (1.0, 0.0) if job.treatment is None else job.treatment.affine(1 / mu)
        excluded = math.isinf(offset)
        if excluded:
            factor, offset = 0.0, 0.0
        buffer = anchors.new_empty(min(job.rows, n), len(keys))
        for start in range(0, n, job.rows):
            stop = min(start + job.rows, n)
            x = torch.mm(anchors[start:stop], keys.T, out=buffer[: stop - start])
            where = job.positives[start:stop, None]
            mask = job.mask(start, stop, x.dtype)
            if mask is not None:
                flagged[start:stop] = mask.gather(1, where).squeeze(1)
                mask.scatter_(1, where, 0.0)
                x.addcmul_(x, mask, value=factor - 1)
                x.add_(mask, alpha=offset)
                if excluded:
                    count -= mask.sum().long()
            x.scatter_(1, where, 0.0)
            total += torch.dot(x.view(-1), x.view(-1))
            if mask is not None and factor != 1:
                x.addcmul_(x, mask, value=factor - 1)
            if d_anchors is not None:
                torch.mm(x, keys, out=d_anchors[start:stop])
            if d_keys is not None:
                d_keys.addmm_(x.T, anchors[start:stop])
        ctx.save_for_backward(d_anchors, d_keys)
        ctx.mark_non_differentiable(count, flagged)
        return total, count, flagged

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        _refuse_second_derivatives()
        return *(None if g is None else 2 * upstream * g for g in ctx.saved_tensors), None, None


def _refuse_second_derivatives() -> None:
    if torch.is_grad_enabled():  # only while a graph of the gradient is asked for
        raise RuntimeError("a loss by tiles has no second derivative: make the loss with tile='dense'")
