import math

import kornia
import pytest
import torch
import torch.nn.functional as F

from pairsift.data import NoisyFrames, SimCLRViews, make_views, views


@pytest.fixture
def images():
    images = torch.rand(24, 3, 20, 16, generator=torch.Generator().manual_seed(0))
    images[0] = 0.5  # grey: no hue
    images[1, :, :, :8] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]  # pure colours and black
    images[2] = 0
    return images


def factors(low, high):
    return torch.empty(24).uniform_(low, high, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("ours", "theirs", "parameter"),
    [
        (views.adjust_brightness_, kornia.enhance.adjust_brightness_accumulative, factors(0.2, 1.8)),
        (views.adjust_contrast_, kornia.enhance.adjust_contrast_with_mean_subtraction, factors(0, 2)),
        (views.adjust_saturation_, kornia.enhance.adjust_saturation_with_gray_subtraction, factors(0, 2)),
        (views.adjust_hue_, lambda x, t: kornia.enhance.adjust_hue(x, t * 2 * math.pi), factors(-0.5, 0.5)),
    ],
)
def test_colour_transforms_equal_kornias(images, ours, theirs, parameter):
    expected = theirs(images, parameter)
    assert ours(images, parameter) is images
    torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)


def test_greyscale_equals_kornias(images):
    torch.testing.assert_close(views.greyscale(images), kornia.color.rgb_to_grayscale(images), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [(20, 16), (32, 40), (7, 5)])
def test_resized_crop_equals_cropping_then_resizing(images, size):
    generator = torch.Generator().manual_seed(2)
    box = torch.stack([torch.randint(4, limit + 1, (24,), generator=generator) for limit in (20, 16)], dim=1)
    corner = (torch.rand(24, 2, generator=generator) * (torch.tensor([20, 16]) - box + 1)).long()
    flip = torch.rand(24, generator=generator) < 0.5
    found = views.resized_crop(images, torch.cat([corner, box], dim=1), size, flip)
    for i in range(24):
        (top, left), (height, width) = corner[i].tolist(), box[i].tolist()
        crop = images[i : i + 1, :, top : top + height, left : left + width]
        expected = F.interpolate(crop, size, mode="bilinear", antialias=True)
        expected = expected.flip(3) if flip[i] else expected
        torch.testing.assert_close(found[i : i + 1], expected, atol=1e-5, rtol=0)


def test_crop_equals_kornias(images):
    boxes = torch.tensor([[2, 3, 10, 8]]).expand(24, 4)
    corners = torch.tensor([[[3, 2], [10, 2], [10, 11], [3, 11]]]).float().expand(24, 4, 2)
    expected = kornia.geometry.transform.crop_by_indices(images, corners, size=(20, 16), align_corners=False)
    torch.testing.assert_close(views.resized_crop(images, boxes, (20, 16)), expected, atol=1e-5, rtol=0)


def test_views_are_a_function_of_the_seed():
    images = torch.randint(0, 256, (150, 3, 16, 16), dtype=torch.uint8)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = make_views(images, SimCLRViews(), 7)
    assert torch.equal(torch.rand(1), expected)  # the caller's random stream is untouched
    again = make_views(images, SimCLRViews(), 7)
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    assert not torch.equal(first, second)
    assert not torch.equal(first, make_views(images, SimCLRViews(), 8)[0])
    assert first.shape == (150, 3, 16, 16)
    assert 0 <= first.min() <= first.max() <= 1


def test_every_part_of_the_policy_acts_as_often_as_it_should():
    n = 4000
    ramp = torch.linspace(0, 1, 8).expand(n, 3, 8, 8)
    still = dict(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0)
    torch.manual_seed(0)
    torch.testing.assert_close(SimCLRViews(**still)(ramp), ramp, atol=1e-6, rtol=0)
    flipped = SimCLRViews(**still | {"flip": 0.3})(ramp)[:, 0, 0, 0] > 0.5
    assert flipped.double().mean() == pytest.approx(0.3, abs=0.03)
    red = torch.zeros(n, 3, 8, 8)
    red[:, 0] = 0.8
    grey = SimCLRViews(**still | {"grey": 0.2})(red)[:, 1, 0, 0] > 0.1
    assert grey.double().mean() == pytest.approx(0.2, abs=0.03)
    changed = (SimCLRViews(**still | {"jitter": 0.8})(red) - red).abs().amax(dim=(1, 2, 3)) > 1e-4
    assert changed.double().mean() == pytest.approx(0.8, abs=0.03)
    bright = SimCLRViews(**still | {"jitter": 1.0, "contrast": 0, "saturation": 0, "hue": 0})(red)[:, 0, 0, 0] / 0.8
    assert bright.min() == pytest.approx(0.6, abs=0.01)
    assert bright.max() == pytest.approx(1.25, abs=0.01)  # clamped at white


