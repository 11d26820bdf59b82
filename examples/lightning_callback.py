"""Difficult pairs in a Lightning module that knows nothing of them: one callback."""

import lightning
import torch
from torch import nn

import pairsift as ps
from pairsift.data import SimCLRViews, load_images, make_views
from pairsift.integrations.lightning import TreatPairs


class SimCLR(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone = ps.train.build_encoder("resnet-small")
        self.head = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 64))
        self.criterion = ps.losses.NTXentLoss(0.5)  # anybody's loss of two views: lightly's, or one's own

    def training_step(self, batch, step):
        x0, x1 = make_views(batch, SimCLRViews(flip=0.0), seed=step)
        loss = self.criterion(self.head(self.backbone(x0)), self.head(self.backbone(x1)))
        print(f"step {step}: {type(self.criterion).__name__} {loss.item():.3f}")
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


torch.manual_seed(0)
loss = ps.losses.NTXentLoss(0.2, ps.RankBand(0.005, 0.15), ps.Treatment(margin=0.03, temperature_scale=0.6))
trainer = lightning.Trainer(
    max_epochs=1, callbacks=[TreatPairs(loss, layer="backbone")], logger=False, enable_checkpointing=False,
    enable_progress_bar=False, accelerator="cpu",
)  # fmt: skip
images = torch.from_numpy(load_images("digits:train").images[:512])
trainer.fit(SimCLR(), torch.utils.data.DataLoader(images, batch_size=128))
