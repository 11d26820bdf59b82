"""Runs of version 0.2 are resumed to the result that they would have had, and their encoders are read."""

import shutil

import pytest
import torch
import yaml
from training_runs import VIEWS, same, weights

from pairsift.train import Run, RunError, pretrain

# Fields by their names in version 0.2.
OLD = {"mini_batch_size": "chunk", "same_class_weight": "class_mates", "bn_splits": "key_groups", "memory_gb": "memory",
       "band_start": "pos_high", "band_stop": "pos_low"}  # fmt: skip


def as_version_two(run):
    """Give a run the names that version 0.2 wrote, and what it did not keep."""
    config = yaml.safe_load(run.config_file.read_text())
    run.config_file.write_text(yaml.safe_dump({OLD.get(name, name): value for name, value in config.items()}))
    content = torch.load(run.last_checkpoint, weights_only=True)
    state = {name.replace("policy.", "evidence.", 1): value for name, value in content["state_dict"].items()}
    content["state_dict"] = {name: value for name, value in state.items() if not name.endswith("queue_rows")}
    torch.save(content, run.last_checkpoint)


@pytest.mark.parametrize(
    "changes",
    [
        {"treatment": "combined"},
        {"method": "moco", "treatment": "combined", "queue_size": 64, "bn_splits": 2, "mini_batch_size": 16},
        {"select": "affinity", "treatment": "margin", "affinity_start": 1},
        {"treatment": "auto"},
    ],
    ids=["simclr", "moco", "bank", "auto"],
)
def test_a_run_of_version_two_resumes(config, digits, small, changes):
    whole = config("whole", epochs=2, checkpoint_every=1, **changes)
    pretrain(whole, images=digits, encoder=small(), views=VIEWS)
    cut = Run(config("cut").run_dir)
    shutil.copytree(whole.run_dir, cut.path)
    shutil.copy(cut.checkpoints / "epoch-0001.ckpt", cut.last_checkpoint)
    cut.encoder_file.unlink()
    as_version_two(cut)
    resumed = config("cut", epochs=2, checkpoint_every=1, resume=True, **changes)
    pretrain(resumed, images=digits, encoder=small(), views=VIEWS)
    assert same(weights(cut.path), weights(whole.run_dir))


def test_a_queue_with_columns_of_positions_is_refused(config, digits, small):
    """Version 0.2 kept the positions of frames as columns of the queued features."""
    settings = config("run", epochs=2, checkpoint_every=1, method="moco", queue_size=64, bn_splits=2)
    pretrain(settings, images=digits, encoder=small(), views=VIEWS)
    run = Run(settings.run_dir)
    content = torch.load(run.checkpoints / "epoch-0001.ckpt", weights_only=True)
    queue = content["state_dict"]["method.loss.queue_h"]
    content["state_dict"]["method.loss.queue_h"] = torch.cat([queue, queue[:, :2]], dim=1)
    torch.save(content, run.last_checkpoint)
    resumed = config("run", epochs=2, checkpoint_every=1, method="moco", queue_size=64, bn_splits=2, resume=True)
    with pytest.raises(RunError, match=r"queue_h' of shape .*resume with the encoder that the run was started with"):
        pretrain(resumed, images=digits, encoder=small(), views=VIEWS)
