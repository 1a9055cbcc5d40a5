"""What layers read during a forward pass that runs no further than it has to."""

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import keras
from keras.src.backend.common.symbolic_scope import in_symbolic_scope

from ..statistics.types import Images, Tensor
from .image_batches import fixed_batch_size
from .images_tap import check_inputs, preprocessed
from .patching import Method, Patch, Wrapper
from .recording import call_place

PASS_BYTES = 2**29  # of tensors that a pass keeps, about
FEWEST, MOST = 16, 64  # images of a pass, whatever their tensors take


class LayerInputs:
    """Runs a model eagerly, in inference mode, and returns what some of its layers read.

    The first pass is complete and counts each layer's calls. Later ones end as soon as each
    layer has been called as often as then.

    Args:
        model: A built Keras model.
        layers: Layers of that model; none of their calls may be inside a compiled function.

    Raises:
        ValueError: The model is not built, or a layer is not part of it.

    Example:
        >>> import numpy as np
        >>> inputs = keras.Input((4,))
        >>> mix = keras.layers.Dense(3)
        >>> model = keras.Model(inputs, keras.layers.Dense(2)(mix(inputs)))
        >>> images = np.zeros((5, 4), "float32")
        >>> [[tuple(x.shape) for x in calls] for calls in LayerInputs(model, [mix])(images)]
        [[(5, 4)]]
    """

    def __init__(self, model: keras.Model, layers: Sequence[keras.layers.Layer]):
        check_parts(model, layers)
        self._model, self._layers = model, list(layers)
        self._expected: list[int] = []  # calls of each layer in a complete pass

    def __call__(self, batch: Images) -> list[list[Tensor]]:
        """Runs one batch.

        Args:
            batch: Images as `model.predict` takes them.

        Returns:
            For each layer, the first argument of each of its calls.

        Raises:
            ValueError: The images are not of the model's size, or a layer is not called.
        """
        batch = model_inputs(self._model, batch)
        calls: list[list[Tensor]] = [[] for _ in self._layers]
        with ExitStack() as patches:
            for number, layer in enumerate(self._layers):
                wrapper = self._recorder(calls, number)
                patches.enter_context(Patch(layer, "call", wrapper))
            try:
                self._model(batch, training=False)
            except _PassComplete:
                pass
        check_calls(self._model, self._layers, calls)
        self._expected = self._expected or [len(inputs) for inputs in calls]
        return calls

    def _recorder(self, calls: list[list[Tensor]], number: int) -> Wrapper:
        place = call_place()

        def record_input(original_call: Method, *args: Any, **kwargs: Any) -> Any:
            if call_place() == place:
                calls[number].append(args[0] if args else next(iter(kwargs.values())))
                pairs = zip(calls, self._expected, strict=False)
                if self._expected and all(len(inputs) >= count for inputs, count in pairs):
                    raise _PassComplete
            elif not in_symbolic_scope():
                calls[number].append(None)
            return original_call(*args, **kwargs)

        return record_input


class _PassComplete(BaseException):
    """Ends a forward pass; Keras adds a traceback of its own to any `Exception`."""


def check_calls(
    model: keras.Model, layers: Sequence[keras.layers.Layer], calls: Sequence[Sequence[Tensor]]
) -> None:
    """Checks that every layer was called, and only where its tensors can be taken.

    Args:
        model: The model.
        layers: Layers of it.
        calls: For each layer, the tensors of its calls; None for one that cannot be taken.

    Raises:
        ValueError: A layer was not.
    """
    for layer, tensors in zip(layers, calls, strict=True):
        if not tensors or any(tensor is None for tensor in tensors):
            where = "called inside of one" if tensors else "not called there"
            raise ValueError(
                f"Expected a layer that model '{model.name}' calls on these images, outside of "
                "loops and compiled functions and, for gradients, of RematScope. Received: "
                f"layer '{layer.name}', which is {where}"
            )


def check_parts(model: keras.Model, layers: Sequence[keras.layers.Layer]) -> None:
    """Checks that a model is built and that layers are part of it.

    Raises:
        ValueError: They are not.
    """
    if not model.built:
        raise ValueError(
            f"Expected a built model. Received: model '{model.name}', which has no weights yet: "
            "call it on images first"
        )
    parts = list(model._flatten_layers(include_self=False))
    for layer in layers:
        if not any(part is layer for part in parts):
            names = ", ".join(Counter(part.name for part in parts))
            raise ValueError(
                f"Expected a layer of model '{model.name}': {names}. Received: layer "
                f"'{getattr(layer, 'name', layer)}', which is not part of it"
            )


def model_inputs(model: keras.Model, batch: Images) -> Images:
    """Returns a batch as a model takes it.

    Raises:
        ValueError: The images are not of the number or the size that the model takes.
    """
    batch = preprocessed(model, batch)
    check_inputs(model, batch)
    tensors = getattr(model, "inputs", None) or []
    arrays = keras.tree.flatten(batch)
    if isinstance(batch, dict):
        tensors = [tensor for tensor in tensors if tensor.name in batch]
        arrays = [batch[tensor.name] for tensor in tensors]
    if len(arrays) == len(tensors):
        for tensor, array in zip(tensors, arrays, strict=True):
            taken, received = tuple(tensor.shape[1:]), tuple(array.shape[1:])
            if not _fits(received, taken):
                raise ValueError(
                    f"Expected images of shape {taken}, which model '{model.name}' takes. "
                    f"Received: images of shape {received}"
                )
    return batch


def _fits(received: tuple[int, ...], taken: tuple[int | None, ...]) -> bool:
    """Returns whether Keras takes images of one shape for another; it adds or drops a last 1."""
    if len(received) + 1 == len(taken):
        received = (*received, 1)
    elif len(received) == len(taken) + 1:
        taken = (*taken, 1)
    return len(received) == len(taken) and all(
        size is None or size == extent for size, extent in zip(taken, received, strict=True)
    )


def pass_size(models: Sequence[keras.Model], share: int = 1) -> int:
    """Returns how many images to run eagerly at a time: Keras keeps all tensors until a pass ends.

    Args:
        models: Built models, run one after the other.
        share: How many times as much as the tensors of the graph a pass keeps. Defaults to 1.

    Example:
        >>> image = keras.Input((60, 80, 3))
        >>> model = keras.Model(image, keras.layers.Conv2D(100, 1)(image))
        >>> pass_size([model]), pass_size([model], share=3), pass_size([model], share=30)
        (64, 64, 9)
    """
    numbers = max(map(_numbers_kept, models))
    if numbers == math.inf:
        return FEWEST // share
    return max(min(PASS_BYTES // (4 * share * max(int(numbers), 1)), MOST), FEWEST // share, 1)


def _numbers_kept(model: keras.Model) -> float:
    """Returns how many numbers the outputs of all layers hold, for one image; infinity if unknown.

    What layers within layers put out is not counted.
    """
    total = 0
    for layer in model._flatten_layers():
        for node in layer._inbound_nodes:
            for tensor in node.output_tensors:
                if None in tensor.shape[1:]:
                    return math.inf
                total += math.prod(tensor.shape[1:])
    return total or math.inf


def common_batch_size(models: Sequence[keras.Model]) -> int | None:
    """Returns the only batch size that models take; None if they take any.

    Raises:
        ValueError: Two models take batches of different sizes.
    """
    sizes = {fixed_batch_size(model) for model in models} - {None}
    if len(sizes) > 1:
        raise ValueError(
            "Expected models that take batches of the same size. Received: batches of "
            f"{' and '.join(map(str, sorted(size for size in sizes if size)))} images"
        )
    return next(iter(sizes), None)
