"""Mask files of every kind: read where they can only be two classes, else refused by name."""

import unicodedata

import numpy as np
import pytest
from mask_kinds import MORE_THAN_TWO, TWO_CLASSES, shapes
from PIL import Image

from train import train
from training.config import read_config
from training.images import read_split, read_splits
from training.mask_options import mask_options
from training.masks import IGNORED, read_mask

COUNT = 5  # of each kind; 70 in the long lane, 2,240 in all
SOFT = ("antialiased", "blurred", "enlarged", "jpeg", "jpeg in colour", "png of a jpeg")
REFUSED = 0.05  # fraction of soft masks that may be refused, as a third grey may be in them
LOSSY = 0.03  # fraction of the pixels that JPEG may move over the border


def check_two_classes(tmp_path, name, rng) -> bool:
    """Checks one mask, and returns whether it is read."""
    drawn = TWO_CLASSES[name](rng)
    path = tmp_path / f"mask.{drawn.kind.lower()}"
    drawn.picture.save(path, drawn.kind, **drawn.options)
    try:
        mask = read_mask(path, mask_options())
    except ValueError:
        return False
    wrong = (mask.labels != drawn.truth).mean()
    assert wrong <= (LOSSY if "jpeg" in name else 0)
    if mask.labels.any():
        assert mask.bright == (1 if name == "0 and 1" else 255)
    return True


def check_refused(tmp_path, name, rng) -> None:
    drawn = MORE_THAN_TWO[name](rng)
    values = np.asarray(drawn.picture)
    if len(np.unique(values.reshape(-1, *values.shape[2:]), axis=0)) < 2:
        return  # by chance, one shape covers all
    path = tmp_path / f"mask.{drawn.kind.lower()}"
    drawn.picture.save(path, drawn.kind, **drawn.options)
    with pytest.raises(ValueError) as raised:
        read_mask(path, mask_options())
    message = str(raised.value)
    assert message.startswith(str(path)) and "\n" not in message
    assert "data.foreground" in message or "data.alpha" in message


@pytest.mark.parametrize("name", TWO_CLASSES)
def test_two_classes_are_read(tmp_path, name, rng):
    read = sum(check_two_classes(tmp_path, name, rng) for _ in range(COUNT))
    assert read >= COUNT - (name in SOFT)


@pytest.mark.parametrize("name", MORE_THAN_TWO)
def test_everything_else_is_refused(tmp_path, name, rng):
    for _ in range(COUNT):
        check_refused(tmp_path, name, rng)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TWO_CLASSES, *MORE_THAN_TWO])
def test_two_thousand_masks(tmp_path, name):
    rng, count = np.random.default_rng(1), 70
    if name in TWO_CLASSES:
        read = sum(check_two_classes(tmp_path, name, rng) for _ in range(count))
        assert read >= count * (1 - REFUSED * (name in SOFT))
        return
    for _ in range(count):
        check_refused(tmp_path, name, rng)


