"""A study of your own: does the treatment gain at a colder temperature, too? `pairsift study examples/own_study.py`"""

import numpy as np
import torch

import pairsift as ps
from pairsift.studies import Arm, Study

TREATED = (ps.RankBand(0.15, 0.22), ps.Treatment(margin=0.03, temperature_scale=0.6))


def run(setting, seed, scale):
    """Train on noisy views of two-dimensional clouds; how well do nearest neighbours tell the clouds apart?"""
    torch.manual_seed(seed)
    y = torch.arange(400) % 5
    x = 2 * torch.eye(5, 8)[y] + 0.8 * torch.randn(400, 8)
    encoder = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 16))
    loss = ps.losses.NTXentLoss(setting["temperature"], *(TREATED if setting["treated"] else ()))
    optimizer, values = torch.optim.Adam(encoder.parameters(), 1e-2), []
    for _ in range(5 if scale == "smoke" else 60):
        h0, h1 = (encoder(x + 0.5 * torch.randn_like(x)) for _ in range(2))
        values.append(value := loss(h0, h1, h0.detach(), h1.detach()))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    features, half = encoder(x).detach().numpy(), np.arange(400) < 200
    accuracy = ps.evaluate.knn(features[half], y.numpy()[half], features[~half], y.numpy()[~half], k=20)
    return {"accuracy": 100 * accuracy, "loss": float(values[-1].detach()), "first_loss": float(values[0].detach())}


ARMS = [
    Arm(name, {"temperature": tau, "treated": name == "treated"}, group=f"tau {tau}")
    for tau in (0.5, 0.1)
    for name in ("plain", "treated")
]
STUDY = Study("own", "Does it gain when it is colder?", ARMS, run, {"accuracy": "20-NN %", "loss": "loss"}, seconds=0.5)
if __name__ == "__main__":
    for name, value in sorted(run(ARMS[1].setting, 0, "cpu").items()):
        print(name, value)
