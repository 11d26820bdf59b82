"""Difficult pairs in a solo-learn training step: its SimCLR loss function with two more arguments."""

import torch
from torch import nn

import pairsift as ps
from pairsift.data import SimCLRViews, load_images, make_views
from pairsift.integrations.solo_learn import simclr_loss_func

torch.manual_seed(0)
backbone = ps.train.build_encoder("resnet-small")
projector = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 64))
optimizer = torch.optim.SGD([*backbone.parameters(), *projector.parameters()], lr=0.1)
images, views = torch.from_numpy(load_images("digits:train").images[:512]), SimCLRViews(flip=0.0)
for step, batch in enumerate(images.split(128)):
    # What a solo-learn method has at hand: indexes of the batch, features and projections of each crop.
    indexes = torch.arange(len(batch))
    feats = [backbone(crop) for crop in make_views(batch, views, seed=step)]
    out = {"feats": feats, "z": [projector(h) for h in feats]}
    # Was: simclr_loss_func(torch.cat(out["z"]), indexes=indexes.repeat(2), temperature=0.2)
    loss = simclr_loss_func(
        torch.cat(out["z"]),
        indexes=indexes.repeat(2),
        temperature=0.2,
        h=torch.cat(out["feats"]),
        selector=ps.RankBand(0.005, 0.15),
        treatment=ps.Treatment(margin=0.03, temperature_scale=0.6),
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step}: loss {loss.item():.3f}")
