"""Treated pairs in a Lightning module that knows nothing of them: one callback."""

import lightning
import torch
from torch import nn

import pairsift as ps
from pairsift.data import SimCLRViews, load_images, to_float
from pairsift.integrations.lightning import TreatPairs

train, test = load_images("digits:train"), load_images("digits:test")
images, test_images = (to_float(torch.from_numpy(each.images)) for each in (train, test))


class SimCLR(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Flatten(), nn.Linear(192, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU())
        self.head = nn.Sequential(nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 64))
        self.criterion = ps.losses.NTXentLoss(0.2)  # anybody's loss of two views: lightly's, or your own

    def training_step(self, batch, step):
        return self.criterion(*(self.head(self.backbone(SimCLRViews(flip=0.0)(batch))) for _ in range(2)))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


def accuracy(*callbacks):
    lightning.seed_everything(0, verbose=False)
    model = SimCLR()
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = lightning.Trainer(max_epochs=10, callbacks=[*callbacks], accelerator="cpu", **quiet)
    trainer.fit(model, torch.utils.data.DataLoader(images, batch_size=256, shuffle=True))
    with torch.no_grad():
        return ps.evaluate.knn(model.backbone(images), train.labels, model.backbone(test_images), test.labels)


loss = ps.losses.NTXentLoss(0.2, ps.RankBand(0.005, 0.15), ps.Treatment(margin=0.03, temperature_scale=0.6))
print(f"20-NN: {accuracy():.1%} plain, {accuracy(TreatPairs(loss, layer='backbone')):.1%} treated")
