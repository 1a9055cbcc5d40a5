"""Random small Keras models of every kind that people build, with data and ways of feeding them."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pandas
import random_layers as own
import tensorflow as tf
from keras import layers

ACTIVATIONS = ("relu", "tanh", "gelu", "leaky_relu", "sigmoid", "softmax", None)


@dataclass
class Drawn:
    """A random model.

    Attributes:
        model: The model.
        data: What it takes: an array, or arrays in a list or dict, of the same length.
        paths: {path: layer} of layers that must be found there.
        unseen: Ids of layers that run only where nothing can be taken.
        inner: {id of a layer inside `TimeDistributed`: the `TimeDistributed`}.
        size: The only batch size that it takes; None for any.
        kind: How it was built, for messages.
        tolerance: Of its numbers, relative: float32's, or that of a coarser arithmetic.
        trains: Whether `fit` can train it.
    """

    model: keras.Model
    data: Any
    paths: dict[str, layers.Layer] = field(default_factory=dict)
    unseen: set[int] = field(default_factory=set)
    inner: dict[int, layers.Layer] = field(default_factory=dict)
    size: int | None = None
    kind: str = ""
    tolerance: float = 1e-5
    trains: bool = True


@dataclass
class Feed:
    """A way of feeding a model.

    Attributes:
        images: As `watch` takes them.
        data: What of the drawn data that is.
        kind: Its name, for messages.
        steps: For `monitor_steps`.
    """

    images: Any
    data: Any
    kind: str
    steps: int | None = None


def draw_model(seed: int) -> Drawn:
    """Draws a model; the same one for the same seed, to the bit."""
    rng = np.random.default_rng(seed)
    drawn = _rematerialised(seed) if rng.random() < 0.08 else None
    drawn = drawn or _built(seed, False)
    _settle(drawn, rng)
    return drawn


def _rematerialised(seed: int) -> Drawn | None:
    """Returns the model under a `RematScope`; None if Keras cannot run it, as recurrent layers."""
    try:
        drawn = _built(seed, True)
        drawn.model(cut(drawn.data, 0, drawn.size or 2))
    except (AttributeError, TypeError):
        return None
    return drawn


def _built(seed: int, rematerialised: bool) -> Drawn:
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng((seed, 1))
    builders = (_sequential, _functional, _functional, _functional, _subclassed, _stateful)
    build = builders[rng.integers(len(builders))]
    with keras.RematScope(mode="activations" if rematerialised else None):
        drawn = build(rng)
    drawn.kind = f"{build.__name__[1:]}{', rematerialised' * rematerialised}: {drawn.kind}"
    return drawn


def _settle(drawn: Drawn, rng) -> None:
    """Gives the model the state of a used one, or quantizes it, or has it run eagerly."""
    model = drawn.model
    for layer in model._flatten_layers(include_self=False):
        if type(layer) is layers.BatchNormalization and layer.built:
            weights = layer.get_weights()
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape).astype(w.dtype) for w in weights])
    if model.built and rng.random() < 0.06 and not _has_float16(model):
        model.quantize("int8")
        drawn.kind, drawn.trains, drawn.tolerance = f"{drawn.kind}, int8", False, 2e-2
    if rng.random() < 0.06 or "remat" in drawn.kind:
        model.compile("sgd", "mse", run_eagerly=True)
        drawn.kind += ", eager"
    _list_paths(drawn, model, "")


def _has_float16(model: keras.Model) -> bool:
    """Returns whether a layer computes in float16, which Keras does not quantize."""
    return any(layer.compute_dtype == "float16" for layer in model._flatten_layers())


def _list_paths(drawn: Drawn, parent, prefix: str, unseen: bool = False) -> None:
    children = _children(parent)
    total, number = Counter(child.name for child in children), Counter()
    for child in children:
        number[child.name] += 1
        twin = f"#{number[child.name]}" if total[child.name] > 1 else ""
        path = f"{prefix}{child.name}{twin}"
        if id(child) not in map(id, drawn.paths.values()):
            drawn.paths[path] = child
        if unseen:
            drawn.unseen.add(id(child))
        if isinstance(parent, layers.TimeDistributed):
            drawn.inner[id(child)] = parent
        _list_paths(drawn, child, f"{path}/", unseen or getattr(child, "unseen", False))


def _children(layer) -> list[layers.Layer]:
    if isinstance(layer, own.Net):
        return [*layer.heads.values(), *layer.blocks, layer.tail]
    if isinstance(layer, keras.Model):
        return [part for part in layer.layers if not isinstance(part, layers.InputLayer)]
    if isinstance(layer, own.Composite):
        return layer.parts
    if isinstance(layer, layers.Bidirectional):
        return [layer.forward_layer, layer.backward_layer]
    if isinstance(layer, (layers.TimeDistributed, layers.SpectralNormalization)):
        return [layer.layer]
    return []


def _width(rng) -> int:
    return int(rng.integers(2, 7))


def _activation(rng):
    return ACTIVATIONS[rng.integers(len(ACTIVATIONS))]


def _dense(rng, name="dense"):
    return layers.Dense(_width(rng), _activation(rng), name=name)


def _normal(name="inside"):
    return layers.LayerNormalization(name=name)


def _recurrent(rng, name="way", **options):
    kinds = (layers.LSTM, layers.GRU, layers.SimpleRNN)
    return kinds[rng.integers(3)](_width(rng), name=name, **options)


def _typed(rng, name):
    dtype = ("float64", "float16", "bfloat16")[rng.integers(3)]
    return layers.Dense(_width(rng), dtype=dtype, name=name)


# Factories of a layer, by the rank of its inputs; those of the first table keep any shape.
ANY = {
    "activation": lambda rng, name: layers.Activation(_activation(rng), name=name),
    "dropout": lambda rng, name: layers.Dropout(0.4, name=name),
    "noise": lambda rng, name: layers.GaussianNoise(0.4, name=name),
    "norm": lambda rng, name: layers.LayerNormalization(name=name),
    "batchnorm": lambda rng, name: layers.BatchNormalization(name=name),
    "probe": lambda rng, name: layers.Identity(name=name),
    "dense": _dense,
    "spectral": lambda rng, name: layers.SpectralNormalization(_dense(rng, "core"), name=name),
    "typed": _typed,
    "always": lambda rng, name: own.InTraining(layers.Dropout(0.4, name="inside"), name=name),
    "statistics": lambda rng, name: own.InTraining(
        layers.BatchNormalization(name="inside"), name=name
    ),
    "draws": lambda rng, name: own.Draws(bool(rng.integers(2)), name=name),
    "counts": lambda rng, name: own.Counts(
        ("weight", "trainable", "raw")[rng.integers(3)], name=name
    ),
    "averages": lambda rng, name: own.Averages(name=name),
    "twice": lambda rng, name: own.Twice(_dense(rng, "inside"), name=name),
    "block": lambda rng, name: own.Composite(
        _dense(rng, "proj"), layers.ReLU(name="act"), _dense(rng, "proj"), name=name
    ),
    "loop": lambda rng, name: own.Loop(_normal(), name=name),
    "once and in a loop": lambda rng, name: own.OnceAndInLoop(_normal(), name=name),
    "conditional": lambda rng, name: own.Conditional(_normal(), name=name),
    "compiled": lambda rng, name: own.Compiled(_normal(), name=name),
    "never": lambda rng, name: own.Never(_normal(), name=name),
    "integers": lambda rng, name: own.Integers(name=name),
}
STEPS = {
    "convolution": lambda rng, name: layers.Conv1D(
        _width(rng), 3, padding=("same", "causal")[rng.integers(2)], name=name
    ),
    "recurrent": lambda rng, name: _recurrent(rng, name, return_sequences=True),
    "backwards": lambda rng, name: _recurrent(rng, name, return_sequences=True, go_backwards=True),
    "bidirectional": lambda rng, name: layers.Bidirectional(
        _recurrent(rng, return_sequences=True),
        merge_mode=("concat", "sum")[rng.integers(2)],
        name=name,
    ),
    "cells": lambda rng, name: layers.RNN(
        [layers.LSTMCell(3, name="cell"), layers.GRUCell(2, name="cell2")],
        return_sequences=True,
        name=name,
    ),
    "each": lambda rng, name: layers.TimeDistributed(_dense(rng, "inner"), name=name),
    "masking": lambda rng, name: layers.Masking(name=name),
    "marks": lambda rng, name: own.MarksPadding(name=name),
    "attention": lambda rng, name: own.Attention(name=name),
    "positions": lambda rng, name: own.Positions(name=name),
    "time major": lambda rng, name: own.TimeMajor(_normal(), name=name),
    "rows": lambda rng, name: own.Rows(_normal(), name=name),
    "mapped": lambda rng, name: own.Mapped(_normal(), name=name),
    "states": lambda rng, name: own.States(
        _recurrent(rng, "inside", return_sequences=True, return_state=True), name=name
    ),
}
IMAGES = {
    "convolution": lambda rng, name: layers.Conv2D(
        _width(rng), 3, padding="same", use_bias=bool(rng.integers(2)), name=name
    ),
    "strided": lambda rng, name: layers.Conv2D(
        _width(rng), 3, 2, padding="same", use_bias=False, name=name
    ),
    "depthwise": lambda rng, name: layers.DepthwiseConv2D(
        3, padding="same", use_bias=bool(rng.integers(2)), name=name
    ),
    "separable": lambda rng, name: layers.SeparableConv2D(
        _width(rng), 3, padding="same", use_bias=bool(rng.integers(2)), name=name
    ),
    "transposed": lambda rng, name: layers.Conv2DTranspose(
        _width(rng), 3, padding="same", name=name
    ),
    "batchnorm": lambda rng, name: layers.BatchNormalization(
        name=name, scale=bool(rng.integers(2)), center=bool(rng.integers(2))
    ),
    "folded": lambda rng, name: keras.Sequential(
        [
            layers.Conv2D(_width(rng), 3, padding="same", use_bias=False, name="conv"),
            layers.BatchNormalization(name="bn"),
            layers.ReLU(name="relu"),
        ],
        name=name,
    ),
    "pooled": lambda rng, name: layers.MaxPooling2D(2, padding="same", name=name),
    "averaged": lambda rng, name: layers.AveragePooling2D(2, padding="same", name=name),
    "larger": lambda rng, name: layers.UpSampling2D(2, name=name),
    "flipped": lambda rng, name: layers.RandomFlip(name=name, seed=3),
    "rows": lambda rng, name: own.Rows(_normal(), name=name),
    "mapped": lambda rng, name: own.Mapped(_normal(), name=name),
    "attended": lambda rng, name: own.Conditional(_normal(), name=name),
}
TABLES = {2: ANY, 3: ANY | STEPS, 4: ANY | IMAGES}


def _layer(rng, rank: int, name: str):
    """Draws a layer that keeps the rank; half of them come from the rank's own table."""
    own_table = {2: ANY, 3: STEPS, 4: IMAGES}[rank]
    table = own_table if rng.random() < 0.5 else ANY
    return table[sorted(table)[rng.integers(len(table))]](rng, name)


