import numpy as np
import pytest
from PIL import Image

from training.data import batches, draw_images, scale, training_batches
from training.images import read_splits
from training.settings import AugmentationConfig
from training.synthetic import synthetic_splits

SIZE = (30, 40)
NONE = AugmentationConfig(horizontal_flip=False, brightness=0, contrast=0, saturation=0)


@pytest.fixture(scope="module")
def splits():
    return synthetic_splits(counts={"train": 20, "val": 8, "test": 4})


def epochs_of(split, epochs, *, seed=0, augmentation=NONE, batch_size=8):
    data = training_batches(split, batch_size, epochs=epochs, seed=seed, augmentation=augmentation)
    pairs = [(images.numpy(), masks.numpy()) for images, masks in data]
    steps = len(pairs) // epochs
    return [pairs[start : start + steps] for start in range(0, len(pairs), steps)]


def images_of(epoch):
    return np.concatenate([images for images, _ in epoch])


def test_reads_pairs_in_order_of_their_names(image_folder):
    split = read_splits(image_folder, SIZE).train
    assert split.names == tuple(f"scene {number}" for number in range(6))
    for number, name in enumerate(split.names):
        pixels = np.asarray(Image.open(image_folder / "train" / "img" / f"{name}.png"))
        np.testing.assert_array_equal(split.images[number], pixels)
        np.testing.assert_array_equal(split.masks[number, ..., 0], pixels[..., 0] > 100)


def test_real_images(camvid):
    splits = read_splits(camvid, (60, 80))
    assert [len(split) for split in vars(splits).values()] == [266, 202, 233]
    assert splits.train.images.shape == (266, 60, 80, 3)
    assert splits.test.masks.mean() == pytest.approx(0.355, abs=0.001)


def test_a_jpeg_pairs_with_a_png_mask(image_folder):
    path = image_folder / "test" / "img" / "scene 2.png"
    with Image.open(path) as image:
        image.save(path.with_suffix(".jpg"))
    path.unlink()
    assert "scene 2" in read_splits(image_folder, SIZE).test.names


def test_masks_above_half_are_foreground(image_folder):
    values = np.zeros((30, 40), np.uint8)
    values[:, 18:22], values[:, 22:] = (51, 102, 153, 204), 255  # soft edges
    Image.fromarray(values).save(image_folder / "val" / "mask" / "scene 0.png")
    mask = read_splits(image_folder, SIZE).val.masks[0, ..., 0]
    np.testing.assert_array_equal(mask, values > 127)


