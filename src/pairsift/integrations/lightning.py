"""A Lightning callback that replaces the loss of a module with a treated loss."""

from __future__ import annotations

from typing import Any

from torch import nn

from pairsift._base.extras import needs
from pairsift.integrations.hooks import HookedLoss
from pairsift.losses.treated import TreatedLoss

with needs("train", "pairsift.integrations.lightning"):
    import lightning
    from lightning.pytorch.callbacks import Callback


class TreatPairs(Callback):
    """Replaces a module's loss during fitting: `Trainer(callbacks=[TreatPairs(loss, layer="backbone")])`.

    Checkpoints load with and without this callback, because the loss's state is in the callback's part of them, a
    learned temperature included. That is a parameter of the module while it is fitted, so that the optimiser finds it.

    Args:
        loss: a treated loss, called as `loss(z0, z1, h0, h1)`.
        layer: layer of the Lightning module whose output are the features h; or one for each argument.
        criterion: attribute of the Lightning module that holds its loss, called as `criterion(z0, z1)`.

    Raises:
        ValueError: when fitting starts, for a layer or an attribute that does not exist.
    """

    def __init__(self, loss: TreatedLoss, layer: str | tuple[str, str], criterion: str = "criterion") -> None:
        self.loss, self.layer, self.criterion = loss, layer, criterion
        self._own: nn.Module | None = None
        self._hooked: HookedLoss | None = None

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        own = getattr(pl_module, self.criterion, None)
        if not isinstance(own, nn.Module):
            losses = [name for name, child in pl_module.named_children() if "loss" in type(child).__name__.lower()]
            raise ValueError(
                f"{type(pl_module).__name__} has no loss module {self.criterion!r}: pass criterion=, the name of the "
                f"attribute that holds it ({', '.join(losses) or 'none of its modules looks like a loss'})"
            )
        self._own, self._hooked = own, HookedLoss(self.loss, pl_module, self.layer)
        if self._learns:
            self._hooked.register_load_state_dict_pre_hook(self._add_own)  # type: ignore[no-untyped-call]
            setattr(pl_module, self.criterion, self._hooked)
        else:
            # This hides the module's own loss without replacing it, so the module's state dict stays as it was.
            pl_module.__dict__[self.criterion] = self._hooked

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.loss.to(pl_module.device)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        if self._hooked is None:
            return
        self._hooked.remove()
        if self._learns:
            setattr(pl_module, self.criterion, self._own)
        else:
            del pl_module.__dict__[self.criterion]
        self._hooked = None

    def state_dict(self) -> dict[str, Any]:
        """The state of the loss, such as its queue, for the callback's part of a checkpoint."""
        return dict(self.loss.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict:
            self.loss.load_state_dict(state_dict)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the loss out of the module's part of a checkpoint, which then loads without this callback."""
        own = f"{self.criterion}.loss."
        for name in [each for each in checkpoint["state_dict"] if self._learns and each.startswith(own)]:
            del checkpoint["state_dict"][name]

    def _add_own(self, module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
        """Add what `on_save_checkpoint` takes out, for strict loading; `load_state_dict` then sets it."""
        for name, value in self.loss.state_dict().items():
            state_dict.setdefault(f"{prefix}loss.{name}", value)

    @property
    def _learns(self) -> bool:
        return next(self.loss.parameters(), None) is not None
