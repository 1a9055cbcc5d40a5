"""Small models, one for each way in which channels are passed on, tied, lined up or mixed."""

import keras
from keras import layers as kl
from keras import ops

SIZE = (8, 6, 3)


def images():
    return keras.Input(SIZE, name="image")


def chain():
    x = inputs = images()
    for width in (6, 5):
        x = kl.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = kl.BatchNormalization()(x)
        x = kl.ReLU()(x)
        x = kl.DepthwiseConv2D(3, padding="same", depth_multiplier=2)(x)
        x = kl.MaxPooling2D(2)(x)
    x = kl.UpSampling2D(2)(x)
    return keras.Model(inputs, kl.Conv2D(2, 1)(x))


def every_activation():
    x = inputs = images()
    for function in ("relu", "gelu", "tanh", "hard_sigmoid", "silu"):
        x = kl.Conv2D(5, 1, activation=function)(x)
    x = kl.PReLU(shared_axes=[1, 2])(x)
    x = kl.Conv2D(4, 1, activation=kl.LeakyReLU())(x)
    x = kl.PReLU()(x)
    x = kl.ELU()(kl.Activation("softplus")(x))
    x = kl.Conv2D(3, 1, activation="softmax")(x)
    return keras.Model(inputs, kl.Conv2D(2, 1)(kl.Conv2D(4, 1)(x)))


def residual_with_squeeze_and_excite():
    inputs = images()
    x = first = kl.Conv2D(6, 3, padding="same")(inputs)
    x = kl.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = kl.Conv2D(6, 1)(x)
    s = kl.GlobalAveragePooling2D()(x)
    s = kl.Reshape((1, 1, 6))(s)
    s = kl.Conv2D(2, 1, activation="relu")(s)
    s = kl.Conv2D(6, 1, activation="sigmoid")(s)
    x = kl.Add()([kl.Multiply()([x, s]), first])
    gate = kl.Conv2D(1, 1, activation="sigmoid")(x)
    x = kl.Multiply()([x, gate])
    return keras.Model(inputs, kl.Conv2D(1, 1)(kl.Maximum()([x, first])))


def concatenated():
    inputs = images()
    a = kl.Conv2D(4, 3, padding="same")(inputs)
    b = kl.Conv2D(5, 1)(inputs)
    both = kl.Concatenate()([a, b, inputs])
    c = kl.BatchNormalization()(both)
    tied = kl.Add()([kl.Concatenate()([a, b]), kl.Conv2D(9, 1)(c)])
    tall = kl.Concatenate(axis=1)([a, kl.Conv2D(4, 1)(tied)])
    x = kl.Cropping2D(((0, 8), (0, 0)))(tall)
    return keras.Model(inputs, kl.Conv2D(2, 1)(kl.Concatenate()([x, tied])))


def flattened():
    x = inputs = images()
    x = kl.Conv2D(4, 3, strides=2)(x)
    x = kl.ZeroPadding2D(1)(x)
    x = kl.AveragePooling2D(2)(x)
    x = kl.Dropout(0.5)(kl.Flatten()(x))
    x = kl.Dense(7, activation="relu")(x)
    x = kl.RepeatVector(3)(x)
    x = kl.Permute((2, 1))(kl.Permute((2, 1))(x))
    x = kl.Conv1D(5, 2)(x)
    x = kl.Reshape((10,))(x)
    return keras.Model(inputs, kl.Dense(2)(x))


def grouped():
    x = inputs = images()
    x = kl.Conv2D(8, 1)(x)
    x = kl.Conv2D(12, 3, groups=4, padding="same")(x)
    x = kl.Conv2D(24, 3, groups=12, padding="same")(x)  # depthwise
    x = kl.SpatialDropout2D(0.2)(x)
    return keras.Model(inputs, kl.Conv2D(2, 1)(x))