def folder_of(root, masks):
    """A folder of one image for each mask, {name: values or a picture}."""
    for kind in ("img", "mask"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    for name, mask in masks.items():
        if not isinstance(mask, Image.Image):
            mask = Image.fromarray(np.asarray(mask, np.uint8))
        mask.save(root / "mask" / f"{name}.png")
        Image.new("RGB", mask.size, (90, 120, 60)).save(root / "img" / f"{name}.png")
    return root


def rows(*values):
    return np.repeat(np.array(values), 6)[:, None].repeat(20, axis=1)


@pytest.mark.parametrize(
    ("mask", "options", "expected"),
    [
        (rows(0, 1, 2, 255), {"foreground": [1, 2], "ignore": [255]}, [0, 1, 1, IGNORED]),
        (rows(0, 1, 255), {"ignore": 255}, [0, 1, IGNORED]),
        (rows(0, 128, 255), {"ignore": [128]}, [0, IGNORED, 1]),
        (rows(0, 128, 255), {"foreground": [128]}, [0, 1, 0]),
        (rows(0, 1), {"foreground": [0]}, [1, 0]),
        (rows(0, 12, 255), {"foreground": [12], "ignore": [255]}, [0, 1, IGNORED]),
        (rows(0, 128, 255), {"foreground": [[128, 128, 128]]}, [0, 1, 0]),
    ],
)
def test_options_read_values(tmp_path, mask, options, expected):
    split = read_split(folder_of(tmp_path, {"a": mask}), mask.shape, **options)
    np.testing.assert_array_equal(split.masks[0, ..., 0], rows(*expected))


def test_options_read_colours_and_palette_indices(tmp_path):
    colours = np.zeros((12, 20, 3), np.uint8)
    colours[6:] = 128, 0, 0
    folder_of(tmp_path, {"a": Image.fromarray(colours)})
    with pytest.raises(ValueError, match=r"a.png has the colours \[0, 0, 0\], \[128, 0, 0\]: exp"):
        read_split(tmp_path, (12, 20))
    for foreground in ("#800000", [[128, 0, 0]]):
        split = read_split(tmp_path, (12, 20), foreground=foreground)
        np.testing.assert_array_equal(split.masks[0, ..., 0], rows(0, 1))
    indexed = Image.fromarray(rows(0, 1).astype(np.uint8)).convert("P")
    indexed.putpalette([0, 0, 0, 128, 0, 0])
    folder_of(tmp_path, {"a": indexed})
    with pytest.raises(
        ValueError, match=r"the palette entries 0 \[0, 0, 0\], 1 \[128, 0, 0\]: expected"
    ):
        read_split(tmp_path, (12, 20))
    for foreground in (1, "#800000"):
        split = read_split(tmp_path, (12, 20), foreground=foreground)
        np.testing.assert_array_equal(split.masks[0, ..., 0], rows(0, 1))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_the_alpha_channel_is_the_mask_or_means_nothing(tmp_path, mode):
    shape, other = rows(0, 255, 0), rows(0, 0, 255)
    picture = Image.fromarray(other.astype(np.uint8)).convert(mode)
    picture.putalpha(Image.fromarray(shape.astype(np.uint8)))
    folder_of(tmp_path, {"a": picture})
    with pytest.raises(ValueError, match="a.png has an alpha channel with the values 0, 255, and"):
        read_split(tmp_path, shape.shape)
    for alpha, expected in (("mask", shape), ("ignore", other)):
        split = read_split(tmp_path, shape.shape, alpha=alpha)
        np.testing.assert_array_equal(split.masks[0, ..., 0], expected == 255)


def test_alpha_and_colours_that_say_the_same_need_no_option(tmp_path):
    picture = Image.fromarray(rows(0, 255).astype(np.uint8)).convert("RGBA")
    picture.putalpha(picture.getchannel("R"))
    split = read_split(folder_of(tmp_path, {"a": picture}), (12, 20))
    np.testing.assert_array_equal(split.masks[0, ..., 0], rows(0, 1))


def test_a_soft_mask_keeps_its_edges_with_foreground_named(tmp_path, rng):
    soft = shapes(rng, [255], 2, scale=4, size=(60, 80)).resize((80, 60), Image.Resampling.BOX)
    folder_of(tmp_path, {"a": soft})
    plain = read_split(tmp_path, (60, 80)).masks
    np.testing.assert_array_equal(read_split(tmp_path, (60, 80), foreground=255).masks, plain)
    np.testing.assert_array_equal(read_split(tmp_path, (60, 80), foreground=0).masks, 1 - plain)


def test_0_and_1_beside_255_is_refused_wherever_it_is(tmp_path):
    for name, bright in (("train", 1), ("val", 255), ("test", 1)):
        folder_of(tmp_path / name, {"a": rows(0, bright), "b": rows(0)})
    read_split(tmp_path / "train", (12, 20))
    with pytest.raises(ValueError, match="Foreground is 1 in .*train.* and 255 in .*val"):
        read_splits(tmp_path, (12, 20))


@pytest.mark.parametrize(("value", "word"), [(0, "background"), (1, "foreground"), (255, "fore")])
def test_a_split_of_one_class_is_said(tmp_path, value, word):
    folder_of(tmp_path, {"a": rows(value), "b": rows(value)})
    with pytest.raises(ValueError, match=f"mask are all {word}.*: nothing can be learned"):
        read_split(tmp_path, (6, 20))


def test_names_that_differ_in_normalisation_are_one(tmp_path):
    folder_of(tmp_path, {"a": rows(0, 255)})
    name = "Straße é ü"
    assert unicodedata.normalize("NFC", name) != unicodedata.normalize("NFD", name)
    for kind, form in (("img", "NFC"), ("mask", "NFD")):
        path = tmp_path / kind / "a.png"
        path.rename(path.with_name(unicodedata.normalize(form, name) + ".png"))
    assert read_split(tmp_path, (12, 20)).names == (unicodedata.normalize("NFC", name),)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("{foreground: [300000]}", "expected grey values or palette indices, or colours"),
        ("{foreground: []}", "data.foreground"),
        ("{ignore: [[1, 2]]}", "expected grey values"),
        ("{alpha: shape}", "data.alpha"),
        ("{foreground: [1], ignore: [1]}", "must differ. Received: 1 in both"),
    ],
)
def test_an_impossible_option_is_one_line(tmp_path, data, problem):
    path = tmp_path / "run.yaml"
    path.write_text(f"data: {data}\n")
    with pytest.raises(ValueError, match=problem) as raised:
        read_config(path)
    assert "\n" not in str(raised.value)


def test_a_configuration_of_version_0_1_names_one_value_to_ignore(tmp_path):
    path = tmp_path / "run.yaml"
    for text, expected in (("100", (100,)), ("null", ())):
        path.write_text(f"model: {{name: nano_u}}\ndata: {{ignore_value: {text}}}\n")
        assert read_config(path).data.masks.ignore == expected


@pytest.mark.slow
def test_a_run_says_the_share_of_foreground(tmp_path, capsys):
    for name in ("train", "val", "test"):
        folder_of(tmp_path / "data" / name, {"a": rows(0, 2), "b": rows(2, 1)})
    config = tmp_path / "run.yaml"
    config.write_text(
        "model: {filters: [2, 4], bottleneck: 4, input_size: [12, 20]}\ndata: {foreground: [2]}\n"
    )
    train("nano_u", 1, config=config, data=tmp_path / "data", output=tmp_path / "run", verbose=2)
    said = capsys.readouterr().out
    assert "Foreground: train 50.0 %, val 50.0 %, test 50.0 % of the pixels" in said
