"""Images and masks for Keras: scaled, cached, shuffled and augmented by seed."""

from collections.abc import Callable

import numpy as np

from training.config import AugmentationConfig
from training.images import IGNORED, Split


def scale(images):
    """Maps 0..255 to -1..1, as the networks take it: (x / 255 - 0.5) / 0.5, in float32.

    Example:
        >>> scale(np.array([0, 255], np.uint8)).tolist()
        [-1.0, 1.0]
    """
    return (np.asarray(images, np.float32) / 255.0 - 0.5) / 0.5


def draw_images(split: Split, count: int, seed: int) -> np.ndarray:
    """Draws `count` images without repetition, scaled, (count, height, width, 3).

    All of them, in a seeded order, where the split has no more than `count`.
    """
    order = np.random.default_rng(seed).permutation(len(split))[:count]
    return scale(split.images[np.sort(order)])


def batches(split: Split, batch_size: int, answers: Callable | None = None):
    """Returns a tf.data.Dataset of (images, masks) in order, scaled, in float32.

    Where the split has pixels to ignore, (images, masks, weights), 0 for these, else 1.

    Args:
        split: Images and masks.
        batch_size: Images a batch.
        answers: From scaled images and their indices to channels that are put behind the
            mask's. Defaults to None: none.
    """
    import tensorflow as tf

    images, masks = tf.constant(split.images), tf.constant(split.masks)
    weighted = (split.masks == IGNORED).any()

    def gather(index):
        pictures = _scaled(tf.gather(images, index))
        labels = tf.cast(tf.gather(masks, index), tf.float32)
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

    What an epoch sees depends on `seed`, `batch_size` and the epoch's number alone. Its last
    batch may be smaller.

    Args:
        split: Images and masks.
        batch_size: Images a batch.
        epochs: How many times through the split.
        first: The epoch to begin with. Defaults to 0.
        seed: Decides order and augmentation.
        augmentation: Ranges to draw from.
        answers: As of `batches`; it is given augmented images.

    Returns:
        Batches of images (batch, height, width, 3) in -1..1 and masks (batch, height,
        width, 1) of 0 and 1, in float32, with `answers` behind them; and weights as of
        `batches`; ceil(images / batch_size) of them an epoch.
    """
    import tensorflow as tf

    from training.augmentation import augment

    images, masks = tf.constant(split.images), tf.constant(split.masks)
    weighted = (split.masks == IGNORED).any()

    def epoch_batches(epoch):
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(split), dtype=tf.int64), seed=tf.stack([tf.cast(seed, tf.int64), epoch])
        )
        # Numbers that no other batch of any epoch has: augmentation is drawn from them.
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size).enumerate(epoch * 2**32)

    def load(number, index):
        draw = tf.stack([tf.cast(seed, tf.int64), number])
        batch = tf.gather(images, index), tf.gather(masks, index)
        pictures, labels = augment(*batch, draw, augmentation=augmentation)
        pictures = _scaled(pictures)
        return pictures, *_targets(pictures, labels, index, answers, weighted=weighted)

    order = tf.data.Dataset.range(first, epochs).flat_map(epoch_batches)
    return order.map(load, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _targets(pictures, labels, index, answers: Callable | None, *, weighted: bool) -> tuple:
    """Returns masks with answers behind them and, where pixels are ignored, weights of 0 and 1.

    Weights are integers, as Keras' IoU counts in integers.
    """
    import tensorflow as tf

    counted = labels < IGNORED
    if weighted:
        labels = tf.where(counted, labels, 0.0)
    if answers is not None:
        labels = tf.concat([labels, answers(pictures, index)], axis=-1)
    return (labels, tf.cast(counted, tf.int32)) if weighted else (labels,)


def _scaled(images):
    import tensorflow as tf

    return (tf.cast(images, tf.float32) / 255.0 - 0.5) / 0.5
