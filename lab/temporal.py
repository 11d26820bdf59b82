"""Positives from time against positives from augmentation, on spoken digits and pen strokes.

    python -m lab.temporal fsdd|pendigits [--seeds 10] [--output lab/results/temporal-SET.json]

Needs PAIRSIFT_DATA. A frame (20 mel bands of 25 ms of speech; one of the 8 points of a stroke) is encoded by a small
MLP, trained for 200 steps of 512 pairs, by the spectral loss or NT-Xent; a pair is a frame and one 1, 2 or 4 steps
later (temporal), two noisy versions of a frame (augmentation), or noisy versions of the two (both). A linear probe of
the mean features of a sequence tells its class. Strength of the noise, mu and temperature are those that are best on
a fifth of the training sequences that the encoder did not see. Treatments: a fifth of the frames, of those states that
lead from one group of states to another most often, is dropped, with sequences broken at the gaps or closed over them;
as many are dropped at random; and a rank band is treated, with and without neighbours in time, in batches of few
sequences, where there are any. Lags and treatments have half the seeds. Finished runs in the output are kept.
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans, MiniBatchKMeans
from torch import Tensor, nn

from lab.frames import Frames, load
from lab.measures import rounded_interval
from lab.records import RESULTS, data_folder, environment
from pairsift._base.files import write_json
from pairsift.evaluate import linear_probe
from pairsift.losses import NTXentLoss, SpectralLoss
from pairsift.pairs import RankBand
from pairsift.temporal import TemporalWindow, temporal_pairs
from pairsift.theory import ChainGraph
from pairsift.train import Projector
from pairsift.treatments import Treatment

PER_CLASS = {"fsdd": 120, "pendigits": 300}
STEPS, BATCH, WIDTH, LAGS = 200, 512, 64, (1, 2, 4)
SCALES = {"spectral": (3.0, 10.0, 30.0), "simclr": (0.1, 0.2, 0.5)}
NOISES = (0.25, 1.0)
STATES, GROUPS, DROPPED = 100, 20, 0.2
TREATMENT = Treatment(margin=0.03, temperature_scale=0.6)


@dataclass(frozen=True)
class Arm:
    """How an encoder is trained.

    Attributes:
        name: as it is written.
        lags: of the positives; none pairs a frame with itself.
        noise: standard deviation of what is added to standardised frames, a fifth of whose values are set to 0 then.
        gap: "" keeps all frames; "break" and "close" say what happens where frames are dropped.
        random: whether frames to drop are drawn.
        sequences: of a batch; 0 draws from all.
        band: whether a rank band is treated.
        window: steps within which a pair of one sequence is not treated.
    """

    name: str
    lags: tuple[int, ...] = LAGS
    noise: float = 0.0
    gap: str = ""
    random: bool = False
    sequences: int = 0
    band: bool = False
    window: int = 0


ARMS = {
    arm.name: arm
    for arm in (
        Arm("temporal"), Arm("augmentation", (), NOISES[0]), Arm("both", LAGS, NOISES[0]),
        *(Arm(f"lag {lag}", (lag,)) for lag in (1, 2, 5, 10, 20)),
        Arm("drop bridging, broken", gap="break"), Arm("drop bridging, closed", gap="close"),
        Arm("drop random, broken", gap="break", random=True), Arm("few sequences", sequences=32),
        Arm("few sequences, band", sequences=32, band=True),
        Arm("few sequences, band, window", sequences=32, band=True, window=5),
    )
}  # fmt: skip
MAIN = ("temporal", "augmentation", "both")
# Strokes have 8 points, and only speech has states to drop that are worth the name.
OF_SET = {"fsdd": tuple(ARMS), "pendigits": (*MAIN, "lag 1", "lag 2", "lag 5")}


def bridging_frames(frames: Frames) -> NDArray[np.bool_]:
    """The frames, about a fifth, in the states from which a step leads to another group of states most often.

    States are clusters of frames, and groups clusters of the leading eigenfunctions of their chain: no labels.
    """
    states = MiniBatchKMeans(STATES, random_state=0, n_init=3).fit_predict(frames.values)
    states = np.unique(states, return_inverse=True)[1]
    chain = ChainGraph.from_sequences(np.split(states, np.flatnonzero(np.diff(frames.sequences)) + 1), 1)
    groups = KMeans(GROUPS, random_state=0, n_init=10).fit_predict(chain.optimal_features(GROUPS))
    score = chain.bridging(groups)
    order = np.argsort(-score)
    shares = np.bincount(states, minlength=len(score))[order].cumsum() / len(states)
    dropped: NDArray[np.bool_] = np.isin(states, order[shares <= DROPPED])
    return dropped


def pairs_of(frames: Frames, arm: Arm, bridging: NDArray[np.bool_] | None, seed: int) -> Any:
    """Anchors, positives, sequences and times of an arm's pairs."""
    n = len(frames.values)
    if not arm.lags:
        times = temporal_pairs(frames.sequences).times
        return np.arange(n), np.arange(n), frames.sequences, times
    keep = np.ones(n, bool)
    if arm.gap:
        assert bridging is not None
        keep = ~(np.random.default_rng(seed).permutation(bridging) if arm.random else bridging)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*give no pair")
        if arm.gap == "close":
            rows = np.flatnonzero(keep)
            found = temporal_pairs(frames.sequences[rows], arm.lags)
            return rows[found.anchors], rows[found.positives], frames.sequences, temporal_pairs(frames.sequences).times
        found = temporal_pairs(frames.sequences, arm.lags, keep=keep)
    return found.anchors, found.positives, found.sequences, found.times