def test_masks_are_resized_by_nearest_and_images_smoothly(image_folder):
    split = read_splits(image_folder, (15, 20)).train
    assert split.images.shape == (6, 15, 20, 3)
    assert set(np.unique(split.masks)) == {0, 1}
    board = (np.indices((30, 40)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(np.repeat(board[..., None], 3, axis=2)).save(
        image_folder / "train" / "img" / "scene 0.png"
    )
    assert read_splits(image_folder, (15, 20)).train.images[0].std() < 2


def spoil(path, how):
    path = next(path.parent.glob(path.name))
    if how == "truncate":
        path.write_bytes(path.read_bytes()[:-200])
    elif how == "text":
        path.write_text("not an image")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "remove":
        path.unlink()
    elif how == "palette":
        Image.fromarray(np.ones((30, 40), np.uint8)).convert("P").save(path)
    elif how == "sixteen bits":
        Image.fromarray(np.full((30, 40), 300, np.uint16)).save(path)
    elif how == "shrink":
        Image.fromarray(np.zeros((7, 9), np.uint8)).save(path)


@pytest.mark.parametrize(
    "file, how, error, says",
    [
        ("train/img/scene 3.png", "truncate", ValueError, "cannot be read as an image"),
        ("val/mask/scene 3.png", "truncate", ValueError, "cannot be read as an image"),
        ("test/img/scene 3.png", "text", ValueError, "cannot be read as an image"),
        ("test/img/scene 3.png", "empty", ValueError, "cannot be read as an image"),
        ("train/mask/scene 3.png", "remove", FileNotFoundError, "has no partner scene 3"),
        ("train/img/scene 3.png", "remove", FileNotFoundError, "has no partner scene 3"),
        ("val/mask/scene 3.png", "palette", ValueError, "Foreground is 1 in .*scene 3.png and 255"),
        ("train/img/scene 3.png", "sixteen bits", ValueError, "Pillow's mode I;16"),
        (
            "val/mask/scene 3.png",
            "shrink",
            ValueError,
            "is 9x7 pixels, its image scene 3.png 40x30",
        ),
    ],
)
def test_a_spoiled_file_is_named(image_folder, file, how, error, says):
    spoil(image_folder / file, how)
    with pytest.raises(error, match=says) as caught:
        read_splits(image_folder, SIZE)
    assert file.rsplit("/", 1)[1].removesuffix(".png") in str(caught.value)
    assert str(image_folder) in str(caught.value)


def test_an_empty_split_and_missing_folders_are_named(image_folder, tmp_path):
    for path in [*(image_folder / "val").glob("*/*")]:
        path.unlink()
    with pytest.raises(ValueError, match="val.img holds no image"):
        read_splits(image_folder, SIZE)
    (image_folder / "val" / "mask").rmdir()
    with pytest.raises(FileNotFoundError, match="val.mask does not exist"):
        read_splits(image_folder, SIZE)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        read_splits(tmp_path / "nowhere", SIZE)


def test_two_files_of_one_stem_are_an_error(image_folder):
    (image_folder / "train" / "img" / "scene 1.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match="have the same stem"):
        read_splits(image_folder, SIZE)


def test_batches_keep_the_order_and_scale(splits):
    pairs = [(images.numpy(), masks.numpy()) for images, masks in batches(splits.val, 3)]
    assert [len(images) for images, _ in pairs] == [3, 3, 2]
    images, masks = (np.concatenate(part) for part in zip(*pairs, strict=True))
    np.testing.assert_allclose(images, scale(splits.val.images), atol=1e-6)
    np.testing.assert_array_equal(masks, splits.val.masks)


def test_an_epoch_holds_every_image_once_with_its_mask(splits):
    scaled = scale(splits.train.images)
    for epoch in epochs_of(splits.train, 2):
        assert [len(images) for images, _ in epoch] == [8, 8, 4]
        seen = []
        for image, mask in (
            (i, m) for images, masks in epoch for i, m in zip(images, masks, strict=True)
        ):
            (number,) = np.flatnonzero(np.abs(scaled - image).max(axis=(1, 2, 3)) < 1e-5)
            np.testing.assert_array_equal(mask, splits.train.masks[number])
            seen.append(number)
        assert sorted(seen) == list(range(20))


def test_order_depends_on_seed_and_epoch_alone(splits):
    first, second = (images_of(epoch) for epoch in epochs_of(splits.train, 2))
    assert not np.array_equal(first, second)
    again, other = (images_of(epochs_of(splits.train, 1, seed=seed)[0]) for seed in (0, 1))
    np.testing.assert_array_equal(again, first)
    assert not np.array_equal(other, first)


def test_augmentation_repeats_by_seed_and_differs_between_epochs_and_images(splits):
    strong = AugmentationConfig(rotation=20, brightness=0.2, contrast=0.2, saturation=0.2, hue=0.05)
    one, other = (epochs_of(splits.train, 2, augmentation=strong) for _ in range(2))
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(images_of(first), images_of(second))
    means = [image.mean() for epoch in one for image in images_of(epoch)]
    assert len(set(means)) == 40


def marked(splits):
    """Images that show their own mask: white where foreground is, else black."""
    from training.split import Split

    white = np.repeat(splits.train.masks * np.uint8(255), 3, axis=-1)
    return Split(white, splits.train.masks, splits.train.names)


@pytest.mark.parametrize("geometry", [{"horizontal_flip": True}, {"rotation": 20.0}])
def test_masks_move_with_their_images(splits, geometry):
    augmentation = NONE.model_copy(update=geometry)
    moved = 0
    for images, masks in epochs_of(marked(splits), 1, augmentation=augmentation)[0]:
        assert set(np.unique(masks)) == {0, 1}
        agreement = ((images[..., :1] > 0) == (masks > 0)).mean(axis=(1, 2, 3))
        assert agreement.min() > 0.995
        for mask in masks:
            moved += not (mask == splits.train.masks).all(axis=(1, 2, 3)).any()
    assert 5 <= moved <= 20


def test_rotation_turns_by_at_most_its_degrees():
    import tensorflow as tf

    from training.augmentation import augment

    line = np.zeros((200, 101, 101, 1), np.uint8)
    line[:, 50] = 1
    images = np.zeros((200, 101, 101, 3), np.uint8)
    turned = augment(
        images, line, tf.constant([0, 1]), augmentation=NONE.model_copy(update={"rotation": 20.0})
    )[1].numpy()[..., 0]
    rows = np.arange(101)[:, None]
    left, right = (
        (turned[:, :, at] * rows[:, 0]).sum(1) / turned[:, :, at].sum(1) for at in (20, 80)
    )
    degrees = np.degrees(np.arctan2(right - left, 60))
    assert 18 < np.abs(degrees).max() < 20.5
    assert np.abs(degrees.mean()) < 2


@pytest.mark.parametrize(
    "change, measure",
    [
        ({"brightness": 0.2}, lambda x: x.mean(axis=(1, 2, 3))),
        ({"contrast": 0.2}, lambda x: x.std(axis=(1, 2)).mean(axis=1)),
        ({"saturation": 0.5}, lambda x: (x.max(axis=3) - x.min(axis=3)).mean(axis=(1, 2))),
        ({"hue": 0.1}, lambda x: x[..., 0].mean(axis=(1, 2)) - x[..., 2].mean(axis=(1, 2))),
    ],
)
def test_colours_change_and_masks_do_not(splits, change, measure):
    import tensorflow as tf

    from training.augmentation import augment

    images, masks = splits.train.images, splits.train.masks
    changed, labels = augment(
        images, masks, tf.constant([0, 1]), augmentation=NONE.model_copy(update=change)
    )
    np.testing.assert_array_equal(labels.numpy(), masks)
    difference = measure(changed.numpy()) - measure(images.astype(np.float32))
    assert (difference > 1).any()
    assert (difference < -1).any()
    assert changed.numpy().min() >= 0
    assert changed.numpy().max() <= 255


def test_no_augmentation_changes_nothing(splits):
    import tensorflow as tf

    from training.augmentation import augment

    images, masks = augment(
        splits.train.images, splits.train.masks, tf.constant([0, 1]), augmentation=NONE
    )
    np.testing.assert_array_equal(images.numpy(), splits.train.images)
    np.testing.assert_array_equal(masks.numpy(), splits.train.masks)


def test_drawn_images_are_the_seeds(splits):
    drawn = draw_images(splits.val, 3, seed=5)
    np.testing.assert_array_equal(drawn, draw_images(splits.val, 3, seed=5))
    assert drawn.shape == (3, 60, 80, 3)
    scaled = scale(splits.val.images)
    assert all((image == scaled).all(axis=(1, 2, 3)).sum() == 1 for image in drawn)
    assert len(draw_images(splits.val, 100, seed=5)) == 8


def test_masks_of_ones_beside_others_of_255_are_an_error(image_folder):
    for path in (image_folder / "test" / "mask").iterdir():
        Image.fromarray(np.ones((30, 40), np.uint8)).save(path)
    with pytest.raises(ValueError, match="Foreground is 1 in .*test.mask.* and 255 in .*train"):
        read_splits(image_folder, SIZE)


def test_other_files_are_named_and_hidden_ones_passed_over(image_folder):
    (image_folder / "val" / "img" / ".DS_Store").write_text("")
    read_splits(image_folder, SIZE)
    (image_folder / "val" / "img" / "scene 9.gif").write_text("")
    with pytest.raises(ValueError, match="scene 9.gif is not one of .png, .jpg, .jpeg, .bmp, .tif"):
        read_splits(image_folder, SIZE)