def separable_and_transposed():
    x = inputs = images()
    x = kl.SeparableConv2D(6, 3, padding="same", depth_multiplier=2)(x)
    x = kl.Conv2DTranspose(5, 3, strides=2, padding="same", activation="relu")(x)
    x = kl.Conv2DTranspose(4, 2, use_bias=False)(x)
    x = kl.SeparableConv2D(3, 3)(x)
    return keras.Model(inputs, kl.GlobalMaxPooling2D(keepdims=True)(x))


def sequence():
    inputs = keras.Input((9,), dtype="int32", name="tokens")
    x = kl.Embedding(20, 8)(inputs)
    x = kl.SpatialDropout1D(0.1)(kl.SeparableConv1D(6, 3, padding="same")(x))
    x = kl.Conv1D(7, 3, padding="causal", dilation_rate=2, activation="relu")(x)
    x = kl.Conv1DTranspose(5, 2)(kl.MaxPooling1D(2)(x))
    return keras.Model(inputs, kl.Dense(3)(kl.GlobalAveragePooling1D()(x)))


def volume():
    x = inputs = keras.Input((4, 4, 4, 2), name="volume")
    x = kl.Conv3D(5, 3, padding="same", activation="relu")(x)
    x = kl.Conv3DTranspose(4, 2, strides=2)(kl.MaxPooling3D(2)(x))
    return keras.Model(inputs, kl.Dense(2)(kl.GlobalAveragePooling3D()(x)))


def shared_twice():
    a, b = images(), keras.Input(SIZE, name="other")
    conv, norm, out = kl.Conv2D(6, 3), kl.BatchNormalization(), kl.Conv2D(4, 1)
    x, y = (out(kl.ReLU()(norm(conv(each)))) for each in (a, b))
    return keras.Model([a, b], kl.Dense(2)(kl.Subtract()([x, y])))


def nested():
    inner = keras.Sequential(
        [keras.Input((8, 6, 5)), kl.Conv2D(6, 3), kl.BatchNormalization(), kl.ReLU()], name="inner"
    )
    z = keras.Input((6, 4, 6))
    middle = keras.Model(z, kl.Conv2D(4, 1)(kl.Conv2D(5, 1)(z)), name="middle")
    inputs = images()
    first = kl.Conv2D(5, 1)
    x = middle(inner(first(inputs)))
    y = middle(inner(kl.ReLU()(first(inputs))))
    return keras.Model(inputs, kl.Conv2D(2, 1)(kl.Add()([x, y])))


def operations():
    inputs = images()
    x = kl.Conv2D(6, 1)(inputs)
    x = x * ops.relu6(x + 3.0) / 6.0
    x = ops.maximum(x, 0.1 * kl.Conv2D(6, 1)(inputs))
    y = ops.concatenate([x, kl.Conv2D(3, 1)(x)], axis=-1)
    y = kl.Rescaling(0.5, offset=[0.1 * i for i in range(9)])(y)
    y = kl.Normalization(mean=[0.1 * i for i in range(9)], variance=[1.0 + i for i in range(9)])(y)
    return keras.Model(inputs, kl.Dense(2)(ops.mean(y, axis=(1, 2))))


def sequential():
    model = keras.Sequential([kl.Conv2D(5, 3), kl.ReLU(), kl.Flatten(), kl.Dense(4), kl.Dense(2)])
    model.build((None, *SIZE))
    return model


def what_is_not_understood():
    x = inputs = images()
    x = kl.LayerNormalization()(kl.Conv2D(6, 1)(x))
    x = kl.Conv2D(4, 1)(kl.Conv2D(5, 1, activation="relu")(x))
    x = kl.Reshape((24, 8))(x)  # across channels
    x = kl.MultiHeadAttention(2, 4)(x, x)
    x = kl.LSTM(5, return_sequences=True)(kl.Dense(6)(kl.Dense(7)(x)))
    x = kl.Softmax()(kl.Dense(5)(x))
    return keras.Model(inputs, kl.Dense(2)(kl.Dense(6)(x)))


MODELS = [
    chain, every_activation, residual_with_squeeze_and_excite, concatenated, flattened, grouped,
    separable_and_transposed, sequence, volume, shared_twice, nested, operations,
    sequential, what_is_not_understood,
]  # fmt: skip
