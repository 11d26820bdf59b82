"""Treated pairs in a lightly training loop: one line changes, the model stays as it is."""

import torch
from lightly.models.modules.heads import SimCLRProjectionHead
from torch import nn

import pairsift as ps
from pairsift.data import SimCLRViews, load_images, to_float

train, test = load_images("digits:train"), load_images("digits:test")
images, test_images = (to_float(torch.from_numpy(each.images)) for each in (train, test))
views = SimCLRViews(flip=0.0)
selector = ps.ConfidentNegatives.from_images(train.images)  # patches of the images judge the pairs


class SimCLR(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(192, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU())
        self.projection_head = SimCLRProjectionHead(128, 128, 64)

    def forward(self, x):
        return self.projection_head(self.backbone(x))


def accuracy(selector):
    torch.manual_seed(0)
    model = SimCLR()
    # Was: criterion = NTXentLoss(temperature=0.2)
    criterion = ps.integrations.HookedLoss(ps.losses.NTXentLoss(0.2, selector), model, layer="backbone")
    optimizer = torch.optim.Adam(model.parameters())
    for rows in [rows for _ in range(10) for rows in torch.randperm(len(images)).split(256)]:
        optimizer.zero_grad()
        criterion(model(views(images[rows])), model(views(images[rows])), rows=rows).backward()
        optimizer.step()
    with torch.no_grad():
        return ps.evaluate.knn(model.backbone(images), train.labels, model.backbone(test_images), test.labels)


print(f"20-NN: {accuracy(None):.1%} plain, {accuracy(selector):.1%} treated")
