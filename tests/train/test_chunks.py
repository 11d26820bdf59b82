import copy

import pytest
import torch
from torch import nn

import pairsift as ps
from pairsift.losses import NTXentLoss
from pairsift.pairs import RankBand
from pairsift.train import build_encoder, encode_in_chunks
from pairsift.treatments import Treatment


class Convolutions(nn.Sequential):
    """An encoder without batch norm."""

    def __init__(self, dropout=0.0):
        torch.manual_seed(0)
        super().__init__(
            nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Dropout(dropout), nn.Conv2d(8, 8, 3), nn.Flatten(),
            nn.Linear(128, 12),
        )  # fmt: skip


def step(encode, encoder, images):
    """Loss of a treated step, and the gradients of the encoder."""
    h = encode(images)
    loss = NTXentLoss(0.3, RankBand(0.1, 0.4), Treatment(0.1, 0.7))(*h.chunk(2), *h.chunk(2))
    return loss.detach(), torch.autograd.grad(loss, list(encoder.parameters()))


@pytest.mark.parametrize("chunk", [1, 5, 16, 26, 100])
def test_a_batch_in_chunks_is_a_whole_batch_without_batch_norm(chunk):
    encoder, images = Convolutions(), torch.rand(26, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    whole = step(encoder, encoder, images)
    chunked = step(lambda x: encode_in_chunks(encoder, x, chunk), encoder, images)
    torch.testing.assert_close(chunked, whole, rtol=1e-6, atol=1e-6)


def test_both_passes_draw_alike():
    encoder, images = Convolutions(dropout=0.5), torch.rand(12, 3, 8, 8)
    torch.manual_seed(3)
    features = torch.cat([encoder(part) for part in images.split(5)])
    loss = NTXentLoss(0.3)(*features.chunk(2))
    expected = torch.autograd.grad(loss, list(encoder.parameters()))
    torch.manual_seed(3)
    features = encode_in_chunks(encoder, images, 5)
    torch.rand(7)  # what is drawn between the passes must not matter
    found = torch.autograd.grad(NTXentLoss(0.3)(*features.chunk(2)), list(encoder.parameters()))
    torch.testing.assert_close(found, expected)


def test_batch_norm_sees_chunks_and_counts_them_once():
    torch.manual_seed(0)
    encoder, images = build_encoder("resnet-small"), torch.rand(24, 3, 8, 8)
    twin = copy.deepcopy(encoder)
    encode_in_chunks(encoder, images, 8).square().sum().backward()
    torch.cat([twin(part) for part in images.split(8)]).square().sum().backward()
    for (name, ours), theirs in zip(encoder.state_dict().items(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, msg=name)
    for (name, ours), theirs in zip(encoder.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, msg=name)
    norms = [module for module in encoder.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.1}
    assert {int(norm.num_batches_tracked) for norm in norms} == {3}


def test_activations_of_one_chunk_are_held_at_a_time():
    held, most = 0, 0

    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clone()

        @staticmethod
        def backward(ctx, upstream):
            nonlocal held
            held -= len(ctx.saved_tensors[0])
            return upstream

    class Layer(nn.Linear):
        def forward(self, x):
            nonlocal held, most
            if recomputing:
                held += len(x)
                most = max(most, held)
            return super().forward(Counted.apply(x))

    layer, recomputing = Layer(4, 4), False
    features = encode_in_chunks(layer, torch.randn(30, 4, requires_grad=True), 6)
    recomputing = True
    features.square().sum().backward()
    assert (most, held) == (6, 0)


def test_an_encoder_that_is_not_trained_needs_no_second_pass():
    encoder = Convolutions().requires_grad_(False)
    images = torch.rand(5, 3, 8, 8)
    assert not encode_in_chunks(encoder, images, 2).requires_grad


@pytest.mark.parametrize("chunk", [0, -3])
def test_a_chunk_has_rows(chunk):
    with pytest.raises(ValueError, match=f"mini_batch_size must be positive, got {chunk}"):
        encode_in_chunks(nn.Linear(2, 2), torch.zeros(3, 2), chunk)


@pytest.mark.parametrize(
    ("rows", "size", "expected"),
    [
        (64, 7, [7] * 4 + [6] * 6), (64, 16, [16] * 4), (3, 2, [3]), (5, 2, [3, 2]), (9, 4, [3] * 3),
        (4, 1, [1] * 4), (1, 4, [1]),
    ],
)  # fmt: skip
def test_parts_are_of_equal_size_and_none_is_of_one_row(rows, size, expected):
    seen = []

    class Seen(nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return x

    assert len(encode_in_chunks(Seen(), torch.ones(rows, 2), size)) == rows
    assert seen == expected


def test_batch_norm_of_one_view_is_refused_before_a_run_starts(tmp_path):
    config = ps.TrainConfig(data="digits:train", mini_batch_size=1, run_dir=tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match="mini_batch_size: the encoder has batch norm, which needs at least 2 views"):
        ps.pretrain(config)
    with pytest.raises(ValueError, match="the encoder has batch norm"):
        ps.pretrain(config.model_copy(update={"encoder": "mlp"}))
    assert not (tmp_path / "run").exists()
