"""Masks of several classes: read where every pixel has a class, else refused by their values."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from training.class_masks import IGNORED
from training.images import read_split, read_splits
from training.mask_options import class_names, mask_options
from training.masks import read_mask
from training.split import Splits, class_shares
from training.synthetic import synthetic_splits

NUMBERS = np.array([[0, 1, 2, 2], [0, 0, 1, 255]], np.uint8)
COLOURS = {"road": "#800000", "sky": [0, 0, 128], "bush": [[0, 128, 0], [0, 64, 0]]}


def saved(path, pixels, palette=None):
    picture = Image.fromarray(np.asarray(pixels, np.uint8))
    if palette is not None:
        picture = picture.convert("P") if picture.mode != "L" else picture
        picture = Image.frombytes("P", picture.size, np.asarray(pixels, np.uint8).tobytes())
        picture.putpalette([part for colour in palette for part in colour])
    picture.save(path)
    return path


def labels(path, **options):
    return read_mask(path, mask_options(**options)).labels.tolist()


def test_grey_values_are_class_numbers(tmp_path):
    path = saved(tmp_path / "mask.png", NUMBERS)
    assert labels(path, classes=3, ignore=255) == [[0, 1, 2, 2], [0, 0, 1, IGNORED]]


def test_palette_indices_are_class_numbers(tmp_path):
    palette = [(9, 9, 9), (200, 0, 0), (0, 200, 0)]
    path = saved(tmp_path / "mask.png", NUMBERS % 3, palette)
    assert labels(path, classes=["a", "b", "c"]) == (NUMBERS % 3).tolist()


@pytest.mark.parametrize("indexed", [False, True])
def test_colours_are_looked_up_in_a_table(tmp_path, indexed):
    colours = np.array([[128, 0, 0], [0, 0, 128], [0, 128, 0], [0, 64, 0], [255, 255, 255]])
    numbers = np.array([[0, 1, 2], [3, 4, 0]], np.uint8)
    if indexed:
        path = saved(tmp_path / "mask.png", numbers, colours.tolist())
    else:
        path = saved(tmp_path / "mask.png", colours[numbers])
    found = labels(path, colours=COLOURS, ignore=[[255, 255, 255]])
    assert found == [[0, 1, 2], [2, IGNORED, 0]]


@given(st.data())
def test_any_table_gives_each_pixel_its_class(tmp_path_factory, data):
    colour = st.tuples(*[st.integers(0, 255)] * 3)
    colours = data.draw(st.lists(colour, min_size=3, max_size=6, unique=True))
    pixels = data.draw(st.lists(st.integers(0, len(colours) - 1), min_size=12, max_size=12))
    numbers = np.array(pixels).reshape(3, 4)
    path = saved(tmp_path_factory.mktemp("any") / "mask.png", np.array(colours)[numbers])
    *named, void = colours
    table = {f"class {number}": [list(each)] for number, each in enumerate(named)}
    expected = np.where(numbers == len(named), IGNORED, numbers)
    assert labels(path, colours=table, ignore=[list(void)]) == expected.tolist()


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        (NUMBERS, {"classes": 3}, r"the values 255 \(12 % of its pixels\): expected class numbers "
         r"0\.\.2, as data\.classes says.* often 255, as data\.ignore"),
        (NUMBERS, {"classes": 2, "ignore": 255}, r"the values 2 \(25 %.*0\.\.1"),
        (np.full((2, 2, 3), (1, 2, 3)), {"classes": 3}, r"\[1, 2, 3\].*each class its colours"),
        (np.full((2, 2, 3), (1, 2, 3)), {"colours": COLOURS}, r"\[1, 2, 3\].*does not name"),
    ],
)  # fmt: skip
def test_pixels_of_no_class_are_refused_by_their_values(tmp_path, pixels, options, message):
    path = saved(tmp_path / "mask.png", pixels)
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))} has .*{message}"):
        labels(path, **options)


def test_a_jpeg_of_classes_is_refused(tmp_path):
    path = saved(tmp_path / "mask.jpg", NUMBERS)
    with pytest.raises(ValueError, match="JPEG, which keeps no exact values.*PNG"):
        labels(path, classes=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 0}, "a number of classes up to 255"),
        ({"classes": 256}, "a number of classes up to 255"),
        ({"classes": True}, "a number of classes"),
        ({"classes": ["a"]}, "two or more different names"),
        ({"classes": ["a", "a"]}, "two or more different names"),
        ({"classes": ["a", ""]}, "two or more different names"),
        ({"classes": ["a", "b"], "colours": {"a": 0, "c": 1}}, "must name the classes a, b"),
        ({"colours": {"a": 0, "b": [1, 0]}}, "one meaning. Received: 0 for a and b"),
        ({"colours": {"a": 0, "b": 1}, "ignore": 1}, "one meaning. Received: 1 for ignore and b"),
        ({"classes": 3, "foreground": 1}, "foreground is for two classes"),
        ({"classes": 3, "alpha": "mask"}, "alpha: mask is for two classes"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mask_options(**options)


def test_one_class_is_foreground_and_background():
    assert class_names(1) == class_names(None) == class_names("1") == ()
    assert class_names("path, sky") == ("path", "sky")


@pytest.fixture
def folder(tmp_path):
    """Builds a folder of two masks with a palette each."""

    def build(*palettes, masks=(NUMBERS % 3, NUMBERS % 3)):
        for kind in ("img", "mask"):
            (tmp_path / kind).mkdir()
        for number, (mask, palette) in enumerate(zip(masks, palettes, strict=True)):
            saved(tmp_path / "img" / f"{number}.png", np.zeros((*mask.shape, 3)))
            saved(tmp_path / "mask" / f"{number}.png", mask, palette)
        return tmp_path

    return build


def test_palettes_that_differ_between_files_are_refused(folder):
    palette = [(9, 9, 9), (200, 0, 0), (0, 200, 0)]
    root = folder(palette, [palette[0], palette[2], palette[1]])
    with pytest.raises(
        ValueError, match=r"Palette index 1 is \[200, 0, 0\] in .*0\.png and \[0, 2"
    ):
        read_split(root, (2, 4), classes=3)
    with pytest.raises(ValueError, match="Palette index 1"):
        read_split(root, (2, 4), foreground=[1])
    table = {"a": [list(palette[0])], "b": [list(palette[1])], "c": [list(palette[2])]}
    split = read_split(root, (2, 4), colours=table)
    assert (split.masks[0] == NUMBERS[..., None] % 3).all()
    assert set(split.masks[1][split.masks[0] == 1].tolist()) == {2}


def test_a_palette_may_differ_where_nothing_is_read(folder):
    palette = [(9, 9, 9), (200, 0, 0), (0, 200, 0)]
    root = folder([*palette, (1, 1, 1)], [*palette, (2, 2, 2)])
    assert read_split(root, (2, 4), classes=3).masks.max() == 2


def test_a_split_of_one_class_is_refused(folder):
    root = folder(None, None, masks=(np.ones((2, 4)), np.ones((2, 4))))
    with pytest.raises(ValueError, match="are all class_1: nothing can be learned"):
        read_split(root, (2, 4), classes=3)


def test_shares_of_each_class_are_told(tmp_path):
    splits = synthetic_splits(counts={"train": 3, "val": 2, "test": 2}, classes=3)
    text = class_shares(splits, ("terrain", "path", "obstacle"))
    path = 100 * (splits.train.masks == 1).mean()
    assert text.startswith("Pixels of each class, train: terrain ") and f"path {path:.1f} %" in text


def test_drawn_scenes_are_the_same_images_with_obstacles_as_a_class():
    counts = {"train": 5, "val": 1, "test": 1}
    two, three = (synthetic_splits(3, counts, classes).train for classes in (1, 3))
    np.testing.assert_array_equal(two.images, three.images)
    np.testing.assert_array_equal(two.masks == 1, three.masks == 1)
    assert set(np.unique(three.masks)) == {0, 1, 2} and set(np.unique(two.masks)) == {0, 1}


def test_whole_folders_are_read_with_classes(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for kind in ("img", "mask"):
            (tmp_path / split / kind).mkdir(parents=True)
        mask = rng.integers(0, 4, (6, 8))
        saved(tmp_path / split / "img" / "a.png", rng.integers(0, 256, (6, 8, 3)))
        saved(tmp_path / split / "mask" / "a.png", mask)
    splits = read_splits(tmp_path, (6, 8), classes=4)
    assert isinstance(splits, Splits)
    np.testing.assert_array_equal(splits.test.masks[0, ..., 0], mask)
