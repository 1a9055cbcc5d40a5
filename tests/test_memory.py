"""Images that outgrow memory: on disk, with the same numbers to the digit."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from training import split_scores
from training.config import read_config
from training.data import batches
from training.disk_array import DiskArray, MemoryArray
from training.evaluate import evaluate, image_ious, sweep
from training.outputs import Outputs
from training.split import PART, Split
from training.split_scores import score
from training.splits import read_config_splits
from training.tiling import Tiling, plan_axis


def stored(array, kind=DiskArray):
    rows = kind(array.shape[1:], array.dtype)
    for row in array:
        rows.add(row)
    return rows.rows


INDEX = st.one_of(
    st.integers(-5, 4),
    st.lists(st.integers(-5, 4), max_size=8).map(lambda rows: np.array(rows, int)),
    st.slices(5),
)


@given(INDEX, st.sampled_from(["uint8", "float32"]))
def test_rows_are_those_of_an_array(index, dtype):
    array = np.random.default_rng(0).uniform(0, 255, (5, 3, 4, 2)).astype(dtype)
    disk = stored(array)
    np.testing.assert_array_equal(disk[index], array[index])
    assert disk[index].dtype == array.dtype
    np.testing.assert_array_equal(np.asarray(disk), array)
    assert (disk.shape, disk.ndim, disk.nbytes, len(disk)) == (
        array.shape, array.ndim, array.nbytes, 5,
    )  # fmt: skip
    np.testing.assert_array_equal(stored(array, MemoryArray), array)


def test_rows_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"Expected rows of \(2,\) uint8. Received: \(3,\) uint8"):
        DiskArray((2,), np.dtype("u1")).add(np.zeros(3, np.uint8))
    with pytest.raises(IndexError):
        stored(np.zeros((2, 2)))[2]


@pytest.fixture(params=[(), ("a", "b", "c")], ids=["foreground", "classes"])
def case(request, rng):
    outputs = Outputs(classes=request.param)
    masks = rng.choice([0, 1, 255], (37, 6, 5, 1)).astype(np.uint8)
    values = rng.normal(size=(37, 6, 5, outputs.channels)).astype(np.float32)
    images = rng.integers(0, 256, (37, 6, 5, 3)).astype(np.uint8)
    return outputs, values, Split(images, masks, tuple(map(str, range(37))))


@pytest.mark.parametrize("part", [1, 1200, 2**28])
def test_parts_are_scored_as_the_whole(case, monkeypatch, part):
    outputs, values, split = case
    monkeypatch.setattr(split_scores, "PART", part)
    labels = outputs.labels(values)
    on_disk = Split(stored(split.images), stored(split.masks), split.names)
    for each in (split, on_disk):
        keep = np.array([0, 5, 36])
        scores, kept = score(each, outputs, lambda p: values[[int(n) for n in p.names]], batch=4,
                             keep=keep)  # fmt: skip
        expected = evaluate(labels, split.masks, outputs.classes)
        assert repr(scores.evaluation) == repr(expected)  # nan equals nan
        assert scores.sweep == sweep(values, split.masks, outputs.classes)
        expected = image_ious(labels, split.masks, outputs.classes)
        np.testing.assert_array_equal(scores.image_ious, expected)
        np.testing.assert_array_equal(kept, labels[keep])
        np.testing.assert_array_equal(each.counts, np.bincount(split.masks.ravel(), minlength=256))


def test_one_class_everywhere_is_told(case):
    outputs, values, split = case
    scores, _ = score(split, outputs, lambda part: np.full_like(values[: len(part)], -1.0))
    assert scores.only_class == (outputs.classes or ("background",))[0]
    assert score(split, outputs, lambda part: values[: len(part)])[0].only_class is None


def test_datasets_are_the_same_from_disk(case):
    _, _, split = case
    on_disk = Split(stored(split.images), stored(split.masks), split.names)
    for one, other in zip(batches(split, 8), batches(on_disk, 8), strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)


def test_a_run_from_disk_is_the_same_run(tiny, tmp_path):
    from train import train

    results = {}
    for memory in ("200MB", "10k"):
        config = tmp_path / f"{memory}.yaml"
        config.write_text(f"data: {{root: {tiny}, memory: {memory}}}\n")
        folder = tmp_path / memory
        model, history = train(config=config, epochs=2, output=folder, verbose=0)
        scores = json.loads((folder / "evaluation.json").read_text())
        results[memory] = (
            history.history,
            {name: value for name, value in scores.items() if "seconds" not in name},
            (folder / "predictions.png").read_bytes(),
            [weight.tobytes() for weight in model.get_weights()],
        )
    assert results["200MB"] == results["10k"]


@pytest.mark.parametrize("memory", ["2G", "1k"])
def test_large_images_are_cut_into_tiles_with_their_masks(tmp_path, rng, memory):
    for split in ("train", "val", "test"):
        for kind in ("img", "mask"):
            (tmp_path / split / kind).mkdir(parents=True)
        for number, (height, width) in enumerate(((50, 70), (24, 32), (20, 90))):
            pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / "img" / f"{number}.png")
            mask = (pixels[..., 0] > 100).astype(np.uint8)
            Image.fromarray(mask).save(tmp_path / split / "mask" / f"{number}.png")
    data = {"root": str(tmp_path), "tiles": 8, "memory": memory}
    config = read_config(None, {"data": data, "model": {"input_size": [24, 32]}})
    test = read_config_splits(config).test
    counts = [len(Tiling(plan_axis(h, 24, 8), plan_axis(w, 32, 8))) for h, w in
              ((50, 70), (24, 32), (20, 90))]  # fmt: skip
    assert len(test) == sum(counts) and counts[1] == 1
    images, masks = np.asarray(test.images), np.asarray(test.masks)
    assert images.shape[1:] == (24, 32, 3)
    np.testing.assert_array_equal(masks, images[..., :1] > 100)
    assert test.names[counts[0]] == "1" and test.names[0] == "0#0"
    with pytest.raises(ValueError, match="Expected an overlap of 0 to 23 pixels"):
        wrong = {"data": {**data, "tiles": 24}, "model": {"input_size": [24, 32]}}
        read_config_splits(read_config(None, wrong))


def test_pixels_of_all_parts_are_counted(rng):
    masks = rng.choice([0, 1, 255], (2 * PART + 5, 3, 2, 1)).astype(np.uint8)
    images = np.zeros((*masks.shape[:3], 3), np.uint8)
    names = tuple(map(str, range(len(masks))))
    for kind in (MemoryArray, DiskArray):
        counts = Split(stored(images, kind), stored(masks, kind), names).counts
        np.testing.assert_array_equal(counts, np.bincount(masks.ravel(), minlength=256))