def _vectors(rng, rank: int, name: str):
    """Draws a layer that makes a vector of what it gets."""
    if rank == 4:
        return layers.GlobalAveragePooling2D(name=name)
    if rng.random() < 0.5:
        return layers.GlobalAveragePooling1D(name=name)
    return _recurrent(rng, name)


def _input(rng, name: str, *, count: int, size: int | None = None, other: bool = False):
    """Draws an input, the layers that read it, and its data.

    An input of unknown length is never beside an `other`: their lengths would seem the same.
    """
    kind = ("vector", "vector", "steps", "image", "tokens")[rng.integers(5)]
    steps, channels = int(rng.integers(5, 10)), int(rng.integers(2, 5))
    shape: tuple[int | None, ...] = {
        "vector": (int(rng.integers(4, 9)),),
        "steps": (steps, channels),
        "image": (8, 8, channels),
        "tokens": (steps,),
    }[kind]
    data = rng.normal(size=(count, *shape)).astype("float32") + rng.normal()
    readers = []
    if kind == "tokens":
        data = rng.integers(1, 20, (count, steps)).astype(("int32", "int64")[rng.integers(2)])
        masked = rng.random() < 0.7
        readers = [layers.Embedding(20, _width(rng), mask_zero=masked, name=f"{name}_words")]
    if kind in ("tokens", "steps") and rng.random() < 0.7:
        for row, real in zip(data, rng.integers(1, steps + 1, count), strict=True):
            row[real:] = 0
        if kind == "steps":
            marks = (layers.Masking, own.MarksPadding)[rng.integers(2)]
            readers = [marks(name=f"{name}_mask")]
    if kind in ("tokens", "steps") and rng.random() < 0.15 and size is None and not other:
        shape = (None, *shape[1:])
    return keras.Input(batch_shape=(size, *shape), name=name), readers, data