def test_boxes_cover_the_range_of_areas_and_lie_inside():
    torch.manual_seed(0)
    boxes = SimCLRViews().draw_boxes(torch.empty(5000, 3, 64, 48))
    top, left, height, width = boxes.unbind(1)
    assert (boxes >= 0).all()
    assert (top + height <= 64).all()
    assert (left + width <= 48).all()
    share = (height * width).double() / (64 * 48)
    assert 0.18 < share.min() < 0.22
    assert share.max() > 0.9
    ratio = width / height
    assert 0.7 < ratio.min() < 0.8
    assert 1.2 < ratio.max() < 1.4
    tall = SimCLRViews(crop_scale=(1.0, 1.0)).draw_boxes(torch.empty(4, 3, 400, 10))
    assert tall.tolist() == [[0, 0, 400, 10]] * 4  # nothing fits: the whole image


def test_any_callable_and_kornia_pipelines_are_policies():
    images = torch.randint(0, 256, (10, 3, 16, 16), dtype=torch.uint8)
    policy = kornia.augmentation.AugmentationSequential(
        kornia.augmentation.RandomResizedCrop((8, 8)), kornia.augmentation.ColorJitter(0.4, 0.4, 0.4, 0.1)
    )
    first, second = make_views(images, policy, 1)
    assert first.shape == (10, 3, 8, 8)
    assert not torch.equal(first, second)
    assert torch.equal(first, make_views(images, policy, 1)[0])
    same, _ = make_views(images, lambda x: x, 1)
    assert torch.equal(same, images.float() / 255)
    with pytest.raises(ValueError, match=r"B = 10, got torch.float32 \(5, 3, 16, 16\)"):
        make_views(images, lambda x: x[:5], 1)
    with pytest.raises(ValueError, match="got int"):
        make_views(images, lambda x: 3, 1)


@pytest.mark.parametrize("settings", [{"crop_scale": (0.0, 1.0)}, {"hue": 0.6}, {"flip": 1.1}, {"crop_ratio": (2, 1)}])
def test_bad_policies_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        SimCLRViews(**settings)


@pytest.fixture(params=[torch.float64, torch.bfloat16, torch.float16])
def default_dtype(request):
    """Another default type than float32, set by calling it, and set back after the test."""
    yield lambda: torch.set_default_dtype(request.param)
    torch.set_default_dtype(torch.float32)


def test_views_do_not_depend_on_the_default_type(default_dtype):
    pixels = torch.randint(0, 256, (70, 3, 16, 16), dtype=torch.uint8)
    frames, statistics = torch.randn(9, 4), ([0.1, 0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 0.3])
    wanted = [*make_views(pixels, SimCLRViews(), 3), *make_views(frames, NoisyFrames(*statistics, 0.1), 3)]
    default_dtype()
    found = [*make_views(pixels, SimCLRViews(), 3), *make_views(frames, NoisyFrames(*statistics, 0.1), 3)]
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_views_keep_the_type_of_the_images(images, dtype):
    torch.manual_seed(0)
    expected = SimCLRViews()(images)
    torch.manual_seed(0)
    found = SimCLRViews()(images.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=1e-4 if dtype == torch.float64 else 0.03, rtol=0)


def test_images_of_another_form_are_refused(images):
    with pytest.raises(TypeError, match=r"floating point in \[0, 1\], got torch\.uint8: give images\.float\(\) / 255"):
        SimCLRViews()((images * 255).byte())
    for wrong in (images[0], images[:, :1], images.permute(0, 2, 3, 1)):
        with pytest.raises(ValueError, match=r"images must be \(B, 3, H, W\), got"):
            SimCLRViews()(wrong)
