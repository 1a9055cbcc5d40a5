"""Arranges recorded activations as samples: units, positions, channels."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from keras import backend, ops

from ..statistics.types import Tensor
from .masks import keras_mask

CHANNEL_AXES = {"channels_last": -1, "channels_first": 1}


class Samples(NamedTuple):
    """Activations as samples.

    Attributes:
        values: (units, samples, channels), or (samples, channels); 0 where not valid.
        valid: Which samples are data and not steps that Keras masks, (units, samples) or
            (samples,), bool; None: all of them.
    """

    values: Tensor
    valid: Tensor | None


def arrange_samples(
    outputs: Mapping[str, list[Tensor]],
    units: Tensor | None,
    *,
    channel_axis: int,
    limit: int | None,
) -> dict[str, Samples]:
    """Arranges recorded activations as samples.

    Args:
        outputs: {name: outputs of the layer's calls}, each (batch, ..., channels); steps that
            Keras masks in them are not valid.
        units: Number of images, which the first axis of every output counts; None to keep
            a batch in one piece, whatever its first axis is.
        channel_axis: Axis of the channels, -1 or 1.
        limit: Most positions of an image to use, evenly spread; None for all.

    Returns:
        {name: samples}; the outputs of several calls are joined.
    """
    return {
        name: _joined(
            [
                _arrange_call(output, mask, units, channel_axis, limit)
                for output, mask in zip(calls, _masks(calls), strict=True)
            ]
        )
        for name, calls in outputs.items()
    }


def _masks(calls: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Returns the masks of a layer's outputs: as recorded, or as they are now."""
    recorded: Sequence[Tensor | None] | None = getattr(calls, "masks", None)
    return [keras_mask(output) for output in calls] if recorded is None else recorded


def _joined(parts: Sequence[Samples]) -> Samples:
    if len(parts) == 1:
        return parts[0]
    values = ops.concatenate([part.values for part in parts], axis=-2)
    if all(part.valid is None for part in parts):
        return Samples(values, None)
    valid = [
        ops.ones(ops.shape(part.values)[:-1], "bool") if part.valid is None else part.valid
        for part in parts
    ]
    return Samples(values, ops.concatenate(valid, axis=-1))


def find_problem(
    calls: Sequence[Tensor], channel_axis: int, units: int | None = None
) -> str | None:
    """Returns why a layer's outputs cannot be measured; None if they can.

    Args:
        calls: Outputs of the layer's calls.
        channel_axis: Axis of the channels.
        units: Number of images in the batch. Defaults to None: not checked.
    """
    if not calls or getattr(calls, "incomplete", False):
        return getattr(calls, "reason", "is never called")
    for output, mask in zip(calls, _masks(calls), strict=True):
        if not (ops.is_tensor(output) or backend.is_keras_tensor(output)):
            return f"returns a {type(output).__name__}, not one tensor"
        shape = tuple(output.shape)
        if len(shape) < 2 or shape[channel_axis] is None:
            return f"returns shape {shape}, not (batch, ..., channels)"
        if not backend.is_float_dtype(backend.standardize_dtype(output.dtype)):
            return f"returns {backend.standardize_dtype(output.dtype)}, not real numbers"
        if units is not None and shape[0] is not None and shape[0] != units:
            return f"returns shape {shape} for {units} images: its first axis is not the batch"
        if mask is not None and len(mask.shape) >= len(shape):
            return f"has a mask of shape {tuple(mask.shape)}, which is not one for each position"
    if len({output.shape[channel_axis] for output in calls}) > 1:
        return "returns different numbers of channels in different calls"
    return None


def position_step(spatial: Sequence[int], limit: int) -> int:
    """Returns the step through flattened positions that leaves at most `limit` of them.

    It is odd and coprime to the width, so that the positions lie on a skewed grid that meets
    every row, every column and every phase of a later 2x2 pooling.

    Example:
        >>> position_step((60, 80), 400), position_step((15, 20), 400)
        (13, 1)
    """
    step = max(1, math.ceil(math.prod(spatial) / limit))
    width = spatial[-1] if len(spatial) > 1 else 1
    while step > 1 and math.gcd(step, 2 * width) > 1:
        step += 1
    return step


def _arrange_call(
    output: Tensor,
    mask: Tensor | None,
    units: Tensor | None,
    channel_axis: int,
    limit: int | None,
) -> Samples:
    if channel_axis != -1:
        output = ops.moveaxis(output, channel_axis, -1)
    channels = output.shape[-1]
    step: Any = 1
    if limit is not None:
        spatial = ops.shape(output)[1:-1]  # integers where they are known
        known = all(isinstance(side, int) for side in spatial)
        step = position_step(spatial, limit) if known else _dynamic_step(spatial, limit)
    # The second reshape restores static shapes that a step known only at run time hides.
    units_first: tuple[Any, ...] = () if units is None else (units,)
    select = (*(slice(None) for _ in units_first), slice(None, None, step))
    shape = (*units_first, -1)
    valid = None
    if mask is not None:
        # A mask has one value for each step, whatever follows the steps.
        mask = ops.reshape(
            mask, (*ops.shape(mask), *[1] * (len(output.shape) - 1 - len(mask.shape)))
        )
        mask = ops.broadcast_to(ops.cast(mask, "bool"), ops.shape(output)[:-1])
        valid = ops.reshape(ops.reshape(mask, shape)[select], shape)
    shape = (*shape, channels)
    values = ops.reshape(ops.reshape(output, shape)[select], shape)
    if valid is not None:
        values = ops.where(valid[..., None], values, ops.zeros_like(values))
    return Samples(values, valid)


def _dynamic_step(spatial: Sequence[Tensor], limit: int) -> Tensor:
    """Returns `position_step` of sizes that are known only while the model runs (TensorFlow)."""
    sides = [ops.cast(side, "int32") for side in spatial]
    positions = ops.cast(1, "int32")
    for side in sides:
        positions = positions * side
    step = ops.maximum((positions + limit - 1) // limit, 1)
    width = sides[-1] if len(sides) > 1 else ops.cast(1, "int32")

    def shares_factor(step: Tensor) -> Tensor:
        # Euclid's algorithm on (step, 2 width); its last divisor is 1 if they are coprime.
        divisor, _ = ops.while_loop(lambda a, b: b > 0, lambda a, b: (b, a % b), (step, 2 * width))
        return ops.logical_and(step > 1, divisor > 1)

    step = ops.while_loop(shares_factor, lambda step: (step + 1,), (step,))[0]
    return ops.reshape(step, ())  # a loop leaves even its rank unknown