def _count(rng) -> int:
    return int(rng.choice([3, 8, 20, 33, 40, 70]))


def _sequential(rng) -> Drawn:
    given, readers, data = _input(rng, "given", count=_count(rng))
    stack = [*readers]
    rank = len(given.shape) if not readers else 3
    for number in range(int(rng.integers(2, 6))):
        if rank > 2 and number and rng.random() < 0.25:
            stack.append(_vectors(rng, rank, f"layer{number}"))
            rank = 2
        else:
            stack.append(_layer(rng, rank, f"layer{number}"))
    deferred = rng.random() < 0.3 and None not in given.shape[1:]
    model = keras.Sequential([*([] if deferred else [given]), *stack], name="stacked")
    if deferred:
        model(data[:2])
    return Drawn(model, data, kind="deferred" if deferred else "")


def _subclassed(rng) -> Drawn:
    count = _count(rng)
    several = rng.random() < 0.4
    heads, data = {}, {}
    if several:
        for name in ("left", "right"):
            data[name] = rng.normal(size=(count, _width(rng) + 2)).astype("float32")
            heads[name] = _dense(rng, f"{name}_head")
        rank = 2
    else:
        given, readers, data = _input(rng, "given", count=count)
        heads = {f"head{number}": reader for number, reader in enumerate(readers)}
        rank = 3 if readers else len(given.shape)
    names = ["block"] * 3 if rng.random() < 0.5 else ["first", "second"]
    blocks = [
        own.Composite(_dense(rng, "proj"), layers.ReLU(name="act"), name=name) for name in names
    ]
    blocks.insert(int(rng.integers(len(blocks) + 1)), _layer(rng, rank, "middle"))
    model = own.Net(heads, blocks, _dense(rng, "tail"), name="net")
    built = rng.random() < 0.6
    if built:
        batch = cut(data, 0, 2)
        # Else Keras builds it on the batch itself, and `MarksPadding` leaves a stale mask there.
        model.build(keras.tree.map_structure(lambda array: array.shape, batch))
        model(batch)
    return Drawn(model, data, kind="built" if built else "unbuilt")


