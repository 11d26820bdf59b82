"""Positives from time: frames of a sequence a step or two apart, and no pair so near in time called difficult."""

import numpy as np
import torch
from torch import nn

import pairsift as ps

# 200 recordings of 30 frames; a hidden state, one of six, stays with probability 0.95.
rng = np.random.default_rng(0)
states = rng.integers(0, 6, (200, 1)).repeat(30, axis=1)
for step in range(1, 30):
    stays = rng.random(200) < 0.95
    states[:, step] = np.where(stays, states[:, step - 1], rng.integers(0, 6, 200))
frames = rng.standard_normal((6, 20))[states.ravel()] + 2 * rng.standard_normal((6000, 20))
x = torch.from_numpy(frames).float()

pairs = ps.temporal.temporal_pairs(np.arange(200).repeat(30), lags=(1, 2))
encoder = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 16))
selector = ps.TemporalWindow(ps.RankBand(0.005, 0.15), 5, pairs.sequences, pairs.times)
loss = ps.losses.NTXentLoss(0.2, selector, ps.Treatment(margin=0.03, temperature_scale=0.6))
optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-3)
for step in range(300):
    batch = rng.choice(len(pairs), 256, p=pairs.weights)
    rows = torch.from_numpy(np.stack([pairs.anchors[batch], pairs.positives[batch]]))
    h = encoder(x[rows])
    value = loss(*h, *h.detach(), rows=rows[0], key_rows=rows[1])
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    if step % 100 == 0:
        print(f"step {step}: loss {value.item():.3f}")


def accuracy(h):
    return ps.evaluate.knn(h[:4000], states.ravel()[:4000], h[4000:], states.ravel()[4000:])


print(f"20-NN: {accuracy(x):.1%} frames, {accuracy(encoder(x).detach()):.1%} encoder, on the hidden state")
