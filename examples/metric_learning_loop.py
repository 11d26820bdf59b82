"""Difficult pairs in a pytorch-metric-learning loop, under its own SelfSupervisedLoss."""

import torch
from pytorch_metric_learning.losses import SelfSupervisedLoss
from torch import nn

import pairsift as ps
from pairsift.data import SimCLRViews, load_images, make_views
from pairsift.integrations import FeatureHook
from pairsift.integrations.metric_learning import NTXentLoss

torch.manual_seed(0)
trunk = ps.train.build_encoder("resnet-small")
model = nn.Sequential(trunk, nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 64))
# Was: loss_fn = SelfSupervisedLoss(NTXentLoss(temperature=0.5))
treatment = ps.Treatment(margin=0.03, temperature_scale=0.6)
loss_fn = SelfSupervisedLoss(NTXentLoss(0.2, ps.RankBand(0.005, 0.15), treatment, hook=FeatureHook(model, layer="0")))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
images, views = torch.from_numpy(load_images("digits:train").images[:512]), SimCLRViews(flip=0.0)
for step, batch in enumerate(images.split(128)):
    x0, x1 = make_views(batch, views, seed=step)
    loss = loss_fn(model(x0), model(x1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step}: loss {loss.item():.3f}")
