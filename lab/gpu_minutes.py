"""What pairsift does on a GPU, measured in a few minutes with nothing but the installed package and one file of images.

    python lab/gpu_minutes.py pack TRAIN TEST -o cifar10.npz          # where the data is; at most 40 MB
    python lab/gpu_minutes.py run cifar10.npz [--minutes 8] [-o gpu.jsonl]

It measures in this order. It writes a JSON line after each measurement, so a run that is cut short keeps what it has:

- rate: the products of matrices that the device reaches, in TFLOP/s.
- equality: value and gradient of losses by Triton's kernels, less those of whole matrices in float64.
- loss: forward and backward pass from 4,096 to 65,536 views, and those of one cross entropy of the whole matrix.
- train: plain, combined and auto, a ResNet-18 in bf16 for the same number of steps, as many as fit in the time.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import pairsift as ps

MOST_MB = 40
TEMPERATURE, LEARNING_RATE, PROJECTION, FEATURES = 0.2, 0.5, 128, 512
SIZES, BATCH, ENCODER = (4096, 8192, 16384, 32768, 65536), 1024, "resnet18"
TREATMENT = ps.Treatment(margin=0.03, temperature_scale=0.6)
LOSSES: dict[str, Callable[..., torch.nn.Module]] = {
    "ntxent": lambda **given: ps.losses.NTXentLoss(TEMPERATURE, **given),
    "spectral": lambda **given: ps.losses.SpectralLoss(2.0, **given),
    "two towers": lambda **given: ps.losses.TwoTowerLoss(TEMPERATURE, **given),
}
TREATMENTS = {"untreated": None, "excluded": ps.Treatment(removal="exclude"), "combined": TREATMENT}
# Seconds at the end for measuring encoders, as a share of the time for training.
_MEASURING, _TRIAL_STEPS = 0.15, 10


class Log:
    """Writes measurements as lines of the lab's schema, and knows the time that is left.

    Args:
        output: file of JSON lines, which is replaced.
        device: device that is measured.
        seconds: time for everything.
    """

    def __init__(self, output: Path, device: torch.device, seconds: float) -> None:
        self.output, self.device, self.end = output, device, time.monotonic() + seconds
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
        self.facts = {
            "versions": {"python": platform.python_version(), "torch": torch.__version__,
                         "pairsift": importlib.metadata.version("pairsift")},
            "machine": {"device": name},
        }  # fmt: skip
        output.write_text("")

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.end - time.monotonic()

    def write(self, part: str, settings: dict[str, Any], measures: dict[str, float | None]) -> None:
        """Write and print a measurement."""
        row = {"study": "gpu", "group": part, "settings": settings, "measures": measures, **self.facts}
        with self.output.open("a") as file:
            file.write(json.dumps(row) + "\n")
        shown = ", ".join(f"{name} {value:.4g}" for name, value in measures.items() if value is not None)
        print(f"{part} {' '.join(map(str, settings.values()))}: {shown}", flush=True)


def pack(train: str, test: str, output: Path, per_class: int = 1000, test_per_class: int = 250) -> None:
    """Write images and labels of both parts as uint8 arrays.

    Raises:
        ValueError: the file is larger than 40 MB.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for name, source, count in (("train", train, per_class), ("test", test, test_per_class)):
        images = ps.data.load_images(source, per_class=count)
        arrays |= {f"{name}_x": np.asarray(images.images[:]), f"{name}_y": np.asarray(images.labels)}
    np.savez_compressed(output, **arrays)  # type: ignore[arg-type]
    megabytes = output.stat().st_size / 1e6
    if megabytes > MOST_MB:
        output.unlink()
        raise ValueError(f"{output} would take {megabytes:.0f} MB, more than {MOST_MB}: take fewer images a class")


def milliseconds(work: Callable[[], Any], device: torch.device, runs: int = 5) -> float:
    """Median time of a call after one that warms up."""
    times = []
    for _ in range(runs + 1):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def measure_rate(log: Log, side: int) -> dict[str, float]:
    """Write and return the TFLOP/s of square products by name of the type."""
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = torch.randn(2, side, side, device=log.device).to(dtype).unbind()
        found[name] = 2 * side**3 / (1e9 * milliseconds(lambda a=a, b=b: a @ b, log.device))  # type: ignore[misc]
    log.write("rate", {"side": side}, {f"{name}_tflops": rate for name, rate in found.items()})
    return found


