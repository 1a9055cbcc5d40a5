"""Where images and masks are found, and how those that are not split are split."""

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.pairs import UNSPLIT, Layout, Pair, find_pairs, layout_of
from training.settings import Config
from training.splits import config_pairs
from training.splitting import fold_pairs, group_of, split_pairs

CITYSCAPES = (
    "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png",
    "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png",
    "gtFine/train/aachen/aachen_000000_000019_gtFine_color.png",
    "gtFine/train/aachen/aachen_000000_000019_gtFine_polygons.json",
    "leftImg8bit/val/bonn/bonn_000000_000001_leftImg8bit.png",
    "gtFine/val/bonn/bonn_000000_000001_gtFine_labelIds.png",
)
VOC = (
    *(f"JPEGImages/2007_00{n}.jpg" for n in range(4)),
    *(f"SegmentationClass/2007_00{n}.png" for n in range(3)),
)


def touched(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(pairs):
    return {split: [pair.name for pair in part] for split, part in pairs.items()}


def test_cityscapes_is_found_by_its_folders(tmp_path):
    pairs = find_pairs(touched(tmp_path, *CITYSCAPES))
    assert found(pairs) == {"train": ["aachen_000000_000019"], "val": ["bonn_000000_000001"]}
    assert pairs["train"][0].mask.name.endswith("gtFine_labelIds.png")


def test_voc_is_split_by_its_lists(tmp_path):
    root = touched(tmp_path, *VOC)
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_002\n2007_000\n")
    (lists / "val.txt").write_text("2007_001\n")
    assert found(find_pairs(root)) == {"train": ["2007_000", "2007_002"], "val": ["2007_001"]}
    (lists / "val.txt").write_text("2007_003\n")
    with pytest.raises(FileNotFoundError, match=r"val\.txt lists 2007_003, but not in .*Segmentat"):
        find_pairs(root)


def test_patterns_find_other_folders(tmp_path):
    names = ("frames/val/a_rgb.tif", "labels/val/a_id.png", "frames/val/notes.txt", "frames/b.tif")
    layout = layout_of(None, "frames/{split}/{name}_rgb.tif", "labels/{split}/{name}_id.png")
    assert found(find_pairs(touched(tmp_path, *names), layout)) == {"val": ["a"]}
    with pytest.raises(ValueError, match="No image matches .*depth"):
        find_pairs(tmp_path, Layout("depth/{name}.png", "labels/val/{name}_id.png"))
    with pytest.raises(FileNotFoundError, match="a_id.png has no partner a"):
        find_pairs(tmp_path, Layout("frames/{name}.tif", "labels/val/{name}_id.png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("coco",), "a layout of cityscapes, voc"),
        (("voc", "a/{name}", "b/{name}"), "a layout or patterns, not both"),
        ((None, "a/{name}", None), "both images and masks"),
        ((None, "a/x.png", "b/{name}"), r"a pattern with \{name\} once"),
        ((None, "{split}/{name}", "b/{name}"), r"Expected \{split\} in the patterns of both"),
    ],
)
def test_impossible_layouts_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        layout_of(*arguments)


def test_a_folder_without_splits_is_one(tmp_path):
    root = touched(tmp_path, *(f"{kind}/{n}.png" for kind in ("img", "mask") for n in range(3)))
    assert found(find_pairs(root)) == {UNSPLIT: ["0", "1", "2"]}
    with pytest.raises(FileNotFoundError, match="has no train and no val and no test.*--split"):
        config_pairs(Config().data, root)


def test_folders_of_splits_come_before_a_folder_of_images(tmp_path):
    splits = ("train", "val", "test")
    names = [f"{split}/{kind}/a.png" for split in splits for kind in ("img", "mask")]
    root = touched(tmp_path, *names, "img/b.png")
    assert found(find_pairs(root)) == {split: ["a"] for split in splits}
    (root / "val" / "img" / "a.png").unlink()
    (root / "val" / "mask" / "a.png").unlink()
    for folder in (root / "val" / "img", root / "val" / "mask", root / "val"):
        folder.rmdir()
    with pytest.raises(ValueError, match="holds img, and train and test as well"):
        find_pairs(root)


def test_what_is_missing_is_drawn_from_training_images(tmp_path):
    names = [f"{split}/{kind}/{split}{n}.png" for split in ("train", "test")
             for kind in ("img", "mask") for n in range(10)]  # fmt: skip
    root = touched(tmp_path, *names)
    data = Config.model_validate({"data": {"split": {"val": 0.3}}}).data
    splits = config_pairs(data, root)
    assert len(splits["train"]) == 7 and len(splits["val"]) == 3 and len(splits["test"]) == 10
    assert {pair.name[:5] for pair in splits["val"]} == {"train"}
    assert found(config_pairs(data, root)) == found(splits)  # by seed


def pairs_of(names):
    return [Pair(name, Path(f"{name}.png"), Path(f"{name}.png")) for name in names]


names = st.lists(st.integers(0, 200), min_size=12, max_size=80, unique=True).map(
    lambda numbers: [f"video{n % 9}_{n:04d}" for n in numbers]
)


@given(names, st.integers(0, 5), st.sampled_from([None, "prefix", 6]))
@settings(max_examples=60, deadline=None)
def test_every_image_is_in_one_split_with_its_group(drawn, seed, groups):
    pairs = {UNSPLIT: pairs_of(drawn)}
    try:
        splits = split_pairs(pairs, val=0.2, test=0.2, seed=seed, groups=groups)
    except ValueError as error:
        assert groups is not None and "Too few groups" in str(error)
        return
    assert Counter(n for part in found(splits).values() for n in part) == Counter(drawn)
    group = group_of(groups)
    owners = [{group(pair.name) for pair in part} for part in splits.values()]
    assert len(set.union(*owners)) == sum(map(len, owners))
    if groups is None:
        assert abs(len(splits["test"]) - 0.2 * len(drawn)) <= 1


@given(names, st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_each_image_is_tested_in_one_fold(drawn, seed):
    tested = Counter()
    groups = len({group_of("prefix")(name) for name in drawn})
    if groups < 5:
        with pytest.raises(ValueError, match="at least 5 groups"):
            fold_pairs(
                {UNSPLIT: pairs_of(drawn)}, fold=1, folds=5, val=0.2, seed=0, groups="prefix"
            )
        return
    for fold in range(1, 6):
        part = fold_pairs(
            {UNSPLIT: pairs_of(drawn)}, fold=fold, folds=5, val=0.2, seed=seed, groups="prefix"
        )
        tested.update(pair.name for pair in part["test"])
        groups_of = [{group_of("prefix")(pair.name) for pair in each} for each in part.values()]
        assert len(set.union(*groups_of)) == sum(map(len, groups_of))
    assert tested == Counter(drawn)


def test_groups_that_cross_splits_are_refused(tmp_path):
    names = [f"{split}/{kind}/drive7_{number}.png" for number, split in
             enumerate(("train", "val", "test")) for kind in ("img", "mask")]  # fmt: skip
    data = Config.model_validate({"data": {"split": {"groups": "prefix"}}}).data
    with pytest.raises(ValueError, match="Group drive7 is in two splits: drive7_0 in train, driv"):
        config_pairs(data, touched(tmp_path, *names))


def test_a_file_names_groups(tmp_path):
    file = tmp_path / "groups.csv"
    file.write_text("a,first\nb,first\nc,second\n")
    assert [group_of(str(file))(name) for name in "abc"] == ["first", "first", "second"]
    with pytest.raises(ValueError, match="names no group for the image d"):
        group_of(str(file))("d")
    file.write_text("a\n")
    with pytest.raises(ValueError, match="expected lines of two columns"):
        group_of(str(file))
    with pytest.raises(FileNotFoundError, match="expected prefix, a number of characters, or"):
        group_of(str(tmp_path / "none.csv"))


@pytest.mark.parametrize(
    "name",
    ["seq1_000123", "seq1-7", "seq1 9", "seq1.12"],
    ids=lambda name: re.sub(r"\W", "_", name),
)
def test_frames_of_a_video_are_a_group(name):
    assert group_of("prefix")(name) == "seq1"
    assert group_of("prefix")("0001") == "0001"
