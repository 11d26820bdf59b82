"""Work of several real processes, joined by gloo; each function below is called on every one of them."""

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from objectives import WIDTH, D, objective, rows, value_and_gradients
from warm import CONTEXT

import pairsift as ps

# Uneven on purpose.
SPLITS = {2: (5, 4), 3: (4, 2, 3)}
TOTAL = 9


def run(work, world, folder, *arguments, limit=120, stalled=()):
    """What `work(rank, world, *arguments)` returned on each of so many processes; None for one that ended without.

    Ranks that are `stalled` are killed when the others have ended.
    """
    processes = [CONTEXT.Process(target=_main, args=(work, rank, world, folder, arguments)) for rank in range(world)]
    for process in processes:
        process.start()
    end = time.monotonic() + limit
    for rank, process in enumerate(processes):
        if rank not in stalled:
            process.join(max(0, end - time.monotonic()))
    hanging = [rank for rank, process in enumerate(processes) if process.is_alive() and rank not in stalled]
    for process in processes:
        process.kill()
    assert not hanging, f"processes {hanging} hung"
    files = [Path(folder, f"{rank}.pt") for rank in range(world)]
    return [torch.load(file, weights_only=True) if file.exists() else None for file in files]


def _main(work, rank, world, folder, arguments):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{folder}/meeting", rank=rank, world_size=world, timeout=timedelta(seconds=20)
    )
    torch.save(work(rank, world, *arguments), Path(folder, f"{rank}.pt"))
    # No farewell: processes end when they are done, and one that was left alone must not wait for the others.


def share(tensors, rank, world):
    """This process's rows of each tensor."""
    return [tensor.split(SPLITS[world])[rank] for tensor in tensors]


def losses(rank, world, cases):
    """Value and gradients of each case (objective, treatment, tile), and the keys that MoCo has queued."""
    results = {}
    for name, treatment, tile in cases:
        loss = objective(name, treatment, tile=tile)
        value, gradients = value_and_gradients(loss, *share(rows(name, TOTAL), rank, world))
        results[name, treatment, tile] = value, gradients, loss.keys() if name == "moco" else ()
    return results


def one_by_one(rank, world):
    """Losses of this process's views, their gradient, pairs, and a loss of given pairs."""
    z0, z1, h0, h1 = share(rows("ntxent", TOTAL), rank, world)
    z0.requires_grad_()
    each = objective("ntxent", "combined", tile=3, reduction="none")(z0, z1, h0, h1)
    loss = objective("ntxent", "combined", tile=3)
    pairs = loss.select(h0, h1)
    towers = objective("two-tower", "combined", tile=3)
    given = [loss(z0, z1, pairs=pairs), loss(z0, z1, h0, h1)]
    given += [towers(z0, z1, pairs=towers.select(h0, h1))]
    random = objective("ntxent", "combined", select="random").select(h0, h1)
    return each.detach(), torch.autograd.grad(each.sum(), z0)[0], pairs, [x.detach() for x in given], random


def apart(rank, world):
    """Losses without gathering."""
    results = {}
    for name in ("ntxent", "spectral", "two-tower", "moco"):
        results[name] = value_and_gradients(
            objective(name, "combined", gather_distributed=False), *share(rows(name, TOTAL), rank, world)
        )
    return results


SEMANTIC = [(in_batch, weighted) for in_batch in (True, False) for weighted in (False, True)]
# Process 1 of two, and both its neighbours of three, have texts without antonym versions.
PRESENT = torch.tensor([True, True, False, True, True, False, False, True, False])


def semantic_loss(in_batch, weighted, z, present):
    """Value and gradient by (N, 3, d) texts and their two versions."""
    loss = ps.losses.SemanticNegativeLoss(0.2, ps.Treatment(0.1, 0.7), in_batch, tile=2)
    weights = z[:, 0, -1].detach().abs() if weighted else None
    z = z.clone().requires_grad_()
    value = loss(*z.unbind(1), present=present, weights=weights)
    return value.detach(), torch.autograd.grad(value, z)[0]


def semantic(rank, world):
    """Each form of the loss of semantic negatives."""
    z, present = share([semantic_rows(), PRESENT], rank, world)
    return [semantic_loss(*case, z, present) for case in SEMANTIC]


