"""Layers that do what people's own layers do: draw, count, loop, share, transpose, and so on.

Each holds the layers inside it in `parts`. Those that a monitor cannot see, because they run in a
loop or a function compiled by itself, are in `unseen`.
"""

import keras
import tensorflow as tf
from keras import layers, ops


class Composite(layers.Layer):
    """Applies its parts one after the other, and adds its inputs if the shape is the same."""

    unseen = False

    def __init__(self, *parts, **options):
        super().__init__(**options)
        self.parts = list(parts)
        self.supports_masking = True

    def build(self, shape):
        for part in self.parts:
            part.build(shape)
            shape = part.compute_output_shape(shape)

    def compute_output_shape(self, shape):
        for part in self.parts:
            shape = part.compute_output_shape(shape)
        return shape

    def call(self, inputs):
        outputs = inputs
        for part in self.parts:
            outputs = part(outputs)
        return outputs + inputs if outputs.shape == inputs.shape else outputs


class Same(Composite):
    """A layer around one part that keeps the shape of its inputs."""

    def compute_output_shape(self, shape):
        return shape

    def compute_output_spec(self, inputs, **options):
        return keras.KerasTensor(inputs.shape, self.compute_dtype)


class Twice(Composite):
    def call(self, inputs):
        return self.parts[0](inputs) + self.parts[0](0.5 * inputs)


class InTraining(Same):
    """Calls dropout or batch normalization as in training, always."""

    def call(self, inputs):
        return self.parts[0](inputs, training=True)


class Draws(Same):
    def __init__(self, seeded=True, **options):
        super().__init__(**options)
        self.seed = keras.random.SeedGenerator(7) if seeded else None

    def call(self, inputs):
        return inputs + 0.5 * keras.random.normal(ops.shape(inputs), seed=self.seed)


class Counts(Same):
    """Counts its calls in a weight, in a trainable weight, or in a variable of TensorFlow's."""

    def __init__(self, where, **options):
        super().__init__(**options)
        self.where = where

    def build(self, shape):
        if self.where == "raw":
            self.calls = tf.Variable(0.0)
        else:
            trainable = self.where == "trainable"
            self.calls = self.add_weight(shape=(), initializer="zeros", trainable=trainable)

    def call(self, inputs):
        self.calls.assign_add(1.0)
        return inputs * (1 + 0.01 * ops.convert_to_tensor(self.calls))


class Averages(Same):
    """Keeps a running mean of its inputs, also at inference, through a condition."""

    def build(self, shape):
        self.mean = self.add_weight(shape=shape[-1:], initializer="zeros", trainable=False)

    def call(self, inputs):
        axes = tuple(range(len(inputs.shape) - 1))
        new = ops.cond(ops.sum(inputs) > -1e9, lambda: ops.mean(inputs, axes), lambda: self.mean)
        self.mean.assign(0.9 * self.mean + 0.1 * new)
        return inputs - self.mean


class Loop(Same):
    """Calls its part in a loop, where its outputs cannot be taken."""

    unseen = True

    def call(self, inputs):
        return ops.fori_loop(0, 2, lambda _, value: self.parts[0](value), inputs)


class OnceAndInLoop(Loop):
    def call(self, inputs):
        return super().call(self.parts[0](inputs))


class Conditional(Same):
    unseen = True

    def call(self, inputs):
        positive = ops.sum(inputs) > -1e9
        return ops.cond(positive, lambda: self.parts[0](inputs), lambda: inputs)


class Mapped(Same):
    unseen = True

    def call(self, inputs):
        return ops.map(lambda row: self.parts[0](row), inputs)


class Compiled(Same):
    unseen = True

    @tf.function
    def call(self, inputs):
        return self.parts[0](inputs)


class Never(Same):
    """Has a part that it does not call."""

    def call(self, inputs):
        # With a factor over 1, oneDNN's rewriter takes max(x, 1.5 x) for a leaky ReLU.
        return inputs * 0.5


class Positions(Same):
    """Adds a table of positions, whose first axis is not the batch."""

    def build(self, shape):
        self.table = layers.Embedding(10, shape[2], name="table")
        self.table.build((shape[1],))

    def call(self, inputs):
        return inputs + self.table(ops.arange(ops.shape(inputs)[1]))


class TimeMajor(Same):
    """Calls its part with steps first, as recurrent code often has them."""

    def build(self, shape):
        self.parts[0].build((shape[1], shape[0], *shape[2:]))

    def call(self, inputs):
        axes = (1, 0, *range(2, len(inputs.shape)))
        return ops.transpose(self.parts[0](ops.transpose(inputs, axes)), axes)


class Rows(Same):
    """Calls its part on the rows of all images in one."""

    def call(self, inputs):
        shape = ops.shape(inputs)
        return ops.reshape(self.parts[0](ops.reshape(inputs, (-1, inputs.shape[-1]))), shape)


class Integers(Composite):
    def __init__(self, **options):
        super().__init__(layers.Lambda(_rounded, name="rounded"), **options)

    def compute_output_shape(self, shape):
        return shape

    def call(self, inputs):
        return 0.1 * ops.cast(self.parts[0](inputs), "float32") + inputs


def _rounded(value):
    return ops.cast(ops.round(4 * value), "int32")


class States(Composite):
    """Uses the outputs of a recurrent layer that also returns its states."""

    def compute_output_shape(self, shape):
        return self.parts[0].compute_output_shape(shape)[0]

    def call(self, inputs):
        return self.parts[0](inputs)[0]


class Attention(Composite):
    def __init__(self, **options):
        part = layers.MultiHeadAttention(2, 3, name="attention")
        super().__init__(part, **options)

    def build(self, shape):
        self.parts[0].build(shape, shape)

    def compute_output_shape(self, shape):
        return shape

    def call(self, inputs):
        return inputs + self.parts[0](inputs, inputs)


class MarksPadding(layers.Layer):
    """Returns its inputs, and says which steps are padding."""

    def __init__(self, **options):
        super().__init__(**options)
        self.supports_masking = True

    def compute_mask(self, inputs, mask=None):
        return ops.any(ops.not_equal(inputs, 0), axis=-1)

    def call(self, inputs):
        return inputs


class Net(keras.Model):
    """A subclassed model: what comes first, several blocks, and what makes vectors of it."""

    def __init__(self, heads, blocks, tail, **options):
        super().__init__(**options)
        self.heads, self.blocks, self.tail = heads, blocks, tail

    def call(self, inputs):
        if isinstance(inputs, dict):
            parts = [head(inputs[name]) for name, head in self.heads.items()]
            outputs = ops.concatenate(parts, axis=-1)
        else:
            outputs = inputs
            for head in self.heads.values():
                outputs = head(outputs)
        for block in self.blocks:
            outputs = block(outputs)
        return self.tail(outputs)
