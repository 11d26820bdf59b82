"""Treated pairs in a pytorch-metric-learning loop, under its own SelfSupervisedLoss."""

import torch
from pytorch_metric_learning.losses import SelfSupervisedLoss
from torch import nn

import pairsift as ps
from pairsift.data import SimCLRViews, load_images, to_float
from pairsift.integrations import FeatureHook
from pairsift.integrations.metric_learning import NTXentLoss

train, test = load_images("digits:train"), load_images("digits:test")
images, test_images = (to_float(torch.from_numpy(each.images)) for each in (train, test))
views = SimCLRViews(flip=0.0)


def accuracy(*treated):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Flatten(), nn.Linear(192, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU())
    model = nn.Sequential(trunk, nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64))
    # Was: loss_fn = SelfSupervisedLoss(NTXentLoss(temperature=0.2))
    loss_fn = SelfSupervisedLoss(NTXentLoss(0.2, *treated, hook=FeatureHook(model, layer="0")))
    optimizer = torch.optim.Adam(model.parameters())
    for rows in [rows for _ in range(10) for rows in torch.randperm(len(images)).split(256)]:
        loss = loss_fn(model(views(images[rows])), model(views(images[rows])))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return ps.evaluate.knn(trunk(images), train.labels, trunk(test_images), test.labels)


treated = accuracy(ps.RankBand(0.005, 0.15), ps.Treatment(margin=0.03, temperature_scale=0.6))
print(f"20-NN: {accuracy():.1%} plain, {treated:.1%} treated")
