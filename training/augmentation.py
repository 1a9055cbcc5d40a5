"""Random flips, rotations and colours; an image and its mask are flipped and turned alike."""

import keras
import tensorflow as tf

from training.scaling import EIGHT_BITS, Scaling
from training.settings import AugmentationConfig


def augment(
    images, masks, seed, *, augmentation: AugmentationConfig, scaling: Scaling = EIGHT_BITS
):
    """Changes each image of a batch at random, and moves its mask along.

    Args:
        images: (batch, height, width, channels), as a split has them.
        masks: (batch, height, width, 1), uint8: 0, 1 and the value of ignored pixels.
        seed: (2,), integers; equal seeds give equal changes.
        augmentation: Ranges to draw from; 0 or False disables a change.
        scaling: How images become a network's input. Defaults to that of 8 bits.

    Returns:
        Images (batch, height, width, channels) as `scaling.levels` has them and masks (batch,
        height, width, 1) of the same values as before, both float32.
    """
    images = scaling.levels(tf.cast(images, tf.float32))
    masks = tf.cast(masks, tf.float32)
    draws = tf.random.stateless_uniform((tf.shape(images)[0], 6), seed, -1.0, 1.0)
    flip, rotation, brightness, contrast, saturation, hue = (
        draws[:, index, None, None, None] for index in range(6)
    )
    if augmentation.horizontal_flip:
        images = tf.where(flip > 0, tf.reverse(images, [2]), images)
        masks = tf.where(flip > 0, tf.reverse(masks, [2]), masks)
    if augmentation.rotation:
        angles = tf.reshape(rotation, (-1,)) * (augmentation.rotation * 3.141592653589793 / 180)
        images = _rotate(images, angles, "bilinear")
        masks = _rotate(masks, angles, "nearest")
    if augmentation.brightness:
        images = images + 255.0 * augmentation.brightness * brightness
    if augmentation.contrast:
        mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
        images = mean + (images - mean) * (1.0 + augmentation.contrast * contrast)
    if augmentation.saturation:
        grey = tf.image.rgb_to_grayscale(images)
        images = grey + (images - grey) * (1.0 + augmentation.saturation * saturation)
    if augmentation.hue:
        images = _shift_hue(images, augmentation.hue * hue)
    if scaling.mean is None:  # other images may have values beyond
        images = tf.clip_by_value(images, 0.0, 255.0)
    return images, masks


def _rotate(images, angles, interpolation: str):
    """Rotates each image about its centre; the corners are filled by reflection.

    Args:
        images: (batch, height, width, channels).
        angles: (batch,), radians.
        interpolation: "nearest" or "bilinear".
    """
    height, width = images.shape[1:3]
    y, x = (height - 1) / 2.0, (width - 1) / 2.0
    cos, sin, zero = tf.cos(angles), tf.sin(angles), tf.zeros_like(angles)
    rows = [cos, -sin, x - x * cos + y * sin, sin, cos, y - x * sin - y * cos, zero, zero]
    return keras.ops.image.affine_transform(
        images, tf.stack(rows, axis=1), interpolation=interpolation, fill_mode="reflect"
    )


def _shift_hue(images, shift):
    """Shifts the hue of images in 0..255; `shift` is a fraction of the colour circle."""
    hsv = tf.image.rgb_to_hsv(tf.clip_by_value(images, 0.0, 255.0) / 255.0)
    turned = tf.math.floormod(hsv[..., :1] + shift, 1.0)
    return 255.0 * tf.image.hsv_to_rgb(tf.concat([turned, hsv[..., 1:]], axis=-1))
