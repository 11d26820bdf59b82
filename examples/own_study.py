"""A study of your own: does treating pairs gain at a colder temperature, too? `python -m lab examples/own_study.py`"""

import torch

import pairsift as ps
from lab import Arm, Study

PAIRS = {"plain": (), "treated": (ps.RankBand(0.15, 0.22), ps.Treatment(margin=0.03, temperature_scale=0.6))}


def run(setting, seed, scale):
    """Train on noisy views of five clouds; how well do nearest neighbours tell the clouds apart?"""
    torch.manual_seed(seed)
    y = torch.arange(400) % 5
    x = 2 * torch.eye(5, 8)[y] + 0.8 * torch.randn(400, 8)
    encoder = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 16))
    loss, optimizer = (
        ps.losses.NTXentLoss(setting["tau"], *PAIRS[setting["pairs"]]),
        torch.optim.Adam(encoder.parameters()),
    )
    for _ in range(setting.get("steps", 5 if scale == "smoke" else 60)):
        h0, h1 = (encoder(x + 0.5 * torch.randn_like(x)) for _ in range(2))
        value = loss(h0, h1, h0.detach(), h1.detach())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    features = encoder(x).detach().numpy()
    accuracy = ps.evaluate.knn(features[:200], y[:200].numpy(), features[200:], y[200:].numpy(), k=20)
    return {"accuracy": 100 * accuracy, "loss": value.item()}


ARMS = [Arm(pairs, {"tau": tau, "pairs": pairs}, group=f"tau {tau}") for tau in (0.5, 0.1) for pairs in PAIRS]
STUDY = Study("own", "Does it gain when it is colder?", ARMS, run, {"accuracy": "20-NN %", "loss": "loss"}, seconds=0.5)
if __name__ == "__main__":
    for steps in (1, 30, 60):
        print("loss", run({"tau": 0.5, "pairs": "treated", "steps": steps}, seed=0, scale="cpu")["loss"])
