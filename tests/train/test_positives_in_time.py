from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from training_runs import crash, numbers, same, weights

from pairsift.data import DataError
from pairsift.evaluate import knn
from pairsift.temporal import load_sequences
from pairsift.train import ConfigError, Run, embed, pretrain
from pairsift.train.data import order_of, training_images


@pytest.fixture
def walks(tmp_path):
    """24 sequences of 12 frames: noisy walks about one of four places in 8 dimensions, classed by place."""
    rng = np.random.default_rng(0)
    places = 3 * rng.standard_normal((4, 8))
    steps = 0.4 * rng.standard_normal((24, 12, 8)).cumsum(axis=1)
    frames = places[np.arange(24) % 4][:, None] + steps + rng.standard_normal((24, 12, 8))
    file = tmp_path / "walks.parquet"
    pq.write_table(pa.table({"frames": frames.tolist(), "label": np.arange(24) % 4}), file)
    return str(file)


@pytest.fixture
def in_time(config, walks):
    """The configuration of a run on the walks."""

    def make(run="run", **changes):
        return config(run, **{"data": walks, "positives": "temporal", "lags": "1,2"} | changes)

    return make


def test_pairs_are_neighbours_in_one_sequence(in_time):
    frames = training_images(in_time(lags="2,3"))
    n, draw = order_of(frames)
    drawn = draw(np.random.default_rng(0))
    first, second = drawn.T
    assert n == 24 * 10  # the last two frames of a sequence have no later ones
    assert (frames.sequences[first] == frames.sequences[second]).all()
    assert set(second - first) == {2, 3}
    assert np.unique(drawn, axis=0, return_counts=True)[1].max() <= 2  # of 408 pairs, evenly


@pytest.mark.parametrize("method", ["simclr", "moco", "spectral"])
@pytest.mark.parametrize("positives", ["temporal", "both"])
def test_every_method_learns(in_time, method, positives):
    result = pretrain(in_time(method=method, positives=positives, epochs=6, queue_size=64))
    losses = [row["loss"] for row in result.metrics]
    assert losses[-1] < losses[0]


def test_a_run_is_saved_by_sequences_and_opened_again(in_time, walks):
    settings = in_time(epochs=8, save_features=True)
    pretrain(settings)
    run = Run.open(settings.run_dir)
    table = pq.read_table(run.features_file)
    features, labels = np.stack(table["features"].to_numpy()), table["label"].to_numpy()
    assert features.shape == (24, 128)
    assert knn(features[:16], labels[:16], features[16:], labels[16:], k=3) > 0.7  # a quarter by chance
    frames = embed(run.load_encoder(), load_sequences(walks))
    np.testing.assert_allclose(frames[:12].mean(axis=0), features[0], atol=1e-5)


class Noise:
    """A policy of frames, which a power cut stops at one of its calls."""

    def __init__(self, last=None):
        self.calls, self.last = 0, last

    def __call__(self, frames):
        self.calls += 1
        return crash(frames) if self.calls == self.last else frames + 0.1 * torch.randn_like(frames)


@pytest.mark.parametrize("changes", [{"window": 2, "treatment": "combined"}, {"positives": "both", "method": "moco"}])
def test_a_resumed_run_ends_as_an_uninterrupted_one(in_time, changes):
    changes = {"queue_size": 64, "checkpoint_every": 1} | changes
    whole, cut = in_time("whole", **changes), in_time("cut", **changes)
    pretrain(whole, views=Noise())
    with pytest.raises(RuntimeError, match="power cut"):
        pretrain(cut, views=Noise(last=31))  # of 48
    pretrain(cut.model_copy(update={"resume": True}), views=Noise())
    assert same(weights(whole.run_dir), weights(cut.run_dir))
    assert numbers(whole.run_dir) == numbers(cut.run_dir)


def test_a_window_spares_frames_that_are_near_in_time(in_time):
    treated = {"treatment": "combined", "band_start": 0.05, "band_stop": 0.5}
    flagged = [pretrain(in_time(f"w{w}", window=w, **treated)).metrics[-1]["flagged"] for w in (0, 11)]
    assert flagged[1] < flagged[0]


def test_images_may_be_frames(in_time, tmp_path):
    rng, images = np.random.default_rng(0), []
    for _ in range(64):
        data = BytesIO()
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(data, "png")
        images.append({"bytes": data.getvalue(), "path": None})
    file = tmp_path / "film.parquet"
    pq.write_table(pa.table({"image": images, "sequence": np.arange(64) // 8}), file)
    result = pretrain(in_time(data=str(file), encoder="resnet-small", epochs=1))
    assert torch.isfinite(torch.tensor(result.metrics[-1]["loss"]))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"lags": 0}, ConfigError, "lags must be different whole numbers of steps, each >= 1, got 0"),
        ({"lags": "1,x"}, ConfigError, "unable to parse"),
        ({"lags": "1,2", "lag_weights": "1"}, ConfigError, "weights"),
        ({"lags": 12}, DataError, "lag"),
        ({"batch_size": 500}, DataError, r"batch_size=500 is larger than the data \(264 frames"),
        ({"mix": 0.2}, ConfigError, "mix=0.2 is for sets of images"),
        ({"treatment": "auto", "affinity_start": 1}, ConfigError, "leave it out with positives='temporal'"),
        ({"encoder": "resnet-small"}, ConfigError, "use `encoder='mlp'`"),
        ({"positives": "views", "lags": "1,2"}, ConfigError, "set `positives='temporal'`"),
        ({"positives": "views", "lags": 1, "window": 3}, ConfigError, "window=3 is for positives from time"),
        ({"data": "digits:train"}, DataError, "need sequences"),
    ],
)
def test_what_does_not_go_together_is_refused(in_time, changes, error, message):
    with pytest.raises(error, match=message):
        pretrain(in_time(**changes))


def test_short_sequences_are_named(in_time, tmp_path):
    file, said = tmp_path / "short.parquet", []
    pq.write_table(pa.table({"frames": [[[0.0]], *([[[0.0], [1.0], [2.0]]] * 20)]}), file)
    pretrain(in_time(data=str(file), epochs=1), say=said.append)
    assert any("left out 1 of 21 sequences, too short for any lag: 0 (1 frame)" in line for line in said)


def test_given_images_must_be_frames(in_time, digits):
    with pytest.raises(DataError, match="needs frames of sequences, got ImageSet"):
        training_images(in_time(), digits)
