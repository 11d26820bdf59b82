"""InfoNCE against a queue of keys (MoCo, arXiv 1911.05722) with treated pairs: Table 5 of arXiv 2501.01317."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from pairsift._base.checks import check_tensors
from pairsift.losses.engine import Processes, Rows, info_nce
from pairsift.losses.treated import Options, Plan, TemperedLoss, check_alike, check_ids, unit
from pairsift.pairs import Selector
from pairsift.pairs.selector import transformed
from pairsift.treatments import Treatment


class MoCoLoss(TemperedLoss):
    """InfoNCE of every query against its own key and a queue of earlier keys.

    Pairs are ranked per query among the queued keys, by the query encoder's features h against the *key* encoder's
    queued features. The queue holds `queue_size * (d + D)` floats, and the ids of the keys' examples where they are
    given. The positive is not in the queue and is never treated. The queue starts empty and is part of the state dict.

    Args:
        queue_size: keys to keep, at least a batch.
        projection_dim: d, width of the projections z.
        feature_dim: D, width of the features h; None queues none and selects on projections, with a warning.
        temperature: tau, > 0.
        selector, treatment, **options: see `TreatedLoss`. With `gather_distributed` the keys of all processes join the
            queue of each, and all queues stay equal.

    Raises:
        ValueError: a setting out of range, or a treatment without a selector.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> loss = ps.losses.MoCoLoss(256, 16, 32, 0.2, ps.RankBand(0.15, 0.22), ps.Treatment(margin=0.03))
        >>> q, k, h_q, h_k = torch.randn(64, 16), torch.randn(64, 16), torch.randn(64, 32), torch.randn(64, 32)
        >>> for step in range(2):
        ...     value = loss(q, k, h_q, h_k)  # and the keys join the queue
        >>> value.shape, loss.select(h_q).shape
        (torch.Size([]), torch.Size([64, 128]))
    """

    queue_z: Tensor
    queue_h: Tensor
    queue_rows: Tensor
    _next: Tensor
    _filled: Tensor

    def __init__(
        self, queue_size: int, projection_dim: int, feature_dim: int | None = None, temperature: float = 0.2,
        selector: Selector | None = None, treatment: Treatment | None = None, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(selector, treatment, temperature, **options)
        sizes = {"queue_size": queue_size, "projection_dim": projection_dim, "feature_dim": feature_dim}
        for name, value in sizes.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be positive, got {value}")
        self.register_buffer("queue_z", torch.zeros(queue_size, projection_dim, dtype=torch.float32))
        self.register_buffer("queue_h", torch.zeros(queue_size, feature_dim or 0, dtype=torch.float32))
        # Ids of the queued keys' examples, -1 where unknown; in the state dict only once there are some.
        self.register_buffer("queue_rows", torch.full((queue_size,), -1, dtype=torch.int64), persistent=False)
        self.register_buffer("_next", torch.zeros((), dtype=torch.long))
        self.register_buffer("_filled", torch.zeros((), dtype=torch.long))

    @property
    def n_queued(self) -> int:
        """Keys queued so far, at most `queue_size`."""
        return int(self._filled)

    def keys(self) -> tuple[Tensor, Tensor]:
        """The K queued keys, oldest first: unit projections (K, d) and features (K, D)."""
        filled = self.n_queued
        order = (torch.arange(filled, device=self.queue_z.device) + int(self._next) - filled) % len(self.queue_z)
        return self.queue_z[order], self.queue_h[order]

    def select(self, h: Tensor, *, rows: Tensor | None = None, selector: Selector | None = None) -> Tensor:
        """Flag the difficult pairs of queries with queued keys, as `forward` does.

        Args:
            h: (N, D) features of the queries; projections where the queue holds no features.
            rows, selector: see `TreatedLoss`.

        Returns:
            (N, K) bool for the K queued keys, in the order of the queue's slots.

        Raises:
            ValueError: the loss has no selector, the queue is empty, or see `select_pairs`.
        """
        if self.n_queued == 0:
            raise ValueError("the queue is empty: no pairs to select from before the first batch is queued")
        plan, filled = self._select_plan(selector), self.n_queued
        features = (self.queue_h if self.queue_h.shape[1] else self.queue_z)[:filled]
        queued = Rows(features, features, self._queued_ids(plan, rows, filled))
        return self._select(Rows(h, h, plan.ids(rows, h)), queued, plan, gathered=False)

    def forward(
        self, q: Tensor, k: Tensor, h_q: Tensor | None = None, h_k: Tensor | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, pairs: Tensor | None = None, enqueue: bool = True,
        treated: bool = True, selector: Selector | None = None, treatment: Treatment | None = None,
    ) -> Tensor:  # fmt: skip
        """Loss of N queries; their keys join the queue afterwards.

        A symmetric loss is `(loss(q0, k1, h0, g1, enqueue=False) + loss(q1, k0, h1, g0, enqueue=False)) / 2`, then
        `enqueue` of all keys.

        Args:
            q: (N, d) projections of the query encoder.
            k: (N, d) projections of the key encoder for the other view of the same images, without gradient.
            h_q, h_k: (N, D) features of both encoders for the same views, where the loss has a `feature_dim`.
            rows, key_rows: ids >= 0; see `TreatedLoss`. Those of the keys are queued with them.
            enqueue: whether the keys join the queue.
            pairs, treated, selector, treatment: see `TreatedLoss`.

        Returns:
            Scalar; 0 while the queue is empty.

        Raises:
            ValueError: shapes that do not fit, more keys than the queue holds, or features that are not finite.
        """
        self._check(q, k, h_q, h_k)
        with torch.autocast(q.device.type, enabled=False):
            q, k = unit(q), unit(k.detach())
            filled = self.n_queued
            plan = self._plan(selector, treatment, treated and filled > 0)
            ids = plan.ids(rows, q)
            # A copy: the backward pass needs the keys as they are now, and the queue changes before it.
            queued = Rows(
                self.queue_z[:filled].to(q.dtype, copy=True), None if h_q is None else self.queue_h[:filled],
                self._queued_ids(plan, rows, filled),
            )  # fmt: skip
            comparison = self._compare(Rows(q, h_q, ids), queued, plan, pairs=pairs, gathered=False)
            processes = comparison.processes
            if enqueue:
                self._check_room(processes.total("z"))
            positive = torch.linalg.vecdot(q, k)
            loss = info_nce(q, self.temperature, comparison, positive, weight=processes.weight("z"))
        if enqueue:
            self.enqueue(k, h_k, rows if key_rows is None else key_rows)
        return processes.mean(loss)

    @torch.no_grad()
    def enqueue(self, k: Tensor, h_k: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
        """Queue the keys of a batch; the oldest leave where the queue is full.

        In a process group every process must call it. The keys of all processes are queued, in their order.

        Args:
            k: (N, d) projections of the key encoder, N <= queue_size.
            h_k: (N, D) features of the key encoder, where the queue holds features.
            rows: (N,) ids >= 0 of the keys' examples; None where unknown.

        Returns:
            Slots of the queue that the keys of all processes were written to, (N,) without a process group.

        Raises:
            ValueError: shapes that do not fit, or more keys than the queue holds.
            RuntimeError: inside a transform of torch.func.
        """
        if transformed():
            raise RuntimeError("a queue cannot grow inside torch.func: pass enqueue=False, and call `enqueue` outside")
        width = self.queue_h.shape[1]
        if width and (h_k is None or h_k.shape != (len(k), width)):
            seen = None if h_k is None else tuple(h_k.shape)
            raise ValueError(f"keys need features h_k of shape {(len(k), width)} to be queued, got {seen}")
        rows = check_ids(rows, len(k))
        if rows is not None and len(rows) and int(rows.min()) < 0:
            raise ValueError(f"rows hold {int(rows.min())}, and ids in a queue must be >= 0: renumber the examples")
        processes = Processes(self.engine.gather_distributed, k=k, h_k=h_k, rows=rows)
        n, size = processes.total("k"), len(self.queue_z)
        self._check_room(n)
        slots = (torch.arange(n, device=k.device) + int(self._next)) % size
        self.queue_z[slots] = processes.gather("k", unit(k).to(self.queue_z.dtype))
        if width and h_k is not None:
            self.queue_h[slots] = processes.gather("h_k", h_k.to(self.queue_h.dtype))
        self.queue_rows[slots] = -1 if rows is None else processes.gather("rows", rows.to(self.queue_rows.device))
        self._next.copy_((self._next + n) % size)
        self._filled.copy_((self._filled + n).clamp_max(size))
        return slots

    def _queued_ids(self, plan: Plan, rows: Tensor | None, filled: int) -> Tensor | None:
        """Ids of the queued keys as the selector takes them.

        Raises:
            ValueError: some keys were queued without an id.
        """
        if rows is None or plan.selector is None or plan.treatment is None:
            return None
        known = self.queue_rows[:filled]
        if int(known.min()) < 0:
            missing = int((known < 0).sum())
            raise ValueError(
                f"{missing} of {filled} queued keys came without an id: pass rows= (or key_rows=) from the first batch "
                "on"
            )
        return plan.ids(known, self.queue_z[:filled], 1)

    def _kept(self) -> dict[str, Tensor]:
        ids = {"queue_rows": self.queue_rows} if bool((self.queue_rows >= 0).any()) else {}
        return super()._kept() | ids

    def _restore(self, held: dict[str, Tensor]) -> None:
        super()._restore(held)
        ids = held.get("queue_rows", self.queue_rows.new_full((len(self.queue_rows),), -1))
        if ids.shape != self.queue_rows.shape:
            raise ValueError(f"queue_rows of the state has {len(ids)} ids, and the queue {len(self.queue_rows)}")
        self.queue_rows.copy_(ids)

    def _check_room(self, n: int) -> None:
        if n > len(self.queue_z):
            raise ValueError(
                f"{n} keys do not fit into a queue of {len(self.queue_z)}: enlarge queue_size or lower the batch"
            )

    def _check(self, q: Tensor, k: Tensor, h_q: Tensor | None, h_k: Tensor | None) -> None:
        check_tensors({"q": q, "k": k}, h_q=h_q, h_k=h_k)
        width = self.queue_z.shape[1]
        if q.dim() != 2 or q.shape != k.shape or q.shape[1] != width or len(q) == 0:
            raise ValueError(
                f"q and k must be non-empty (N, {width}) matrices of one shape, got {tuple(q.shape)}, {tuple(k.shape)}"
            )
        width = self.queue_h.shape[1]
        for name, h in (("h_q", h_q), ("h_k", h_k)):
            if width and (h is None or h.shape != (len(q), width)):
                seen = None if h is None else tuple(h.shape)
                raise ValueError(f"{name} must have shape {(len(q), width)} (feature_dim={width}), got {seen}")
            if not width and h is not None:
                raise ValueError(f"{name} was given, but the queue holds no features: set feature_dim={h.shape[-1]}")
        check_alike(q, k, h_q, h_k)
        if q.device != self.queue_z.device:
            raise ValueError(f"projections are on {q.device} and the queue on {self.queue_z.device}: move the loss too")

    def extra_repr(self) -> str:
        return f"queue_size={len(self.queue_z)}, {super().extra_repr()}"
