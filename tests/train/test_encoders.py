import pytest
import torch
from torch import nn

from pairsift.train import ImageEncoder, Projector, build_encoder
from pairsift.train.encoders import n_features


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("name", "dimensions", "parameters"), [("resnet18", 512, 11_168_832), ("resnet-small", 128, 696_320)]
)
def test_encoders_by_name(name, dimensions, parameters):
    encoder = build_encoder(name)
    if name == "resnet18":  # the published CIFAR form: 11.17 million without the classifier
        assert count(encoder) == parameters
    else:
        assert abs(count(encoder) - parameters) < 50_000
    assert encoder(torch.rand(3, 3, 32, 32)).shape == (3, dimensions)
    assert encoder(torch.rand(2, 3, 20, 28)).shape == (2, dimensions)
    assert n_features(encoder, (3, 32, 32)) == dimensions


def test_the_cifar_form_keeps_the_resolution_in_its_stem():
    stem = build_encoder("resnet18").layers[:3]
    assert stem(torch.rand(2, 3, 32, 32)).shape == (2, 64, 32, 32)


@pytest.mark.parametrize("name", ["timm:resnet18", "torchvision:resnet18"])
def test_libraries_that_are_not_there_are_named(name, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, name.partition(":")[0], None)  # as if not installed
    with pytest.raises(
        ValueError, match=r"needs a (timm|torchvision) that works with the installed torch: pip install"
    ):
        build_encoder(name)


@pytest.mark.parametrize("name", ["resnet50", "timm:", "hub:resnet18", ""])
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match="use resnet-small, resnet18, mlp, timm:NAME or torchvision:NAME"):
        build_encoder(name)


@pytest.mark.parametrize(("module", "got"), [(nn.Identity(), r"\(2, 3, 8, 8\)"), (nn.Flatten(0), r"\(384,\)")])
def test_encoders_must_give_one_vector_an_image(module, got):
    with pytest.raises(ValueError, match=f"two images gave {got}"):
        n_features(module, (3, 8, 8))


def test_n_features_leaves_the_encoder_as_it_was():
    encoder = build_encoder("resnet-small").train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    n_features(encoder, (3, 8, 8))
    assert encoder.training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_inputs_are_normalised_by_the_saved_statistics():
    encoder = ImageEncoder(nn.Flatten(), mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    images = torch.rand(2, 3, 4, 4)
    expected = (images - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)
    torch.testing.assert_close(encoder(images), expected.flatten(1))
    other = ImageEncoder(nn.Flatten())
    other.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(other(images), expected.flatten(1))


def test_projector_is_a_two_layer_mlp():
    projector = Projector(16, 32, 8)
    assert projector(torch.rand(5, 16)).shape == (5, 8)
    assert count(projector) == 16 * 32 + 2 * 32 + 32 * 8 + 8
