import io
import struct
import warnings

import numpy as np
import pytest
from conftest import encode, write_parquet
from PIL import Image

from pairsift.data import ArraySource, DataError, load_images
from pairsift.data.decoding import eight_bit, rgb, upright_size

# A ramp of 32 levels of grey, (24, 32) in [0, 1].
RAMP = np.tile(np.linspace(0, 1, 32), (24, 1))
SHOWN = np.rint(RAMP * 255)


def stored(image, kind, **options):
    """The image as it comes back from a file."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return Image.open(io.BytesIO(stream.getvalue()))


def grey(mode):
    between = {"La": "LA", "PA": "LA", "HSV": "RGB", "RGBX": "RGB"}
    return Image.fromarray(SHOWN.astype(np.uint8)).convert(between.get(mode, "L")).convert(mode)


def pgm(values):
    """Grey of 16 bits in a PGM file, which some versions of Pillow read and do not write."""
    return Image.open(io.BytesIO(b"P5 32 24 65535\n" + np.rint(values).astype(">u2").tobytes()))


def twelve_bits(values):
    """Grey of 12 bits in a TIFF, as scanners and microscopes write it; two pixels share three bytes."""
    pixels = np.rint(values).astype(np.uint16)
    first, second = pixels[:, ::2], pixels[:, 1::2]
    packed = (
        np.stack([first >> 4, ((first & 15) << 4) | (second >> 8), second & 255], axis=2).astype(np.uint8).tobytes()
    )
    tags = {256: 32, 257: 24, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 24, 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = struct.pack("<2sHI", b"II", 42, 8 + len(packed))
    return Image.open(io.BytesIO(head + packed + struct.pack("<H", len(tags)) + entries + bytes(4)))


DEEP = {
    "12-bit TIFF": lambda: twelve_bits(RAMP * 4095),
    "16-bit PNG": lambda: stored(Image.fromarray((RAMP * 65535).astype("u2")), "PNG"),
    "16-bit TIFF": lambda: stored(Image.fromarray((RAMP * 65535).astype("u2")), "TIFF"),
    "16-bit PGM": lambda: pgm(RAMP * 65535),
    "big endian": lambda: Image.fromarray((RAMP * 65535).astype(">u2")),
    "16 bits in 32": lambda: stored(Image.fromarray((RAMP * 65535).astype("i4")), "TIFF"),
    "8 bits in 32": lambda: stored(Image.fromarray((RAMP * 255).astype("i4")), "TIFF"),
    "32 bits": lambda: stored(Image.fromarray((RAMP * (2**31 - 1)).astype("i4")), "TIFF"),
    "floats to 1": lambda: stored(Image.fromarray(RAMP.astype("f4")), "TIFF"),
    "floats to 255": lambda: stored(Image.fromarray((RAMP * 255).astype("f4")), "TIFF"),
    "floats to 65,535": lambda: stored(Image.fromarray((RAMP * 65535).astype("f4")), "TIFF"),
}
FLAT = ("L", "P", "PA", "LA", "La", "RGBX", "HSV", "RGBA")


@pytest.mark.parametrize("image", DEEP.values(), ids=DEEP)
def test_deep_pixels_are_scaled_not_clipped(image):
    found = np.asarray(rgb(image()))
    assert found.shape == (24, 32, 3)
    assert np.abs(found.astype(int) - SHOWN[..., None]).max() <= 1


@pytest.mark.parametrize("mode", FLAT)
def test_modes_of_eight_bits_keep_their_pixels(mode):
    found = np.asarray(rgb(grey(mode)))
    assert np.abs(found.astype(int) - SHOWN[..., None]).max() <= 1


def test_a_dark_image_of_sixteen_bits_stays_dark():
    for image in (stored(Image.fromarray((RAMP * 255).astype("u2")), "PNG"), pgm(RAMP * 255)):
        assert np.asarray(rgb(image)).max() <= 1


def test_modes_of_colour():
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    for image in (Image.fromarray(red).convert("CMYK"), stored(Image.fromarray(red), "PNG").convert("P")):
        assert np.abs(np.asarray(rgb(image)).astype(int) - red).max() <= 1
    assert np.asarray(rgb(Image.new("1", (4, 4), 1))).min() == 255
    lab = Image.merge("LAB", [Image.new("L", (4, 4), value) for value in (136, 208, 195)])  # red in CIELAB
    assert np.asarray(rgb(lab))[0, 0, 0] > 240
    assert np.asarray(rgb(lab))[0, 0, 1:].max() < 30


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparent_pixels_are_laid_over_white(kind):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[0], pixels[1], pixels[2] = (255, 0, 0, 255), (0, 255, 0, 128), (9, 9, 9, 0)
    found = np.asarray(rgb(stored(Image.fromarray(pixels), kind, **({"lossless": True} if kind == "WEBP" else {}))))
    assert found[:3, 0].tolist() == [[255, 0, 0], [127, 255, 127], [255, 255, 255]]


def test_a_colour_may_stand_for_transparent():
    corner = np.full((4, 4), 200, np.uint8)
    corner[0, 0] = 7
    for image in (Image.fromarray(corner), Image.fromarray(corner).convert("P")):
        for kind in ("PNG", "GIF"):
            found = np.asarray(rgb(stored(image, kind, transparency=7)))
            assert found[0, 0].tolist() == [255, 255, 255]
            assert found[1, 1].tolist() == [200, 200, 200]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_datasets_turns_them(kind, orientation):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    held = Image.fromarray(np.kron(np.array([[0, 80, 160], [200, 240, 120]], np.uint8), np.ones((16, 16), np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    held.save(stream, kind, exif=exif)
    theirs = datasets.Image().decode_example({"bytes": stream.getvalue(), "path": None}).convert("RGB")
    image = Image.open(stream)
    size = upright_size(image)
    ours = rgb(image)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    assert size == (ours.height, ours.width) == ((48, 32) if orientation > 4 else (32, 48))
    np.testing.assert_array_equal(np.asarray(rgb(ours)), np.asarray(ours))


def test_damaged_orientation_is_no_damage_of_the_image():
    stream = io.BytesIO()
    Image.fromarray(SHOWN.astype(np.uint8)).save(stream, "JPEG", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert rgb(Image.open(stream)).size == (32, 24)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_taken_in_words(tmp_path, kind):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / f"b.{kind.lower()}", kind, save_all=True, append_images=frames[1:])
    frames[1].save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match=r"1 image holds several frames, the first at row 1: .* first frame is taken"):
        images = load_images(str(tmp_path))
    assert images.images[1, 0].min() > 250


def test_a_preview_of_a_camera_is_no_second_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=frames[1:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_images(str(tmp_path)).images.shape == (1, 3, 8, 8)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([[-1.0, 1.0]], "pixels go from -1 to 1: scale them"),
        ([[0.0, np.nan]], "not finite"),
        ([[0.0, 1e6]], r"up to 1e\+06, of no known range"),
    ],
)
def test_pixels_of_no_known_range_are_refused(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        eight_bit(np.array(values, np.float32))
    Image.fromarray(np.array(values, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=f"row 0 cannot be decoded .*{message}.*skip_corrupt"):
        load_images(str(tmp_path))
    np.save(tmp_path / "x.npy", np.array(values, np.float32)[None])
    with pytest.raises(DataError, match=f"x.npy: .*{message}"):
        load_images(str(tmp_path / "x.npy"))


@pytest.mark.parametrize(
    ("dtype", "top"), [("u1", 255), ("u2", 255), ("u2", 65535), ("f4", 1), ("f8", 255), ("i8", 255)]
)
def test_arrays_are_scaled_by_the_range_that_all_fill(tmp_path, dtype, top):
    np.save(tmp_path / "x.npy", np.stack([RAMP * top, RAMP * 0]).astype(dtype))
    found = load_images(str(tmp_path / "x.npy")).images
    assert np.abs(found[0].astype(int) - SHOWN).max() <= 1
    assert found[1].max() == 0


def test_arrays_with_alpha(pixels):
    alpha = np.zeros((12, 6, 8, 1), np.uint8)
    alpha[:6] = 255
    source = ArraySource(np.concatenate([pixels, alpha], axis=3))
    np.testing.assert_array_equal(source.images[:6], pixels[:6].transpose(0, 3, 1, 2))
    assert source.images[6:].min() == 255
    assert ArraySource(np.concatenate([pixels[..., :1], alpha], axis=3)).images.shape == (12, 3, 6, 8)


def test_hidden_files_are_no_images(tmp_path):
    for name in ("a.png", ".b.png", "._a.png", ".ipynb_checkpoints/a.png", "__MACOSX/._a.png", "cat/.hidden/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        grey("L").save(tmp_path / name)
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    assert load_images(str(tmp_path)).paths == ["a.png"]
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.parquet").write_bytes(b"x")
    (tmp_path / "._x.parquet").write_bytes(b"x")
    assert load_images(str(tmp_path)).paths == ["a.png"]


def test_every_source_decodes_alike(tmp_path):
    """A folder, a table and `datasets` give the same pixels of a deep and a turned image."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, deep = io.BytesIO(), io.BytesIO()
    Image.fromarray(SHOWN.astype(np.uint8).T).save(turned, "PNG", exif=exif)
    Image.fromarray((RAMP * 65535).astype("u2")).save(deep, "PNG")
    (tmp_path / "folder").mkdir()
    for name, stream in (("a.png", turned), ("b.png", deep)):
        (tmp_path / "folder" / name).write_bytes(stream.getvalue())
    table = write_parquet(tmp_path / "x.parquet", [turned.getvalue(), deep.getvalue()])
    datasets.Dataset.from_parquet(table, cache_dir=str(tmp_path / "cache")).save_to_disk(tmp_path / "saved")
    found = [load_images(str(name)).images for name in (tmp_path / "folder", table, tmp_path / "saved")]
    assert found[0].shape == (2, 3, 24, 32)
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_eight_bits_stay_bit_for_bit(pixels):
    for image in map(Image.fromarray, pixels):
        np.testing.assert_array_equal(np.asarray(rgb(image)), np.asarray(image))
        jpeg = Image.open(io.BytesIO(encode(np.asarray(image), "JPEG")))
        np.testing.assert_array_equal(np.asarray(rgb(jpeg)), np.asarray(jpeg.convert("RGB")))
