"""Difficult pairs in a lightly training loop: one line is another, the model stays as it is."""

import torch
from lightly.models.modules.heads import SimCLRProjectionHead
from torch import nn

import pairsift as ps
from pairsift.data import SimCLRViews, load_images, make_views


class SimCLR(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = ps.train.build_encoder("resnet-small")
        self.projection_head = SimCLRProjectionHead(128, 256, 64)

    def forward(self, x):
        return self.projection_head(self.backbone(x))


torch.manual_seed(0)
model = SimCLR()
# Was: criterion = NTXentLoss(temperature=0.5)
criterion = ps.integrations.HookedLoss(
    ps.losses.NTXentLoss(0.2, ps.RankBand(0.005, 0.15), ps.Treatment(margin=0.03, temperature_scale=0.6)),
    model,
    layer="backbone",
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
images, views = torch.from_numpy(load_images("digits:train").images[:512]), SimCLRViews(flip=0.0)
for step, batch in enumerate(images.split(128)):
    x0, x1 = make_views(batch, views, seed=step)
    loss = criterion(model(x0), model(x1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    print(f"step {step}: loss {loss.item():.3f}")
