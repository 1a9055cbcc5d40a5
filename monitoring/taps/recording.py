"""Records what layers return during one forward pass."""

import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
from keras import backend
from keras.src.backend.common.symbolic_scope import in_symbolic_scope

from ..statistics.types import Images, Tensor
from .masks import keras_mask
from .patching import Method, Patch, Wrapper


class Calls(list[Tensor]):
    """The outputs of a layer's calls in one forward pass.

    Attributes:
        reason: Why there are none, if there are none, or not all of them.
        masks: The mask that Keras attached to each output at the end of the call, or None. Layers
            that use a tensor later may take its mask away, as attention does.
        incomplete: Whether the layer was also called where its outputs cannot be taken.
        is_quantized_call: Whether the layer's `quantized_call` is running.
    """

    reason = "is never called"
    incomplete = False
    is_quantized_call = False

    def __init__(self) -> None:
        super().__init__()
        self.masks: list[Tensor | None] = []


@contextmanager
def recorded_outputs(
    layers: Mapping[str, keras.layers.Layer],
) -> Iterator[dict[str, list[Tensor]]]:
    """Records what layers return for as long as one forward pass is traced or run.

    Calls in another graph or thread are not part of this pass: Keras calls a layer without
    `build` on shapes first, in a graph of its own, and replicas are traced side by side. Nor are
    calls that compute activations a second time for the gradient, as under `RematScope`.

    Args:
        layers: {name: layer}.

    Yields:
        {name: outputs of the layer's calls so far}.
    """
    outputs: dict[str, list[Tensor]] = {}
    place = call_place()

    def recorder(calls: Calls) -> Wrapper:
        def record_output(original_call: Method, *args: Any, **kwargs: Any) -> Any:
            if calls.is_quantized_call:  # which may use `call`
                return original_call(*args, **kwargs)
            output = original_call(*args, **kwargs)
            if call_place() != place:
                calls.reason = (
                    "is called inside a loop, or a function that is compiled by itself, "
                    "where its outputs cannot be taken: watch the layer around it"
                )
                # Keras calls a layer on shapes as well, and replicas have threads of their own.
                own_thread = threading.get_ident() == place[0]
                calls.incomplete |= own_thread and not in_symbolic_scope()
            elif not _is_recomputation():
                calls.append(output)
                calls.masks.append(keras_mask(output))
            return output

        return record_output

    def quantized_recorder(calls: Calls, record_output: Wrapper) -> Wrapper:
        def record_quantized(original_call: Method, *args: Any, **kwargs: Any) -> Any:
            def quantized_call(*args: Any, **kwargs: Any) -> Any:
                calls.is_quantized_call = True
                try:
                    return original_call(*args, **kwargs)
                finally:
                    calls.is_quantized_call = False

            return record_output(quantized_call, *args, **kwargs)

        return record_quantized

    def mask_recorder(calls: Calls) -> Wrapper:
        def record_mask(original: Method, inputs: Any, output: Any, previous: Any) -> None:
            original(inputs, output, previous)
            if calls and call_place() == place and not _is_recomputation():
                calls.masks[-1] = keras_mask(output)

        return record_mask

    with ExitStack() as patches:
        for name, layer in layers.items():
            calls = outputs[name] = Calls()
            record_output = recorder(calls)
            patches.enter_context(Patch(layer, "call", record_output))
            # Keras runs this method instead, but `TimeDistributed` does not.
            if _is_quantized(layer):
                wrapper = quantized_recorder(calls, record_output)
                patches.enter_context(Patch(layer, "quantized_call", wrapper))
            patches.enter_context(Patch(layer, "_set_mask_metadata", mask_recorder(calls)))
        yield outputs


def symbolic_outputs(
    model: keras.Model,
    layers: Mapping[str, keras.layers.Layer],
    inputs: Images,
    *,
    training: bool,
) -> dict[str, list[Tensor]] | None:
    """Calls a model on shapes alone; no weight, statistic or seed changes.

    Args:
        model: The model.
        layers: {name: layer} of that model.
        inputs: One batch of its inputs, or Keras tensors; only shapes and dtypes matter.
        training: Whether to call it as a training step does: in training mode, unless its `call`
            has no such argument.

    Returns:
        {name: outputs of the layer's calls}, as in `recorded_outputs`; None if the model cannot
        run on shapes, or not on these.
    """
    shapes = keras.tree.map_structure(
        lambda x: keras.KerasTensor(x.shape, backend.standardize_dtype(x.dtype)), inputs
    )
    outputs: dict[str, list[Tensor]] = {}
    options = {"training": training} if model._call_has_training_arg or not training else {}

    def forward(batch: Images) -> Any:
        with recorded_outputs(layers) as calls:
            result = model(batch, **options)
        outputs.update(calls)
        return result

    try:
        _Function(forward).compute_output_spec(shapes)
    except Exception:  # whatever the layers of anybody's model raise
        return None
    return outputs


def build_on_shapes(model: keras.Model, inputs: Images, *, training: bool) -> None:
    """Builds a model that is not built yet; leaves it to its first call if that is impossible.

    Keras builds a subclassed model at its first call, by running it on the batch itself in a graph
    of its own. A layer that returns its inputs would leave them a mask of that graph, which cannot
    be read outside.

    Args:
        model: The model.
        inputs: One batch of its inputs; only shapes and dtypes matter.
        training: Whether the first call is that of a training step.
    """
    if not model.built:
        symbolic_outputs(model, {}, inputs, training=training)


def compiled_call(layer: keras.layers.Layer) -> bool:
    """Returns whether `tf.function` compiles a layer's `call`, so that nothing inside is seen."""
    return hasattr(layer.call, "python_function")


class _Function(keras.layers.Layer):
    """A function as a layer, so that Keras can run it on shapes."""

    def __init__(self, function: Callable[[Any], Any]):
        super().__init__(autocast=False)
        self.function = function

    def call(self, inputs: Any) -> Any:
        return self.function(inputs)


def _is_quantized(layer: keras.layers.Layer) -> bool:
    return getattr(layer.dtype_policy, "quantization_mode", None) is not None


def _is_recomputation() -> bool:
    """Returns whether the current call is part of a gradient (TensorFlow's `recompute_grad`)."""
    if backend.backend() != "tensorflow":
        return False
    return any(f.f_code.co_name == "inner_recompute_grad" for f, _ in traceback.walk_stack(None))


def call_place() -> tuple[int, int]:
    """Returns the current thread and, on TensorFlow, the graph being traced."""
    graph = None
    if backend.backend() == "tensorflow":
        import tensorflow as tf

        graph = tf.compat.v1.get_default_graph()
    return threading.get_ident(), id(graph)
