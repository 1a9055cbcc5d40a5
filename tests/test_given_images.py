"""Images that are given to `train` from Python."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from train import train
from training.arrays import digest, given_images, splits_of
from training.mask_options import mask_options
from training.scaling import EIGHT_BITS, Scaling
from training.synthetic import synthetic_splits

COUNTS = {"train": 10, "val": 4, "test": 4}


@pytest.fixture(scope="module")
def arrays():
    splits = synthetic_splits(counts=COUNTS)
    return tuple((part.images, part.masks) for part in vars(splits).values())


class Batches(keras.utils.PyDataset):
    """Batches of 3."""

    def __init__(self, images, masks):
        super().__init__()
        self.arrays = images, masks

    def __len__(self):
        return -(-len(self.arrays[0]) // 3)

    def __getitem__(self, index):
        return tuple(array[3 * index : 3 * index + 3] for array in self.arrays)


FORMS = {
    "arrays": lambda images, masks: (images, masks),
    "masks without a channel": lambda images, masks: (images, masks[..., 0].astype(bool)),
    "black and white": lambda images, masks: [images, 255 * masks],
    "tensors": lambda images, masks: (tf.constant(images), tf.constant(masks)),
    "a dataset": lambda images, masks: tf.data.Dataset.from_tensor_slices((images, masks)),
    "batches": lambda images, masks: tf.data.Dataset.from_tensor_slices((images, masks)).batch(4),
    "PyDataset": Batches,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_splits(arrays, form):
    pairs = given_images(tuple(FORMS[form](*part) for part in arrays))
    splits = splits_of(pairs, mask_options(), EIGHT_BITS)
    for (images, masks), split in zip(arrays, vars(splits).values(), strict=True):
        np.testing.assert_array_equal(split.images, images)
        np.testing.assert_array_equal(split.masks, masks)
        assert split.images.dtype == split.masks.dtype == np.uint8


def test_values_that_are_not_scored_are_ignored(arrays):
    masks = arrays[0][1].copy()
    masks[:, :5] = 7
    pairs = given_images(((arrays[0][0], masks), *arrays[1:]))
    assert (splits_of(pairs, mask_options(ignore=7), EIGHT_BITS).train.masks[:, :5] == 255).all()
    with pytest.raises(
        ValueError, match=r"Masks of train hold 7: expected 0\.\.1, as classes says"
    ):
        splits_of(pairs, mask_options(), EIGHT_BITS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: parts[:2], r"data as \(train, val, test\), each .*Received: 2 of them"),
        (lambda parts: "data", "Received: str"),
        (lambda parts: (*parts[:2], 3), "Data of test: expected .* Received: int"),
        (lambda parts: (*parts[:2], (parts[2][0], parts[2][1][:2])), "Data of test: expected imag"),
        (lambda parts: (*parts[:2], (parts[2][0] * np.nan, parts[2][1])), "finite numbers"),
        (
            lambda parts: (*parts[:2], tf.data.Dataset.from_tensor_slices(parts[2]).repeat()),
            "a dataset that ends",
        ),
    ],
)
def test_what_is_no_data_is_refused(arrays, change, message):
    with pytest.raises(ValueError, match=message):
        given_images(change(arrays))


def test_floats_need_a_scaling(arrays):
    pairs = given_images(tuple((images / 255.0, masks) for images, masks in arrays))
    with pytest.raises(ValueError, match=r"float64 with values of 0 to 1.*data.mean and data.scal"):
        splits_of(pairs, mask_options(), EIGHT_BITS)
    splits = splits_of(pairs, mask_options(), Scaling((0.5,) * 3, (0.5,) * 3))
    np.testing.assert_allclose(splits.val.inputs, EIGHT_BITS(arrays[1][0]), atol=1e-6)


def test_a_run_of_arrays_is_that_of_the_same_images(arrays, tmp_path):
    first, history = train(data=arrays, epochs=2, output=tmp_path / "run", seed=3, verbose=0)
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert f"given: {digest(given_images(arrays))}" in config
    batched = tuple(FORMS["batches"](*part) for part in arrays)
    again, other = train(data=batched, epochs=2, output=tmp_path / "again", seed=3, verbose=0)
    assert history.history == other.history
    scores = [json.loads((tmp_path / n / "evaluation.json").read_text()) for n in ("run", "again")]
    assert scores[0]["miou"] == scores[1]["miou"]
    _, kept = train(resume=tmp_path / "run", data=arrays, verbose=0)
    assert kept.history == history.history
    with pytest.raises(ValueError, match="images of this run were given from Python"):
        train(config=tmp_path / "run" / "config.yaml", output=tmp_path / "third", verbose=0)


def test_images_of_several_sizes_are_refused(arrays, tmp_path):
    small = (arrays[2][0][:, :24, :32], arrays[2][1][:, :24, :32])
    with pytest.raises(ValueError, match="images of one size in all splits"):
        train(data=(*arrays[:2], small), output=tmp_path / "run", verbose=0)
