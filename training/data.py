"""Images and masks as datasets for Keras: scaled, shuffled and augmented by seed."""

from collections.abc import Callable

import numpy as np

from training.class_masks import IGNORED
from training.scaling import EIGHT_BITS
from training.settings import AugmentationConfig
from training.split import Split


def scale(images):
    """Maps 0..255 to -1..1, the networks' input: (x / 255 - 0.5) / 0.5, in float32.

    Example:
        >>> scale(np.array([0, 255], np.uint8)).tolist()
        [-1.0, 1.0]
    """
    return EIGHT_BITS(images)


def draw_images(split: Split, count: int, seed: int) -> np.ndarray:
    """Draws `count` images without repetition, scaled, (count, height, width, 3).

    A split with no more than `count` images gives all of them.
    """
    return split.scaling(draw_pairs(split, count, seed)[0])


def draw_pairs(split: Split, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws `count` images as `draw_images` does, and their masks; both as the split has them."""
    drawn = np.sort(np.random.default_rng(seed).permutation(len(split))[:count])
    return split.images[drawn], split.masks[drawn]


def batches(split: Split, batch_size: int, answers: Callable | None = None):
    """Returns a tf.data.Dataset of (images, masks) in order, scaled, in float32.

    If the split has pixels to ignore, it is (images, masks, weights), with weight 0 for these
    and 1 for the others.

    Args:
        split: Images and masks.
        batch_size: Images per batch.
        answers: From scaled images and their positions in the split to further channels of
            the targets. Defaults to None: no further channels.
    """
    import tensorflow as tf

    rows, weighted = _rows(split), not split.is_all_scored

    def gather(index):
        images, masks = rows(index)
        pictures = _scaled(split.scaling.levels(tf.cast(images, tf.float32)))
        labels = tf.cast(masks, tf.float32)
        return pictures, *_targets(pictures, labels, index, answers, weighted=weighted)

    dataset = tf.data.Dataset.range(len(split)).batch(batch_size)
    return dataset.map(gather, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def training_batches(
    split: Split,
    batch_size: int,
    *,
    epochs: int,
    first: int = 0,
    seed: int,
    augmentation: AugmentationConfig,
    answers: Callable | None = None,
):
    """Returns a tf.data.Dataset of all epochs' batches, shuffled and augmented.

    An epoch's batches depend on nothing but `seed`, `batch_size` and the epoch's number. The
    last batch of an epoch may be smaller.

    Args:
        split: Images and masks.
        batch_size: Images per batch.
        epochs: Number of passes through the split.
        first: The epoch to begin with. Defaults to 0.
        seed: Determines order and augmentation.
        augmentation: Ranges to draw from.
        answers: As for `batches`; called with augmented images.

    Returns:
        ceil(images / batch_size) batches per epoch: images (batch, height, width, 3) in -1..1
        and masks (batch, height, width, 1) of 0 and 1, in float32, followed by the channels of
        `answers`; weights as for `batches`.
    """
    import tensorflow as tf

    from training.augmentation import augment

    rows, weighted = _rows(split), not split.is_all_scored

    def epoch_batches(epoch):
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(split), dtype=tf.int64), seed=tf.stack([tf.cast(seed, tf.int64), epoch])
        )
        # Each batch of each epoch has its own number, which seeds its augmentation.
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size).enumerate(epoch * 2**32)

    def load(number, index):
        draw = tf.stack([tf.cast(seed, tf.int64), number])
        images, masks = rows(index)
        pictures, labels = augment(
            images, masks, draw, augmentation=augmentation, scaling=split.scaling
        )
        pictures = _scaled(pictures)
        return pictures, *_targets(pictures, labels, index, answers, weighted=weighted)

    order = tf.data.Dataset.range(first, epochs).flat_map(epoch_batches)
    return order.map(load, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _rows(split: Split) -> Callable:
    """Returns a function from positions in a split to images and masks, as tensors."""
    import tensorflow as tf

    if isinstance(split.images, np.ndarray):
        images, masks = tf.constant(split.images), tf.constant(split.masks)
        return lambda index: (tf.gather(images, index), tf.gather(masks, index))
    arrays = (split.images, split.masks)

    def read(index):
        tensors = tf.numpy_function(
            lambda numbers: [array[numbers] for array in arrays],
            [index],
            [array.dtype for array in arrays],
            stateful=False,
        )
        return tuple(
            tf.ensure_shape(tensor, (None, *array.shape[1:]))
            for tensor, array in zip(tensors, arrays, strict=True)
        )

    return read


def _targets(pictures, labels, index, answers: Callable | None, *, weighted: bool) -> tuple:
    """Returns masks followed by answers and, if pixels are ignored, weights of 0 and 1.

    Weights are integers, because Keras' IoU counts in integers.
    """
    import tensorflow as tf

    is_scored = labels < IGNORED
    if weighted:
        labels = tf.where(is_scored, labels, 0.0)
    if answers is not None:
        labels = tf.concat([labels, answers(pictures, index)], axis=-1)
    return (labels, tf.cast(is_scored, tf.int32)) if weighted else (labels,)


def _scaled(images):
    import tensorflow as tf

    return (tf.cast(images, tf.float32) / 255.0 - 0.5) / 0.5
