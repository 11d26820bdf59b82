import lightning
import pytest
import torch
from torch import nn

import pairsift as ps
from pairsift.integrations import HookedLoss
from pairsift.integrations.lightning import TreatPairs


class Plain(lightning.LightningModule):
    """Somebody's module: it knows of no features and no pairs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = nn.Linear(6, 5)
        self.head = nn.Linear(5, 3)
        self.criterion = ps.losses.NTXentLoss(0.5)
        self.seen = []

    def training_step(self, batch, index):
        z0, z1 = (self.head(self.backbone(view)) for view in batch)
        loss = self.criterion(z0, z1)
        self.seen.append((type(self.criterion), float(loss.detach())))
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module, *callbacks, path):
    torch.manual_seed(1)
    data = torch.utils.data.TensorDataset(torch.randn(16, 6), torch.randn(16, 6))
    trainer = lightning.Trainer(
        max_epochs=1, callbacks=list(callbacks), logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="cpu", default_root_dir=path,
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=8))
    return module


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_module_is_treated_while_it_is_fitted(tmp_path):
    loss = ps.losses.NTXentLoss(0.5, ps.RankBand(0.1, 0.5), ps.Treatment(0.2))
    plain = fit(Plain(), path=tmp_path)
    treated = fit(Plain(), TreatPairs(loss, layer="backbone"), path=tmp_path)
    assert [kind for kind, _ in treated.seen] == [HookedLoss] * 2
    assert treated.seen[0][1] != plain.seen[0][1]
    assert type(treated.criterion) is ps.losses.NTXentLoss
    assert not treated.backbone._forward_hooks


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_missing_layers_and_losses_are_named(tmp_path):
    loss = ps.losses.NTXentLoss(0.5)
    with pytest.raises(ValueError, match=r"Plain has no loss module 'loss': pass criterion=.*\(criterion\)"):
        fit(Plain(), TreatPairs(loss, layer="backbone", criterion="loss"), path=tmp_path)
    with pytest.raises(ValueError, match="no layer 'encoder' in Plain: there are backbone, head, criterion"):
        fit(Plain(), TreatPairs(loss, layer="encoder"), path=tmp_path)


def checkpoint(folder, callback, **settings):
    """The checkpoint of a module that was fitted with a callback."""
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*torch.randn(2, 16, 6)), batch_size=8)
    trainer = lightning.Trainer(
        max_epochs=1, callbacks=[callback], logger=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu", default_root_dir=folder, **settings,
    )  # fmt: skip
    trainer.fit(Plain(), data)
    return next((folder / "checkpoints").glob("*.ckpt"))


LOSSES = {
    "band": lambda: ps.losses.NTXentLoss(0.5, ps.RankBand(0.1, 0.5), ps.Treatment(0.2)),
    "random": lambda: ps.losses.NTXentLoss(0.5, ps.RankBand(0.1, 0.5), ps.Treatment(0.2), select="random"),
    "queue": lambda: ps.losses.MoCoLoss(16, 3, 5, 0.5, ps.RankBand(0.1, 0.5), ps.Treatment(0.2)),
    "learned": lambda: ps.losses.TwoTowerLoss(0.5, True, ps.RankBand(0.1, 0.5), ps.Treatment(0.2)),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", LOSSES)
def test_checkpoints_load_without_the_callback(tmp_path, name):
    loss = LOSSES[name]()
    file = checkpoint(tmp_path, TreatPairs(loss, layer="backbone"))
    held = torch.load(file, weights_only=True)
    assert set(held["state_dict"]) == set(Plain().state_dict())
    Plain.load_from_checkpoint(file)
    state = held["callbacks"].get("TreatPairs", {})
    torch.testing.assert_close(dict(loss.state_dict()), state)
    again = TreatPairs(LOSSES[name](), layer="backbone")
    again.load_state_dict(state)
    torch.testing.assert_close(dict(again.loss.state_dict()), state)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_learned_temperature_is_trained_with_the_module(tmp_path):
    loss = ps.losses.TwoTowerLoss(0.5, True, ps.RankBand(0.1, 0.5), ps.Treatment(0.2))
    file = checkpoint(tmp_path, TreatPairs(loss, layer="backbone"))
    assert float(loss.temperature) != 0.5
    again = TreatPairs(LOSSES["learned"](), layer="backbone")
    trainer = lightning.Trainer(
        max_epochs=1, callbacks=[again], logger=False, enable_progress_bar=False, enable_model_summary=False,
        accelerator="cpu", default_root_dir=tmp_path,
    )  # fmt: skip
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*torch.randn(2, 16, 6)), batch_size=8)
    trainer.fit(Plain(), data, ckpt_path=file)  # its epoch is over, so nothing is trained
    assert float(again.loss.temperature) == float(loss.temperature)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_true_half_precision(tmp_path):
    for name in ("band", "queue"):
        checkpoint(tmp_path / name, TreatPairs(LOSSES[name](), layer="backbone"), precision="bf16-true")