def semantic_rows():
    """(N, 3, d) texts and their two versions."""
    return torch.randn(TOTAL, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def more_keys(rank, world):
    """Two towers with more keys than rows on one process."""
    z0, _, h0, _ = rows("two-tower", TOTAL)
    _, z1, _, h1 = rows("two-tower", TOTAL + world, seed=1)
    n = sum(SPLITS[world][:rank])
    m = SPLITS[world][rank]
    keys = slice(n + rank, n + rank + m + 1)  # one hard negative after each process's own
    return value_and_gradients(
        objective("two-tower", "combined", tile=2), z0[n : n + m], z1[keys], h0[n : n + m], h1[keys]
    )


SELECTORS = ("guide", "affinity", "window")


def known(name, count=60):
    """A selector of examples with ids above 2^31, the ids, and a treatment."""
    generator = torch.Generator().manual_seed(0)
    features = torch.eye(6).repeat_interleave(count // 6, 0) + 0.3 * torch.randn(count, 6, generator=generator)
    ids = 2**31 + 7 * torch.randperm(count, generator=generator)
    if name == "guide":
        others = features + 0.1 * torch.randn(count, 6, generator=generator)
        mask = ps.GuideMask.fit(features, others, ids=ids, cap=1.0, margin=0.3, floor=0.3)
        mask.off_because = ""
        return mask, ids, None
    if name == "affinity":
        chosen = ps.ConfidentNegatives(ps.Affinity.fit(features, ids=ids), 0.6, 0.4)
        return chosen, ids, ps.Treatment(0.1, 0.7, same_class_weight=1.0)
    frames = torch.arange(count)
    window = ps.TemporalWindow(ps.RankBand(0.1, 0.8), 7, frames // 20, frames, ids=ids)
    return window, ids, ps.Treatment(0.1, 0.7)


def by_ids(rank, world):
    """Value, gradients and queued ids of losses that go by ids of examples."""
    results = {}
    for name in SELECTORS:
        for kind, loss, ids in id_losses(name):
            *batch, mine = share([*rows("ntxent", TOTAL), ids[: 3 * TOTAL : 3]], rank, world)
            results[name, kind] = value_and_gradients(ByIds(loss, mine), *batch)
            if kind == "moco":
                results[name, kind] += (loss.queue_rows[:TOTAL],)
    return results


class ByIds(torch.nn.Module):
    """A loss that is told which examples its batch holds."""

    def __init__(self, loss, ids):
        super().__init__()
        self.loss, self.ids = loss, ids

    def forward(self, *views):
        return self.loss(*views, rows=self.ids)


def id_losses(name):
    """NT-Xent, two towers and MoCo with a selector that goes by ids."""
    for kind, make in (
        ("ntxent", lambda *chosen: ps.losses.NTXentLoss(0.3, *chosen, tile=4)),
        ("two-tower", lambda *chosen: ps.losses.TwoTowerLoss(0.3, False, *chosen, tile=4)),
        ("moco", lambda *chosen: queue_of(*chosen)),
    ):
        chosen, ids, treatment = known(name)
        yield kind, make(chosen, treatment), ids


def queue_of(chosen, treatment):
    """A queue that holds ten keys already, alike on all processes."""
    loss = ps.losses.MoCoLoss(64, D, WIDTH, 0.3, chosen, treatment, tile=4).double()
    ids, engine = known("window")[1], loss.engine
    loss.engine = ps.losses.Engine(gather_distributed=False)
    _, z1, _, h1 = rows("ntxent", 10, seed=3)
    loss.enqueue(z1, h1, ids[:10])
    loss.engine = engine
    return loss


def precisions(rank, world):
    """Losses of half precision and float32 tensors."""
    results = []
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        batch = [x.to(dtype) for x in share(rows("ntxent", TOTAL), rank, world)]
        results.append(objective("ntxent", "combined", dtype=torch.float32)(*batch))
    return results


def model():
    torch.manual_seed(0)
    return torch.nn.ModuleDict(
        {"encoder": torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.Tanh()), "projector": torch.nn.Linear(12, 5)}
    ).double()


class Step(torch.nn.Module):
    """A whole step: encoder, projector and treated loss."""

    def __init__(self):
        super().__init__()
        self.model = model()
        self.loss = ps.losses.TwoTowerLoss(0.2, True, ps.RankBand(0.1, 0.6), ps.Treatment(0.1, 0.7)).double()

    def forward(self, x0, x1):
        h0, h1 = self.model["encoder"](x0), self.model["encoder"](x1)
        return self.loss(self.model["projector"](h0), self.model["projector"](h1), h0, h1)


def data_parallel(rank, world):
    """Parameters after two steps of SGD."""
    step = torch.nn.parallel.DistributedDataParallel(Step())
    return [parameter.detach() for parameter in train(step, *share(rows("two-tower", TOTAL)[:2], rank, world))]


def train(step, x0, x1):
    optimizer = torch.optim.SGD(step.parameters(), lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        step(x0, x1).backward()
        optimizer.step()
    return step.parameters()


def unlike(rank, world, kind):
    """The message that a batch unlike the others' is refused with."""
    z0, z1, h0, h1 = share(rows("ntxent", TOTAL, torch.float32), rank, world)
    if rank == 1:
        if kind == "width":
            h0, h1 = h0[:, :7], h1[:, :7]
        elif kind == "dtype":
            z0, z1 = z0.double(), z1.double()
        elif kind == "nan":
            h0[1, 0] = torch.nan
        else:
            return _message(lambda: ps.losses.NTXentLoss()(z0, z1))
    return _message(lambda: objective("ntxent", "combined", dtype=torch.float32)(z0, z1, h0, h1))


def bereaved(rank, world, how):
    """What is said, and after how many seconds, by a process whose neighbour has died."""
    batch = share(rows("ntxent", TOTAL), rank, world)
    loss = objective("ntxent", "combined")
    loss(*batch)
    if rank == 1 and how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if rank == 1 and how == "raises":
        raise SystemExit("failed on purpose")
    if rank == 1 and how == "stalls":
        os.kill(os.getpid(), signal.SIGSTOP)
    if rank == 1 and how == "is late":
        time.sleep(3)
    start = time.monotonic()
    batch[0].requires_grad_()

    def step():
        value = loss(*batch)
        if rank == 1 and how == "in backward":
            os.kill(os.getpid(), signal.SIGKILL)
        value.backward()

    return _message(step), time.monotonic() - start


def _message(work):
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""
