"""The operators of a functional model in running order, as an INT8 runtime runs them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import layers as kl

from .quantization.fake_quant import FakeQuantize

CONVOLUTIONS = (kl.Conv1D, kl.Conv2D, kl.Conv3D, kl.DepthwiseConv1D, kl.DepthwiseConv2D)
TRANSPOSED = (kl.Conv1DTranspose, kl.Conv2DTranspose, kl.Conv3DTranspose)
SEPARABLE = (kl.SeparableConv1D, kl.SeparableConv2D)
PRODUCTS = (*CONVOLUTIONS, *TRANSPOSED, *SEPARABLE, kl.Dense)
ABSENT = (FakeQuantize, kl.Identity, kl.Dropout, kl.SpatialDropout2D, kl.GaussianNoise)


@dataclass(frozen=True)
class OperatorCall:
    """One call of a layer. Tensors are numbered in the order they are made.

    Attributes:
        layer: The layer that is called.
        inputs: Numbers of the tensors it reads.
        outputs: Numbers of the tensors it makes.
        input_shapes: Shapes of the inputs, without the batch.
        output_shapes: Shapes of the outputs, without the batch.
        arguments: What the layer is called with: Keras tensors and constants.
        fused: Layers that a runtime runs as part of this one.
    """

    layer: keras.layers.Layer
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    arguments: tuple[Any, ...] = ()
    fused: tuple[keras.layers.Layer, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the first input, without the batch."""
        return self.input_shapes[0]


def operator_calls(
    graph: keras.Model,
    names: dict[int, int],
    numbers: Iterator[int],
    entries: list[tuple[keras.KerasTensor, int]] | None = None,
) -> Iterator[OperatorCall]:
    """Yields every call in the order in which Keras runs them, nested models unrolled.

    Keras exposes how tensors connect layers only in private attributes.

    Args:
        graph: A functional model.
        names: {id of a Keras tensor: its number}. Holds the inputs at first; new tensors are
            added.
        numbers: Numbers for new tensors, so that a model called twice makes different ones.
        entries: Gets each nested model's inputs and the numbers of what they are called with.
            Defaults to None: nobody asks.
    """
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if node.is_input:
                continue
            layer = node.operation
            layer = getattr(layer, "_functional", None) or layer
            inputs = tuple(names[id(tensor)] for tensor in node.input_tensors)
            if hasattr(layer, "_nodes_by_depth"):
                inner = dict(zip((id(t) for t in layer.inputs), inputs, strict=True))
                if entries is not None:
                    entries.extend(zip(layer.inputs, inputs, strict=True))
                yield from operator_calls(layer, inner, numbers, entries)
                outputs = tuple(inner[id(tensor)] for tensor in layer.outputs)
            else:
                outputs = tuple(next(numbers) for _ in node.output_tensors)
                yield OperatorCall(
                    layer,
                    inputs,
                    outputs,
                    tuple(tuple(tensor.shape[1:]) for tensor in node.input_tensors),
                    tuple(tuple(tensor.shape[1:]) for tensor in node.output_tensors),
                    (*node.arguments.args, *node.arguments.kwargs.values()),
                )
            names |= dict(zip((id(t) for t in node.output_tensors), outputs, strict=True))


def fuse(calls: Sequence[OperatorCall], outputs: list[int]) -> tuple[list[OperatorCall], list[int]]:
    """Removes calls that an INT8 runtime fuses or drops.

    Returns:
        The calls that are left, and the numbers of the output tensors among theirs.
    """
    readers = Counter(name for call in calls for name in {*call.inputs}) + Counter(outputs)
    root: dict[int, int] = {}
    maker_of: dict[int, int] = {}  # tensor: index in `remaining` of the call that makes it
    remaining: list[OperatorCall] = []
    for call in calls:
        inputs = tuple(root.get(name, name) for name in call.inputs)
        absent = isinstance(call.layer, ABSENT) or _linear(call.layer)
        if not absent and _fusible(call.layer) and readers[call.inputs[0]] == 1:
            maker = maker_of.get(inputs[0])
            if maker is not None and isinstance(remaining[maker].layer, PRODUCTS):
                remaining[maker] = replace(
                    remaining[maker], fused=(*remaining[maker].fused, call.layer)
                )
                absent = True
        if absent:
            root[call.outputs[0]] = inputs[0]
        else:
            maker_of |= dict.fromkeys(call.outputs, len(remaining))
            remaining.append(replace(call, inputs=inputs))
    return remaining, [root.get(name, name) for name in outputs]


def _linear(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, kl.Activation) and layer.activation is keras.activations.linear


def _fusible(layer: keras.layers.Layer) -> bool:
    """Returns whether a runtime fuses the layer into the convolution before it."""
    if isinstance(layer, kl.ReLU):
        return not layer.negative_slope and not layer.threshold
    if isinstance(layer, kl.Activation):
        return layer.activation in (keras.activations.relu, keras.activations.relu6)
    return isinstance(layer, kl.BatchNormalization)
