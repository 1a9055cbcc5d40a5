"""Identity layers that mark where to look, and the model that looks there."""

from collections.abc import Sequence

import keras
from keras import KerasTensor

GROUPS = ("encoder", "bottleneck", "decoder")
DEFAULT_GROUPS = ("encoder", "bottleneck")


@keras.saving.register_keras_serializable(package="probe_zoo")
class Probe(keras.layers.Layer):
    """Hands its input on unchanged: a named place to watch, without weights.

    A model with probes computes the same outputs from the same weights as one without,
    and an export to LiteRT leaves no trace of them.

    Example:
        >>> import numpy as np
        >>> probe = Probe(name="probe_encoder_1")
        >>> probe(np.ones((1, 2, 2, 3))).shape == (1, 2, 2, 3)
        True
        >>> probe.count_params()
        0
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs):
        """Returns `inputs`."""
        return inputs

    def compute_output_shape(self, input_shape):
        """Returns `input_shape`."""
        return input_shape


def probe_groups(enable_probes: bool | Sequence[str]) -> tuple[str, ...]:
    """Returns which of encoder, bottleneck and decoder get probes.

    Raises:
        ValueError: A name is none of these, or a bare string was given.
    """
    if isinstance(enable_probes, bool):
        return DEFAULT_GROUPS if enable_probes else ()
    sequence = isinstance(enable_probes, Sequence) and not isinstance(enable_probes, str)
    if not sequence or not set(enable_probes) <= set(GROUPS):
        raise ValueError(
            "Expected enable_probes to be False, True or a sequence drawn from "
            f"{', '.join(GROUPS)}. Received: enable_probes={enable_probes!r}"
        )
    return tuple(enable_probes)


def add_probe(x: KerasTensor, place: str, groups: Sequence[str]) -> KerasTensor:
    """Adds the layer probe_`place` where the place's group is among `groups`."""
    return Probe(name=f"probe_{place}")(x) if place.split("_")[0] in groups else x


def probe_names(model: keras.Model) -> list[str]:
    """Returns the names of the model's Probe layers in the order of the data's way.

    Example:
        >>> from models import Nano_U
        >>> probe_names(Nano_U(enable_probes=["bottleneck"]))
        ['probe_bottleneck']
    """
    return [layer.name for layer in model.layers if isinstance(layer, Probe)]


def side_model(model: keras.Model, names: Sequence[str] | None = None) -> keras.Model:
    """Builds a model from the same inputs to the activations of named layers.

    It shares layers and weights with `model`, changes nothing about it, and leaves out
    what no named layer needs.

    Args:
        model: A functional Keras model.
        names: Layers of `model`. Defaults to None: its probes.

    Returns:
        A model that maps images to {layer name: activations (batch, ..., channels)}.

    Raises:
        ValueError: There are no probes, a name is not the model's, or the layer's
            activations cannot be reached in this way.

    Example:
        >>> import numpy as np
        >>> from models import Nano_U
        >>> side = side_model(Nano_U(enable_probes=True))
        >>> side(np.zeros((2, 60, 80, 3)))["probe_bottleneck"].shape
        TensorShape([2, 5, 10, 16])
    """
    # Keras has no public test for a functional model; only these list their operations.
    if not hasattr(model, "operations"):
        raise ValueError(
            f"Model '{model.name}' is not a functional model: its layers' activations cannot "
            "be reached from its inputs."
        )
    if names is None:
        names = probe_names(model)
        if not names:
            raise ValueError(
                f"Model '{model.name}' has no probes. Build it with `enable_probes=True`."
            )
    layers = {layer.name: layer for layer in model.layers}
    outputs = {}
    for name in names:
        if name not in layers:
            raise ValueError(
                f"Model '{model.name}' has no layer '{name}'. Its layers: {', '.join(layers)}."
            )
        # A shared layer has several outputs, and `.output` would be its first call's.
        if len(layers[name]._inbound_nodes) != 1 or not isinstance(
            layers[name].output, KerasTensor
        ):
            raise ValueError(
                f"Layer '{name}' of model '{model.name}' is called more than once or has "
                "several outputs: which one to watch is not defined."
            )
        outputs[name] = layers[name].output
    return keras.Model(model.input, outputs, name=f"{model.name}_side")