def _stateful(rng) -> Drawn:
    size, steps, channels = int(rng.integers(2, 9)), int(rng.integers(4, 8)), 3
    data = rng.normal(size=(size * int(rng.integers(2, 6)), steps, channels)).astype("float32")
    given = keras.Input(batch_shape=(size, steps, channels), name="given")
    hidden = given
    if rng.random() < 0.5:
        data[:, steps - 2 :] = 0
        hidden = layers.Masking(name="mask")(hidden)
    if rng.random() < 0.5:
        hidden = _layer(rng, 3, "before")(hidden)
    hidden = _recurrent(rng, "memory", stateful=True, return_sequences=True)(hidden)
    hidden = _layer(rng, 3, "after")(hidden)
    model = keras.Model(given, _recurrent(rng, "last", stateful=True)(hidden), name="stateful")
    if rng.random() < 0.5:
        model.predict_on_batch(data[:size])
    return Drawn(model, data, size=size)


def _functional(rng) -> Drawn:
    """Draws a graph: branches, merges, layers and models called twice, several ins and outs."""
    count = _count(rng)
    size = int(rng.choice([4, 5])) if rng.random() < 0.1 else None
    count = count if size is None else 4 * size
    inputs, data, pool, called = [], [], [], []
    for number in range(int(rng.choice([1, 1, 2, 3]))):
        given, readers, array = _input(rng, f"in{number}", count=count, size=size, other=number > 0)
        inputs.append(given)
        data.append(array)
        hidden = given
        for reader in readers:
            hidden = reader(hidden)
        pool.append(hidden)
    ends = list(pool)  # whatever nothing follows yet
    for number in range(int(rng.integers(3, 8))):
        name = f"node{number}"
        source = pool[rng.integers(len(pool))]
        choice = rng.random()
        again = [layer for layer, shape in called if shape == source.shape]
        if again and choice < 0.25:
            layer = again[rng.integers(len(again))]
            new, used = layer(source), [source]
        elif choice < 0.4:
            layer = _nested(rng, source.shape, name)
            new, used = layer(source), [source]
            called.append((layer, source.shape))
        elif choice < 0.6:
            other = pool[rng.integers(len(pool))]
            new, used = _merged(rng, source, other, name), [source, other]
        elif choice < 0.68 and len(source.shape) > 2:
            new, used = _vectors(rng, len(source.shape), name)(source), [source]
        else:
            layer = _layer(rng, len(source.shape), name)
            new, used = layer(source), [source]
            called.append((layer, source.shape))
        pool.append(new)
        ends = [*(end for end in ends if not any(end is one for one in used)), new]
    outputs: Any = [_floating(end, f"out{number}") for number, end in enumerate(ends)]
    form = rng.integers(3)
    if form == 0 and len(outputs) > 1:
        outputs = {f"out{number}": output for number, output in enumerate(outputs)}
    elif len(outputs) == 1:
        outputs = outputs[0]
    if len(inputs) > 1 and rng.random() < 0.5:
        names = [given.name for given in inputs]
        inputs, data = dict(zip(names, inputs, strict=True)), dict(zip(names, data, strict=True))
    elif len(inputs) == 1:
        inputs, data = inputs[0], data[0]
    model = keras.Model(inputs, outputs, name="graph")
    return Drawn(model, data, size=size, kind=f"{len(ends)} outputs")