def measure_equality(log: Log, rows: int = 300, tile: int = 77) -> None:
    """Write how far tiled float32 losses lie from whole matrices in float64, relative to the largest entry."""
    generator = torch.Generator().manual_seed(0)
    z0, z1 = torch.randn(2, rows, 16, generator=generator, dtype=torch.float64).unbind()
    h0, h1 = torch.randn(2, rows, 24, generator=generator, dtype=torch.float64).unbind()
    for name, build in LOSSES.items():
        for title, treatment in TREATMENTS.items():
            given = {} if treatment is None else {"selector": ps.RankBand(0.1, 0.5), "treatment": treatment}
            results = []
            for dtype, device, size in (
                (torch.float64, torch.device("cpu"), "dense"),
                (torch.float32, log.device, tile),
            ):
                loss = build(**given, tile=size).to(device, dtype)
                inputs = [each.clone().to(device, dtype).requires_grad_() for each in (z0, z1)]
                features = [each.float().to(device, dtype) for each in (h0, h1)]
                value = loss(*inputs, *features)
                gradients = torch.autograd.grad(value, inputs)
                results.append([each.detach().double().cpu() for each in (value, *gradients)])
            apart = [float((a - b).abs().max() / a.abs().max()) for a, b in zip(*results, strict=True)]
            log.write("equality", {"loss": name, "treatment": title}, {"value": apart[0], "gradient": max(apart[1:])})


def dense_loss(z0: Tensor, z1: Tensor) -> Tensor:
    """Untreated NT-Xent as one cross entropy of the whole matrix."""
    z = F.normalize(torch.cat([z0, z1]), dim=1)
    logits = (z @ z.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(z0)))


