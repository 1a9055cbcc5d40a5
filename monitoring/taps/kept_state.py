"""Runs a model and leaves every variable as it was, whatever the model does in inference mode."""

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import keras
import numpy as np
from keras.src.backend.common.global_state import get_global_attribute

from ..statistics.types import Images

# Operations that read a variable and leave it as it is.
READING = frozenset({"ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VariableShape"})


@contextmanager
def kept_generators() -> Iterator[None]:
    """Gives the global random generators of Python and NumPy their state back."""
    states = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])


@contextmanager
def kept_variables(model: keras.Model) -> Iterator[None]:
    """Gives every variable of a model its value back, and Keras' own seed.

    For other backends than TensorFlow, and for models that run eagerly; `KeptStateFunction` knows
    exactly which variables a compiled model writes.
    """
    restores = [_restoring(variable) for variable in _state_of(model)]
    try:
        yield
    finally:
        for restore in restores:
            restore()


def _state_of(model: keras.Model) -> list[Any]:
    """Returns the variables that a forward pass may write; on JAX these are never trainable."""
    seed = get_global_attribute("global_seed_generator")  # of random operations without a seed
    variables = [*model.variables, *([] if seed is None else [seed.state])]
    for layer in model._flatten_layers():  # the states of recurrent layers, and TensorFlow's own
        variables += [leaf for leaf in _leaves(vars(layer)) if _is_variable(leaf.__class__)]
    on_jax = keras.backend.backend() == "jax"
    return [v for v in {id(v): v for v in variables}.values() if not (on_jax and v.trainable)]


def _restoring(variable: Any) -> Callable[[], Any]:
    """Returns what gives a variable the value back that it has now."""
    raw = variable.value if isinstance(variable, keras.Variable) else variable
    if type(raw).__name__ != "ResourceVariable":
        return partial(variable.assign, keras.ops.copy(variable))
    import tensorflow as tf

    value = _value(raw.handle)
    return partial(tf.raw_ops.AssignVariableOp, resource=raw.handle, value=value)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _leaves(part)
    else:
        yield value


@cache
def _is_variable(kind: type) -> bool:
    """Returns whether a class is one of variables."""
    tensorflow = sys.modules.get("tensorflow")
    is_tensorflow = tensorflow is not None and issubclass(kind, tensorflow.Variable)
    return is_tensorflow or issubclass(kind, keras.Variable)


class KeptStateFunction:
    """A function of the model's inputs, compiled by TensorFlow, that leaves no trace.

    Between `begin` and `end`, calls may write variables: seed generators, also Keras' global one,
    recurrent state, counters, statistics, trainable or not, tracked by Keras or not. At the end
    each has its value from before. Variables that are only read cost nothing.

    Args:
        function: From a batch of inputs, which may be nested, to tensors.
    """

    def __init__(self, function: Callable[[Images], Any]):
        import tensorflow as tf

        self._function = tf.function(function, reduce_retracing=True)
        self._saved: dict[int, tuple[Any, Any]] = {}  # {id of a variable's handle: it, its value}
        self._written: dict[Any, list[Any]] = {}  # {traced function: handles that it may write}

    def __call__(self, batch: Images) -> Any:
        """Runs the function, once the variables that it may write are saved."""
        import tensorflow as tf

        batch = keras.tree.map_structure(tf.convert_to_tensor, batch)
        concrete = self._function.get_concrete_function(batch)
        if concrete not in self._written:
            captures = concrete.graph.captures
            self._written[concrete] = [h for h, inner in captures if _may_be_written(h, inner)]
        for handle in self._written[concrete]:
            if id(handle) not in self._saved:
                self._saved[id(handle)] = handle, _value(handle)
        return self._function(batch)

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Gives the variables back what they held when the block was entered."""
        import tensorflow as tf

        self._saved = {}
        try:
            yield
        finally:
            for handle, value in self._saved.values():
                tf.raw_ops.AssignVariableOp(resource=handle, value=value)
            self._saved = {}


def _may_be_written(handle: Any, inner: Any) -> bool:
    """Returns whether a captured tensor is a variable that something else than reading uses.

    Args:
        handle: The tensor that a graph has captured.
        inner: The placeholder for it in the graph.
    """
    import tensorflow as tf

    if handle.dtype != tf.resource or _variable_dtype(handle) is None:
        return False
    return any(operation.type not in READING for operation in inner.consumers())


def _value(handle: Any) -> Any:
    import tensorflow as tf

    # The tensor shares the variable's memory until something is assigned.
    return tf.raw_ops.ReadVariableOp(resource=handle, dtype=_variable_dtype(handle))


def _variable_dtype(handle: Any) -> Any:
    """Returns a variable's dtype by its handle; None for other resources, such as tables."""
    import tensorflow as tf

    data = getattr(handle, "_handle_data", None)
    if data is None or not data.is_set or len(data.shape_and_type) != 1:
        return None
    return tf.dtypes.as_dtype(data.shape_and_type[0].dtype)
