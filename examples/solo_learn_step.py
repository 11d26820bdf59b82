"""Treated pairs in a solo-learn training step: its SimCLR loss function with two more arguments."""

import torch
from torch import nn

import pairsift as ps
from pairsift.data import SimCLRViews, load_images, to_float
from pairsift.integrations.solo_learn import simclr_loss_func

train, test = load_images("digits:train"), load_images("digits:test")
images, test_images = (to_float(torch.from_numpy(each.images)) for each in (train, test))
views = SimCLRViews(flip=0.0)
selector = ps.ConfidentNegatives.from_images(train.images)  # patches of the images judge the pairs


def accuracy(selector):
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(192, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU())
    projector = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64))
    optimizer = torch.optim.Adam([*backbone.parameters(), *projector.parameters()])
    for indexes in [rows for _ in range(10) for rows in torch.randperm(len(images)).split(256)]:
        # A solo-learn method has these: indexes of the batch, features and projections of each crop.
        feats = [backbone(views(images[indexes])) for _ in range(2)]
        z, h, indexes = torch.cat([projector(each) for each in feats]), torch.cat(feats), indexes.repeat(2)
        # Was: simclr_loss_func(z, indexes=indexes, temperature=0.2)
        loss = simclr_loss_func(z, indexes=indexes, temperature=0.2, h=h, selector=selector)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return ps.evaluate.knn(backbone(images), train.labels, backbone(test_images), test.labels)


print(f"20-NN: {accuracy(None):.1%} plain, {accuracy(selector):.1%} treated")