def measure_losses(log: Log, sizes: tuple[int, ...], until: float) -> None:
    """Write time and memory of the losses by size, while more than `until` seconds are left."""
    for views in sizes:
        torch.manual_seed(0)
        z0, z1 = (torch.randn(views // 2, PROJECTION, device=log.device, requires_grad=True) for _ in range(2))
        h0, h1 = (torch.randn(views // 2, FEATURES, device=log.device) for _ in range(2))
        plain = ps.losses.NTXentLoss(TEMPERATURE)
        options_of_treated: tuple[dict[str, Any], ...] = ({}, {"precision": "bf16"}, {"tile": "dense"})
        treated, quick, whole = (
            ps.losses.NTXentLoss(TEMPERATURE, ps.RankBand(0.005, 0.15), TREATMENT, **options)
            for options in options_of_treated
        )
        contenders: dict[str, Callable[[], Tensor]] = {
            "untreated": lambda z=(z0, z1), f=plain: f(*z),  # type: ignore[misc]
            "untreated, torch": lambda z=(z0, z1): dense_loss(*z),  # type: ignore[misc]
            "combined": lambda x=(z0, z1, h0, h1), f=treated: f(*x),  # type: ignore[misc]
            "combined, bf16 selection": lambda x=(z0, z1, h0, h1), f=quick: f(*x),  # type: ignore[misc]
            "combined, whole matrices": lambda x=(z0, z1, h0, h1), f=whole: f(*x),  # type: ignore[misc]
        }
        gradients: dict[str, Tensor] = {}
        for name, work in contenders.items():
            if log.left < until:
                return
            log.write("loss", {"views": views, "loss": name}, _cost(work, (z0, z1), log.device, name, gradients))


def _cost(
    work: Callable[[], Tensor], inputs: tuple[Tensor, Tensor], device: torch.device, name: str,
    gradients: dict[str, Tensor],
) -> dict[str, float | None]:  # fmt: skip
    """Time, peak memory, and the difference of the gradient from that of the tiled loss; empty where memory ends."""

    def step() -> None:
        inputs[0].grad = inputs[1].grad = None
        work().backward()  # type: ignore[no-untyped-call]

    before = 0
    try:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.max_memory_allocated(device)
        ms = milliseconds(step, device)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return {"ms": None, "peak_mb": None}
    found: dict[str, float | None] = {"ms": ms}
    if device.type == "cuda":
        found["peak_mb"] = (torch.cuda.max_memory_allocated(device) - before) / 2**20
    assert inputs[0].grad is not None
    gradients[name] = inputs[0].grad.clone()
    ours = gradients.get(name.partition(",")[0])
    if ours is not None and ours is not gradients[name]:
        found["gradient_apart"] = float((gradients[name] - ours).abs().max() / ours.abs().max())
    return found


def train(log: Log, data: dict[str, Tensor], encoder: str, batch: int, rates: dict[str, float]) -> None:
    """Train every arm for the same number of steps, and write what each is worth."""
    images = data["train_x"]
    start = time.monotonic()
    auto = ps.ConfidentNegatives.from_images(images.cpu().numpy())
    fitted = time.monotonic() - start
    arms: dict[str, dict[str, Any]] = {
        "plain": {},
        "combined": {"selector": ps.RankBand(0.15, 0.22), "treatment": TREATMENT},
        "auto": {"selector": auto},
    }
    batch = min(batch, len(images))
    seconds = (1 - _MEASURING) * log.left / len(arms)
    _trained(log, images, arms["auto"], encoder, batch, 2)
    start = time.monotonic()
    _trained(log, images, arms["auto"], encoder, batch, _TRIAL_STEPS)
    steps = max(1, math.floor(0.9 * seconds * _TRIAL_STEPS / (time.monotonic() - start)))
    flops = flops_of(encoder, images[:8], log.device)
    for name, options in arms.items():
        start = time.monotonic()
        model, done, loss = _trained(log, images, options, encoder, batch, steps)
        took = time.monotonic() - start
        features = {part: encoded(model, data[f"{part}_x"]) for part in ("train", "test")}
        labels = {part: data[f"{part}_y"].cpu().numpy() for part in ("train", "test")}
        both = (features["train"], labels["train"], features["test"], labels["test"])
        log.write(
            "train", {"arm": name, "encoder": encoder, "batch": batch, "images": len(images)},
            {"steps": done, "epochs": done * batch / len(images), "seconds": took, "loss": loss,
             "images_per_second": done * batch / took, "knn20": 100 * ps.evaluate.knn(*both, k=20),
             "linear": 100 * ps.evaluate.linear_probe(*both).accuracy,
             "share_of_rate": 2 * flops * done * batch / (1e12 * took * rates["bf16"]),
             "guide_seconds": fitted if name == "auto" else None},
        )  # fmt: skip


def _trained(
    log: Log, images: Tensor, options: dict[str, Any], encoder: str, batch: int, steps: int
) -> tuple[torch.nn.Module, int, float]:
    """An encoder after so many steps, or fewer if the time ends; the steps, and the last loss."""
    torch.manual_seed(0)
    device = images.device
    model = ps.train.ImageEncoder(ps.train.build_encoder(encoder)).to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    width = ps.train.encoders.n_features(model, images.shape[1:])
    projector = ps.train.Projector(width, width, PROJECTION).to(device)
    loss = ps.losses.NTXentLoss(TEMPERATURE, **options).to(device)
    optimizer = torch.optim.SGD(
        [*model.parameters(), *projector.parameters()], LEARNING_RATE, momentum=0.9, weight_decay=1e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    views, value, done = ps.data.SimCLRViews(), torch.tensor(math.nan), 0
    model.train()
    for done, rows in enumerate(batches(len(images), batch, steps), 1):
        x0, x1 = ps.data.make_views(images[rows.to(device)], views, seed=done)
        with torch.autocast(device.type, torch.bfloat16):
            h0, h1 = model(x0), model(x1)
            z0, z1 = projector(h0), projector(h1)
        value = loss(z0.float(), z1.float(), h0.float(), h1.float(), rows=rows.to(device))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        if log.left < 0:
            break
    _wait(device)
    return model, done, float(value.detach())


def batches(images: int, batch: int, steps: int) -> Iterator[Tensor]:
    """Positions of so many batches; each image comes once before any comes again."""
    generator, order = torch.Generator().manual_seed(0), torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < batch:
            order = torch.randperm(images, generator=generator)
        rows, order = order[:batch], order[batch:]
        yield rows


@torch.no_grad()
def encoded(model: torch.nn.Module, images: Tensor) -> np.ndarray[Any, Any]:
    """(N, D) float32 features of (N, 3, H, W) uint8 images."""
    model.eval()
    parts = [model(part.float() / 255) for part in torch.split(images, 1000)]
    found: np.ndarray[Any, Any] = torch.cat(parts).float().cpu().numpy()
    return found


def flops_of(encoder: str, images: Tensor, device: torch.device) -> float:
    """Floating-point operations of a forward and backward pass of one image."""
    from torch.utils.flop_counter import FlopCounterMode

    model = ps.train.ImageEncoder(ps.train.build_encoder(encoder)).to(device)
    with FlopCounterMode(display=False) as counter:
        model(images.float() / 255).sum().backward()
    return float(counter.get_total_flops()) / len(images)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def run(options: argparse.Namespace) -> None:
    """Measure everything that fits in the time.

    Raises:
        ValueError: no GPU.
    """
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no CUDA GPU; --device cpu tries the script itself")
    torch.backends.cuda.matmul.allow_tf32 = False
    log = Log(options.output, device, 60 * options.minutes)
    with np.load(options.data) as file:
        data = {name: torch.from_numpy(file[name]).to(device) for name in file.files}
    rates = measure_rate(log, options.side)
    measure_equality(log)
    measure_losses(log, tuple(options.sizes), until=0.5 * 60 * options.minutes)
    train(log, data, options.encoder, options.batch, rates)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write the file of images")
    packing.add_argument("train")
    packing.add_argument("test")
    packing.add_argument("-o", "--output", type=Path, default=Path("cifar10.npz"))
    running = commands.add_parser("run", help="measure")
    running.add_argument("data", type=Path)
    running.add_argument("--minutes", type=float, default=8)
    running.add_argument("--device", default="cuda")
    running.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="views")
    running.add_argument("--side", type=int, default=8192, help="of the matrices that give the rate")
    running.add_argument("--encoder", default=ENCODER)
    running.add_argument("--batch", type=int, default=BATCH, help="images")
    running.add_argument("-o", "--output", type=Path, default=Path("gpu.jsonl"))
    options = parser.parse_args(arguments)
    if options.command == "pack":
        pack(options.train, options.test, options.output)
    else:
        run(options)


if __name__ == "__main__":
    main()