def _floating(tensor, name: str):
    """Ends a branch; an output of the model is never one of its inputs."""
    return layers.Dense(2, name=name)(tensor)


def _nested(rng, shape, name: str) -> keras.Model:
    given = keras.Input(batch_shape=shape, name=f"{name}_in")
    if rng.random() < 0.5:
        parts = [_layer(rng, len(shape), f"part{number}") for number in range(2)]
        return keras.Sequential([given, *parts], name=name)
    first = _layer(rng, len(shape), "part0")(given)
    second = _layer(rng, len(shape), "part1")(given)
    return keras.Model(given, _merged(rng, first, second, "joined"), name=name)


def _merged(rng, first, second, name: str):
    """Joins two tensors, of any shapes."""
    if first.shape == second.shape and rng.random() < 0.7:
        kinds = (layers.Add, layers.Multiply, layers.Average, layers.Maximum, layers.Subtract)
        return kinds[rng.integers(len(kinds))](name=name)([first, second])
    if first.shape[1:-1] != second.shape[1:-1]:
        parts = [first, second]
        for number, part in enumerate(parts):
            if len(part.shape) > 2:
                parts[number] = _vectors(rng, len(part.shape), f"{name}_flat{number}")(part)
        first, second = parts
    return layers.Concatenate(name=name)([first, second])


