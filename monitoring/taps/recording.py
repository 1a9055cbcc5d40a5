"""Records what layers return during one forward pass."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
from keras import backend

from ..statistics.types import Images, Tensor
from .patching import Method, Patch, Wrapper


@contextmanager
def recorded_outputs(
    layers: Mapping[str, keras.layers.Layer],
) -> Iterator[dict[str, list[Tensor]]]:
    """Records what layers return for as long as one forward pass is traced or run.

    Calls in another graph or thread are not part of this pass: Keras calls a layer without
    `build` on shapes first, in a graph of its own, and replicas are traced side by side.

    Args:
        layers: {name: layer}.

    Yields:
        {name: outputs of the layer's calls so far}.
    """
    outputs: dict[str, list[Tensor]] = {name: [] for name in layers}
    place = _place()

    def recorder(calls: list[Tensor]) -> Wrapper:
        def record_output(original_call: Method, *args: Any, **kwargs: Any) -> Any:
            output = original_call(*args, **kwargs)
            if _place() == place:
                calls.append(output)
            return output

        return record_output

    with ExitStack() as patches:
        for name, layer in layers.items():
            patches.enter_context(Patch(layer, "call", recorder(outputs[name])))
        yield outputs


def symbolic_outputs(
    model: keras.Model,
    layers: Mapping[str, keras.layers.Layer],
    inputs: Images,
    *,
    training: bool,
) -> dict[str, list[Tensor]]:
    """Calls a model on shapes alone; no weight, statistic or seed changes.

    Args:
        model: The model.
        layers: {name: layer} of that model.
        inputs: One batch of its inputs, or Keras tensors; only shapes and dtypes matter.
        training: Whether to call it in training mode.

    Returns:
        {name: outputs of the layer's calls}, as in `recorded_outputs`.
    """
    shapes = keras.tree.map_structure(
        lambda x: keras.KerasTensor(x.shape, backend.standardize_dtype(x.dtype)), inputs
    )
    outputs: dict[str, list[Tensor]] = {}

    def forward(batch: Images) -> Any:
        with recorded_outputs(layers) as calls:
            result = model(batch, training=training)
        outputs.update(calls)
        return result

    _Function(forward).compute_output_spec(shapes)
    return outputs


class _Function(keras.layers.Layer):
    """A function as a layer, so that Keras can run it on shapes."""

    def __init__(self, function: Callable[[Any], Any]):
        super().__init__(autocast=False)
        self.function = function

    def call(self, inputs: Any) -> Any:
        return self.function(inputs)


def _place() -> tuple[int, int]:
    """Returns the current thread and, on TensorFlow, the graph being traced."""
    graph = None
    if backend.backend() == "tensorflow":
        import tensorflow as tf

        graph = tf.compat.v1.get_default_graph()
    return threading.get_ident(), id(graph)
