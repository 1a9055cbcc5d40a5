"""Nano-U's network and files, rebuilt from its description: what the import is checked against."""

import json

import h5py
import keras
import numpy as np
from keras import layers as kl

IMAGES = (60, 80, 3)


def nano_u(filters=(4, 8, 16), bottleneck=16, pools=((2, 2), (2, 2), (3, 2)), epsilon=1e-3):
    """Builds the network with Nano-U's names, and weights far from where they start."""
    x = images = keras.Input(IMAGES, name="input_image")
    for stage, (width, pool) in enumerate(zip(filters, pools, strict=True), start=1):
        for block in "ab":
            x = _block(x, width, f"enc{stage}{block}", epsilon)
        x = kl.MaxPooling2D(pool, name=f"max_pooling2d_{stage}")(x)
    for block in "ab":
        x = _block(x, bottleneck, f"bottleneck_{block}", epsilon)
    for stage, (width, pool) in enumerate(zip(filters[::-1], pools[::-1], strict=True), start=1):
        x = kl.UpSampling2D(pool, name=f"dec{stage}_up")(x)
        for block in "ab":
            x = _block(x, width, f"dec{stage}_conv_{block}", epsilon)
    model = keras.Model(images, kl.Conv2D(1, 1, padding="same", name="output")(x), name="nano_u")
    rng = np.random.default_rng(3)
    for layer in model.layers:
        for weight in layer.weights:
            low, high = {"gamma": (0.6, 1.8), "moving_variance": (0.2, 1.0)}.get(
                weight.name, (-0.7, 0.9)
            )
            weight.assign(rng.uniform(low, high, weight.shape))
    return model


def _block(x, width, name, epsilon):
    x = kl.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_dw")(x)
    x = kl.ReLU(name=f"{name}_relu1")(kl.BatchNormalization(epsilon=epsilon, name=f"{name}_bn1")(x))
    x = kl.Conv2D(width, 1, padding="same", use_bias=False, name=f"{name}_pw")(x)
    return kl.ReLU(name=f"{name}_relu2")(
        kl.BatchNormalization(epsilon=epsilon, name=f"{name}_bn2")(x)
    )


def save_h5(model, path, *, rounded=False, whole=True, change=None):
    """Saves a network in the layout in which Nano-U's Keras 2 saves it.

    Args:
        model: The network.
        path: The file.
        rounded: Whether as one of quantisation-aware training: names that begin with quant_, and
            ranges beside the weights.
        whole: Whether with the network's configuration, as `model.save` does.
        change: What changes {(layer, weight): values} before it is saved.
    """
    weights = {
        (layer.name, _keras_2(layer, weight.name)): weight.numpy()
        for layer in model.layers
        for weight in layer.weights
    }
    if change is not None:
        change(weights)
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights") if whole else file
        if whole:
            layers = [_config(layer, rounded) for layer in model.layers]
            config = {"class_name": "Functional", "config": {"name": "nano_u", "layers": layers}}
            file.attrs["model_config"] = json.dumps(config)
        names = dict.fromkeys(
            [*(each.name for each in model.layers), *(name for name, _ in weights)]
        )
        for name in names:
            own = {key: values for (layer, key), values in weights.items() if layer == name}
            _save_layer(group, name, own, rounded=rounded and name != "input_image")
        group.attrs["layer_names"] = [name.encode() for name in group]
    return path


def _save_layer(group, name, weights, *, rounded):
    values = {f"{name}/{weight}:0": value for weight, value in weights.items()}
    if rounded:
        for weight in weights:
            if "kernel" in weight:
                values[f"quant_{name}/{weight}_min:0"] = np.float32(-1)
                values[f"quant_{name}/{weight}_max:0"] = np.float32(1)
        values[f"quant_{name}/optimizer_step:0"] = np.int32(9)
    held = group.create_group(f"quant_{name}" if rounded else name)
    held.attrs["weight_names"] = [key.encode() for key in values]
    for key, value in values.items():
        held[key] = value


def _keras_2(layer, name):
    return "depthwise_kernel" if isinstance(layer, kl.DepthwiseConv2D) else name


def _config(layer, rounded):
    config = dict(layer.get_config())
    if isinstance(layer, kl.InputLayer):
        config = {"name": layer.name, "batch_input_shape": config["batch_shape"]}
        return {"class_name": "InputLayer", "config": config}
    plain = {"class_name": type(layer).__name__, "config": config}
    if not rounded:
        return plain
    if "activation" in config:
        passed = {"class_name": "NoOpActivation", "config": {}}
        config["activation"] = {
            "class_name": "QuantizeAwareActivation",
            "config": {"activation": passed},
        }
    wrapper = {"name": f"quant_{layer.name}", "layer": plain}
    return {"class_name": "QuantizeWrapperV2", "config": wrapper}
