"""Every objective with every treatment on seeded rows, for tests that hold for all of them."""

import torch

import pairsift as ps

TREATMENTS = {
    "none": None,
    "neutral": ps.Treatment(removal="neutral"),
    "exclude": ps.Treatment(removal="exclude"),
    "margin": ps.Treatment(margin=0.1),
    "temperature": ps.Treatment(temperature_scale=0.6),
    "combined": ps.Treatment(margin=0.05, temperature_scale=0.7),
}
NAMES = ("ntxent", "moco", "spectral", "spectral-wide", "two-tower", "two-tower-learned", "two-tower-flagged")
LABELLED = ("labelled", "labelled-summed", "mixed", "mixed-inside")
D, WIDTH, QUEUE = 6, 10, 301


def objective(name, treatment, band=(0.1, 0.5), dtype=torch.float64, **settings):
    """A loss module; MoCo's with a full queue."""
    settings |= {"selector": ps.RankBand(*band), "treatment": TREATMENTS[treatment]}
    if name == "ntxent":
        return ps.losses.NTXentLoss(0.3, **settings).to(dtype)
    if name == "moco":
        loss = ps.losses.MoCoLoss(QUEUE, D, WIDTH, 0.2, **settings).to(dtype)
        generator = torch.Generator().manual_seed(9)
        engine, loss.engine = loss.engine, ps.losses.Engine(gather_distributed=False)
        loss.enqueue(*(torch.randn(QUEUE, width, generator=generator, dtype=dtype) for width in (D, WIDTH)))
        loss.engine = engine
        return loss
    if name.startswith("labelled"):
        return Labelled(
            ps.losses.LabelledNTXentLoss(0.3, positives="summed" if "summed" in name else "each", **settings)
        )
    if name.startswith("mixed"):
        return Mixed(
            ps.losses.MixedContrastiveLoss(0.3, 0.3, form="inside" if "inside" in name else "outside", **settings)
        )
    if name.startswith("spectral"):
        return ps.losses.SpectralLoss(2.0, **settings).to(dtype)
    learned, flagged = name.endswith("learned"), name.endswith("flagged")
    return ps.losses.TwoTowerLoss(0.2, learned, symmetric=not flagged, flag_positive=flagged, **settings).to(dtype)


class Labelled(torch.nn.Module):
    """Calls a loss of labelled rows with two views; an image's label is made of its features, the same everywhere."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, z0, z1, h0, h1):
        return self.loss(torch.cat([z0, z1]), (1e6 * h0[:, 0]).long().repeat(2), torch.cat([h0, h1]))


class Mixed(torch.nn.Module):
    """Calls the mixed loss; an image's class, or that it is unknown (-1), is made of its features, as above."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, z0, z1, h0, h1):
        return self.loss(z0, z1, (1e6 * h0[:, 0].abs()).long() % 4 - 1, h0, h1)


def rows(name, n, dtype=torch.float64, seed=0):
    """(z0, z1, h0, h1) for an objective, of n images or texts; 'wide' features order second views otherwise."""
    generator = torch.Generator().manual_seed(seed)
    z0, z1, h0, h1 = (torch.randn(n, w, generator=generator, dtype=torch.float64) for w in (D, D, WIDTH, WIDTH))
    if name == "spectral-wide":  # positives stand in the band now and then
        z1, h1 = z0 + z1, h0 + 0.5 * h1
    return [x.to(dtype) for x in (z0, z1, h0, h1)]


def value_and_gradients(loss, z0, z1, h0, h1):
    """The loss, and its gradients by both projections and by the parameters of the loss."""
    z0, z1 = (z.detach().clone().requires_grad_() for z in (z0, z1))
    value = loss(z0, z1, h0, h1)
    wanted = [z0, z1, *loss.parameters()]
    gradients = torch.autograd.grad(value, wanted, allow_unused=True)
    return value.detach(), [torch.zeros_like(x) if g is None else g for g, x in zip(gradients, wanted, strict=True)]
