"""Identity layers that mark where to look, and a model that returns what they see."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import KerasTensor

GROUPS = ("encoder", "bottleneck", "decoder")
DEFAULT_GROUPS = ("encoder", "bottleneck")
PREFIX = "probe_"


def Probe(name: str, **kwargs: Any) -> keras.layers.Identity:
    """Makes an identity layer that marks a place to watch.

    A probe is Keras' own `Identity` layer whose name begins with `probe_`. Nothing else makes
    it one, so a file saved with probes loads in plain Keras. A model with probes computes the
    same outputs from the same weights as one without, and an export to LiteRT leaves no trace
    of them.

    Args:
        name: Name of the layer; must begin with "probe_".
        **kwargs: Further arguments of `keras.layers.Identity`, such as `dtype`.

    Returns:
        The layer, without weights.

    Raises:
        ValueError: The name does not begin with "probe_".

    Example:
        >>> import numpy as np
        >>> probe = Probe(name="probe_encoder_1")
        >>> probe(np.ones((1, 2, 2, 3))).shape == (1, 2, 2, 3)
        True
        >>> type(probe).__name__, probe.count_params()
        ('Identity', 0)
    """
    if not isinstance(name, str) or not name.startswith(PREFIX):
        raise ValueError(
            f"Expected the name of a probe to begin with '{PREFIX}', by which it is found. "
            f"Received: name={name!r}"
        )
    return keras.layers.Identity(name=name, **kwargs)


@keras.saving.register_keras_serializable(package="probe_zoo", name="Probe")
class SavedProbe(keras.layers.Identity):
    """Reads the probes of files saved before probes became `Identity` layers."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> keras.layers.Identity:
        """Returns a plain `Identity` layer, whatever its name."""
        return keras.layers.Identity.from_config(config)


def probe_groups(enable_probes: bool | Sequence[str]) -> tuple[str, ...]:
    """Returns which of encoder, bottleneck and decoder get probes.

    Raises:
        ValueError: A name is none of these, or `enable_probes` is a bare string.
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
    return Probe(name=f"{PREFIX}{place}")(x) if place.split("_")[0] in groups else x


def probe_names(model: keras.Model) -> list[str]:
    """Returns the names of the model's probes, from input to output.

    Example:
        >>> from models import Nano_U
        >>> probe_names(Nano_U(enable_probes=["bottleneck"]))
        ['probe_bottleneck']
    """
    return [
        layer.name
        for layer in model.layers
        if isinstance(layer, keras.layers.Identity) and layer.name.startswith(PREFIX)
    ]


def side_model(model: keras.Model, names: Sequence[str] | None = None) -> keras.Model:
    """Builds a model from the same inputs to the activations of named layers.

    It shares layers and weights with `model`, does not change it, and leaves out every layer
    that no named layer depends on.

    Args:
        model: A functional Keras model.
        names: Layers of `model`. Defaults to None: its probes.

    Returns:
        A model that maps images to {layer name: activations (batch, ..., channels)}.

    Raises:
        ValueError: There are no probes, the model has no layer of that name, or the layer's
            activations cannot be reached from the model's inputs.

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
            f"Model '{model.name}' is not a functional model: the activations of its layers "
            "cannot be reached from its inputs."
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
                "several outputs: it is ambiguous which of them to watch."
            )
        outputs[name] = layers[name].output
    return keras.Model(model.input, outputs, name=f"{model.name}_side")