class Batches(keras.utils.PyDataset):
    """Batches of data, in pairs with targets or alone; for ever, if they do not end."""

    def __init__(self, data, size: int, *, pairs: bool, ends: bool = True):
        super().__init__()
        self.data, self.size, self.pairs, self.ends = data, size, pairs, ends

    @property
    def num_batches(self):
        return -(-_length(self.data) // self.size) if self.ends else None

    def __getitem__(self, number):
        count = -(-_length(self.data) // self.size)
        start = number % count * self.size
        part = cut(self.data, start, start + self.size)
        return (part, np.zeros(_length(part))) if self.pairs else part


def cut(data, start: int, stop: int | None):
    """Returns some rows of data that may be nested."""
    return keras.tree.map_structure(lambda array: array[start:stop], data)


def _length(data) -> int:
    return len(keras.tree.flatten(data)[0])


def draw_feed(drawn: Drawn, rng) -> Feed:
    """Draws a way of feeding a model."""
    data, count = drawn.data, _length(drawn.data)
    size = drawn.size or int(rng.integers(2, 17))
    kinds = ["array", "array", "float64", "tensor", "dataset", "shuffled", "one by one", "bounded"]
    if drawn.size is None:
        kinds += ["growing", "growing"]
    if isinstance(data, np.ndarray) and data.ndim == 2:
        kinds.append("table")
    kind = kinds[rng.integers(len(kinds))]
    pairs = isinstance(data, list) or bool(rng.integers(2))
    held = tuple(data) if isinstance(data, list) else data  # a dataset takes a list for one array
    if kind == "array":
        return Feed(data, data, kind)
    if kind == "float64":
        return Feed(keras.tree.map_structure(_doubled, data), data, kind)
    if kind == "tensor":
        return Feed(keras.tree.map_structure(tf.constant, data), data, kind)
    if kind == "table":
        return Feed(pandas.DataFrame(data), data, kind)
    if kind == "one by one":
        return Feed(Batches(data, size, pairs=pairs or isinstance(data, list)), data, kind)
    if kind == "growing":
        return Feed(_growing(held, count, rng, pairs=pairs), data, kind)
    rows = tf.data.Dataset.from_tensor_slices((held, np.zeros(count)) if pairs else held)
    if kind == "shuffled":
        return Feed(rows.shuffle(count).batch(size).prefetch(1), data, kind)
    if kind == "dataset":
        return Feed(rows.cache().batch(size).map(lambda *parts: _same(parts)), data, kind)
    steps = int(rng.integers(1, -(-count // size) + 1))
    if rng.random() < 0.5:
        endless: Any = Batches(data, size, pairs=pairs, ends=False)
    else:
        endless = rows.batch(size).repeat()
    return Feed(endless, cut(data, 0, steps * size), f"bounded to {steps}", steps)


def _same(parts):
    return parts if len(parts) > 1 else parts[0]


def _doubled(array):
    return array.astype("float64") if array.dtype == "float32" else array


def _growing(data, count: int, rng, *, pairs: bool):
    """Batches of other and other sizes, as a dataset that does not say how many."""
    stops = np.sort(rng.choice(np.arange(1, count), min(3, count - 1), replace=False))
    edges = [0, *stops.tolist(), count]
    parts = [cut(data, a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    signature = keras.tree.map_structure(
        lambda array: tf.TensorSpec((None, *array.shape[1:]), array.dtype), data
    )
    if not pairs:
        return tf.data.Dataset.from_generator(lambda: iter(parts), output_signature=signature)
    return tf.data.Dataset.from_generator(
        lambda: ((part, np.zeros(_length(part))) for part in parts),
        output_signature=(signature, tf.TensorSpec((None,), "float64")),
    )
