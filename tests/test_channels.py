"""Images of one channel or many, of 8 bits or more."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from training.augmentation import augment
from training.data import batches, training_batches
from training.pixels import read_pixels, resize, shown
from training.scaling import EIGHT_BITS, Scaling
from training.settings import AugmentationConfig, Config
from training.split import Split


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp"])
def test_eight_bits_are_read_as_pillow_has_them(tmp_path, rng, channels, suffix):
    if suffix == ".bmp" and channels == 4:
        pytest.skip("BMP of Pillow has no alpha")
    pixels = rng.integers(0, 256, (5, 6, channels), np.uint8)
    pixels[..., 3:] = 200
    path = tmp_path / f"image{suffix}"
    Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels).save(path, lossless=True)
    found = read_pixels(path, channels)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 5, 12])
@pytest.mark.parametrize("suffix", [".tif", ".npy"])
def test_many_channels_are_those_of_the_file(tmp_path, rng, dtype, channels, suffix):
    pixels = (rng.uniform(0, 255, (5, 6, channels)) * (1 if dtype == np.uint8 else 100)).astype(
        dtype
    )
    path = tmp_path / f"image{suffix}"
    if suffix == ".npy":
        np.save(path, pixels)
    else:
        tifffile.imwrite(
            path,
            pixels.squeeze(-1) if channels == 1 else pixels,
            photometric="minisblack",
            planarconfig=None if channels == 1 else "contig",
        )
    found = read_pixels(path, channels)
    assert found.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    np.testing.assert_array_equal(found, pixels)
    assert shown(found).shape == (5, 6, 3) and shown(found).dtype == np.uint8


def test_a_deep_grey_png_keeps_its_values(tmp_path):
    pixels = np.array([[0, 300], [4000, 65535]], np.uint16)
    Image.fromarray(pixels).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_pixels(tmp_path / "deep.png", 1)[..., 0], pixels)


@pytest.mark.parametrize(
    ("array", "channels", "message"),
    [
        (np.zeros((4, 5, 3)), 5, r"expected \(height, width, 5\).*\(4, 5, 3\); set data.channels"),
        (np.zeros((5, 8, 9)), 5, r"\(5, 8, 9\); move its first axis to the end"),
        (np.full((2, 2, 5), np.nan), 5, "expected finite numbers"),
        (np.zeros((2, 2, 5), "c8"), 5, "expected finite numbers. Received: complex64"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, array, channels, message):
    path = tmp_path / "image.npy"
    np.save(path, array)
    with pytest.raises(ValueError, match=message):
        read_pixels(path, channels)


def test_files_that_cannot_have_the_channels_are_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "rgb.png")
    with pytest.raises(ValueError, match="has no alpha channel, and data.channels is 4"):
        read_pixels(tmp_path / "rgb.png", 4)
    with pytest.raises(ValueError, match="expected a TIFF or .npy, which have 6 channels"):
        read_pixels(tmp_path / "rgb.png", 6)
    (tmp_path / "torn.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(ValueError, match="cannot be read as an array"):
        read_pixels(tmp_path / "torn.npy", 3)
    (tmp_path / "torn.tif").write_bytes(b"II*\0")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        read_pixels(tmp_path / "torn.tif", 6)


def test_each_channel_is_resized_as_pillow_does(rng):
    pixels = rng.uniform(0, 4000, (8, 10, 5)).astype(np.float32)
    found = resize(pixels, (4, 5))
    for channel in range(5):
        picture = Image.fromarray(pixels[..., channel]).resize((5, 4), Image.Resampling.BILINEAR)
        np.testing.assert_array_equal(found[..., channel], np.asarray(picture))


def test_the_default_scaling_is_its_formula():
    images = np.arange(256, dtype=np.uint8)
    expected = (images.astype(np.float32) / 255.0 - 0.5) / 0.5
    np.testing.assert_array_equal(EIGHT_BITS(images), expected)


def test_datasets_scale_by_mean_and_scale(rng):
    images = rng.uniform(0, 4000, (6, 8, 8, 5)).astype(np.float32)
    masks = rng.integers(0, 2, (6, 8, 8, 1)).astype(np.uint8)
    scaling = Scaling((100.0, 200.0, 300.0, 400.0, 500.0), (50.0,) * 5)
    split = Split(images, masks, tuple("abcdef"), scaling)
    expected = (images - np.array(scaling.mean)) / np.array(scaling.scale)
    found = np.concatenate([batch[0] for batch in batches(split, 4)])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(split.inputs, expected, rtol=1e-5, atol=1e-5)
    still = AugmentationConfig(horizontal_flip=False, brightness=0.0)
    trained = training_batches(split, 6, epochs=1, seed=0, augmentation=still)
    drawn = np.concatenate([batch[0] for batch in trained])
    np.testing.assert_allclose(
        np.sort(drawn, axis=0), np.sort(expected, axis=0), rtol=1e-4, atol=1e-3
    )


def test_brightness_moves_other_images_as_it_moves_rgb(rng):
    images = rng.integers(60, 200, (4, 6, 6, 3)).astype(np.uint8)
    masks = np.zeros((4, 6, 6, 1), np.uint8)
    scaling = Scaling((127.5,) * 3, (127.5,) * 3)
    bright = AugmentationConfig(horizontal_flip=False, brightness=0.2)
    plain, deep = (
        augment(images, masks, (0, 1), augmentation=bright, scaling=each)[0].numpy()
        for each in (EIGHT_BITS, scaling)
    )
    np.testing.assert_allclose(plain, deep, atol=1e-3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"channels": 13}, "data.channels: input should be less than or equal to 12"),
        ({"mean": 3}, "expected mean and scale, or neither"),
        ({"mean": [1, 2], "scale": [1, 1]}, "mean: expected 1 or 3 numbers"),
        ({"mean": 3, "scale": 0}, "data.scale.0: input should be greater than 0"),
        ({"channels": 1, "augmentation": {"hue": 0.1}}, "hue need channels: 3"),
    ],
)
def test_impossible_settings_are_refused(data, message):
    from training.config import validate

    with pytest.raises(ValueError, match=message):
        validate({"data": data}, source="settings")


def test_one_number_is_that_of_every_channel():
    data = Config.model_validate({"data": {"channels": 2, "mean": 3, "scale": 4.5}}).data
    assert data.scaling == Scaling((3.0, 3.0), (4.5, 4.5))


@pytest.fixture(scope="module")
def deep_folder(tmp_path_factory):
    """A data folder of 5 channels of 12 bits."""
    root = tmp_path_factory.mktemp("data") / "deep"
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for kind in ("img", "mask"):
            (root / split / kind).mkdir(parents=True)
        for number in range(4):
            pixels = rng.integers(0, 4096, (24, 32, 5)).astype(np.uint16)
            np.save(root / split / "img" / f"{number}.npy", pixels)
            np.save(
                root / split / "mask" / f"{number}.npy", (pixels[..., 0] > 2000).astype(np.uint8)
            )
    return root


def test_a_run_of_five_channels(deep_folder, tmp_path):
    from train import train

    config = tmp_path / "deep.yaml"
    text = f"data: {{root: {deep_folder}, channels: 5}}\nmodel: {{input_size: [24, 32]}}\n"
    config.write_text(text)
    with pytest.raises(ValueError, match=r"more than 8 bits.*data.mean and data.scale.*mean: \[20"):
        train(config=config, epochs=1, output=tmp_path / "run", verbose=0)
    config.write_text(text.replace("channels: 5", "channels: 5, mean: 2048, scale: 2048"))
    model, _ = train(
        config=config, epochs=1, output=tmp_path / "run", export_format="int8", verbose=0
    )
    assert model.input_shape == (None, 24, 32, 5)
    params = json.loads((tmp_path / "run" / "model_int8_quant_params.json").read_text())
    assert params["input"]["shape"] == [1, 24, 32, 5]
    np.testing.assert_allclose(params["normalization"]["std"], [2048 / 255] * 5)
    small, _ = train(
        narrow={"parent": str(tmp_path / "run"), "parameters": 3500},
        epochs=1,
        output=tmp_path / "small",
        verbose=0,
    )
    assert small.input_shape == (None, 24, 32, 5)