def objective(method: str, scale: float, arm: Arm, found: Any) -> NTXentLoss | SpectralLoss:
    """The loss of an arm."""
    band: Any = RankBand(0.05, 0.2)
    near = TemporalWindow(band, arm.window, *found[2:]) if arm.window else band
    treated = (near, TREATMENT) if arm.band else (None, None)
    return SpectralLoss(scale, *treated) if method == "spectral" else NTXentLoss(scale, *treated)


def trained(
    frames: Frames, method: str, scale: float, arm: Arm, found: Any, seed: int, steps: int = STEPS
) -> nn.Module:
    """The encoder after an arm's training; 0 steps leave it as it began."""
    torch.manual_seed(seed)
    encoder, projector = mlp(frames.values.shape[1]), Projector(WIDTH, 128, 64)
    loss, values = objective(method, scale, arm, found), torch.from_numpy(frames.values)
    optimizer = torch.optim.Adam([*encoder.parameters(), *projector.parameters()], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    rng = np.random.default_rng(seed)
    anchors, positives, sequences, _ = found
    by_sequence = np.split(np.arange(len(anchors))[order := np.argsort(sequences[anchors], kind="stable")],
                           np.flatnonzero(np.diff(sequences[anchors][order])) + 1)  # fmt: skip
    for _ in range(steps):
        if arm.sequences:
            chosen = rng.choice(len(by_sequence), arm.sequences, replace=False)
            batch = np.concatenate([rng.choice(by_sequence[each], BATCH // arm.sequences) for each in chosen])
        else:
            batch = rng.integers(0, len(anchors), BATCH)
        rows = np.concatenate([anchors[batch], positives[batch]])
        h = encoder(noisy(values[rows], arm.noise))
        z, seen = projector(h), h.detach()
        first, second = torch.from_numpy(rows).chunk(2)
        value = loss(*z.chunk(2), *seen.chunk(2), rows=first, key_rows=second)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    return encoder.eval()


def mlp(width: int) -> nn.Module:
    """Three layers, (B, width) -> (B, 64)."""
    layers: list[nn.Module] = []
    for n_in in (width, 256):
        layers += [nn.Linear(n_in, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(256, WIDTH))


def noisy(values: Tensor, noise: float) -> Tensor:
    """Frames with normal noise and a fifth of their values set to 0; as they are for noise 0."""
    if not noise:
        return values
    return (values + noise * torch.randn_like(values)) * (torch.rand_like(values) > 0.2)


def accuracies(features: tuple[Any, Any], train: Frames, test: Frames) -> dict[str, float]:
    """Percent of sequences whose classes a linear probe of mean features tells."""
    x, test_x = (frames.means(each) for frames, each in zip((train, test), features, strict=True))
    return {
        name: round(100 * linear_probe(x, labels, test_x, test.labels[name]).accuracy, 2)
        for name, labels in train.labels.items()
    }


@torch.no_grad()
def encoded(encoder: nn.Module, frames: Frames) -> NDArray[np.float32]:
    """(N, 64) features of all frames."""
    features: NDArray[np.float32] = encoder(torch.from_numpy(frames.values)).numpy()
    return features


def tuned(train: Frames, method: str) -> dict[str, dict[str, float]]:
    """Scale of the loss and noise of every main arm, by the digit probe on held-out training sequences."""
    held = np.random.default_rng(0).random(train.sequences[-1] + 1) < 0.2
    seen, unseen = train.part(~held), train.part(held)
    best: dict[str, dict[str, float]] = {}
    for name in MAIN:
        found = pairs_of(seen, ARMS[name], None, 0)
        tried = []
        for scale in SCALES[method]:
            for noise in NOISES if ARMS[name].noise else (0.0,):
                encoder = trained(seen, method, scale, replace(ARMS[name], noise=noise), found, seed=1000)
                accuracy = accuracies((encoded(encoder, seen), encoded(encoder, unseen)), seen, unseen)["digit"]
                tried.append((accuracy, scale, noise))
        accuracy, scale, noise = max(tried)
        best[name] = {"scale": scale, "noise": noise, "held_out_digit": accuracy}
        print(method, name, best[name], flush=True)
    return best


def summarised(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds with intervals, and differences paired by seed to temporal positives in the same batches."""
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        by_arm: dict[str, dict[int, dict[str, Any]]] = {}
        for row in rows:
            if row["method"] == method:
                by_arm.setdefault(row["arm"], {})[row["seed"]] = row
        for arm, found in by_arm.items():
            line: dict[str, Any] = {"method": method, "arm": arm, "seeds": len(found)}
            base = by_arm.get("few sequences" if arm.startswith("few sequences,") else "temporal", {})
            for measure in [name for name in ("digit", "speaker") if name in found[min(found)]]:
                line[measure] = rounded_interval([row[measure] for row in found.values()])
                gains = [row[measure] - base[seed][measure] for seed, row in found.items() if seed in base]
                if gains and base is not found:
                    line[f"{measure}_gain"] = rounded_interval(gains)
            lines.append(line)
    return lines


def plan(name: str, seeds: int) -> list[tuple[str, str, int]]:
    """Method, arm and seed of every run."""
    arms = [(method, arm) for method in SCALES for arm in ("untrained", *OF_SET[name])]
    full = ("untrained", *MAIN)
    return [("", "raw", 0)] + [
        (method, arm, seed) for seed in range(seeds) for method, arm in arms if arm in full or seed < max(1, seeds // 2)
    ]


def main() -> None:
    """Run the study, keeping what is finished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=tuple(PER_CLASS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    output: Path = options.output or RESULTS / f"temporal-{options.set}.json"
    torch.set_num_threads(1)
    output.parent.mkdir(parents=True, exist_ok=True)
    train, test = load(data_folder(), options.set, PER_CLASS[options.set])
    bridging = bridging_frames(train) if options.set == "fsdd" else None
    record: dict[str, Any] = json.loads(output.read_text()) if output.exists() else {"tuning": {}, "rows": []}
    tuning, rows = record["tuning"], record["rows"]
    for method in SCALES:
        if method not in tuning:
            tuning[method] = tuned(train, method)
    done = {(row["method"], row["arm"], row["seed"]) for row in rows}
    for method, arm, seed in plan(options.set, options.seeds):
        if (method, arm, seed) in done:
            continue
        features = run(train, test, method, arm, seed, tuning.get(method, {}), bridging)
        rows.append({"method": method, "arm": arm, "seed": seed, **accuracies(features, train, test)})
        print(rows[-1], flush=True)
        write_json(output, {"set": options.set, "environment": environment(1), "tuning": tuning, "rows": rows})
    facts = {
        "set": options.set,
        "environment": environment(1),
        "dropped": None if bridging is None else bridging.mean(),
    }
    write_json(output, facts | {"tuning": tuning, "summary": summarised(rows), "rows": rows})


def run(
    train: Frames, test: Frames, method: str, arm: str, seed: int, tuning: dict[str, dict[str, float]],
    bridging: NDArray[np.bool_] | None,
) -> tuple[Any, Any]:  # fmt: skip
    """Features of training and test frames of one run."""
    if not method:
        return train.values, test.values
    settings = tuning[arm if arm in MAIN else "temporal"]
    chosen = replace(ARMS.get(arm, ARMS["temporal"]), noise=settings["noise"])
    found, steps = pairs_of(train, chosen, bridging, seed), STEPS if arm != "untrained" else 0
    encoder = trained(train, method, settings["scale"], chosen, found, seed, steps)
    return encoded(encoder, train), encoded(encoder, test)


if __name__ == "__main__":
    main()
