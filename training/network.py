"""The network that a configuration describes, and what is wrong with the configuration."""

import importlib.util
import re
from typing import Any, NamedTuple

import keras

from models import MODELS, probe_names, quantization_aware
from monitoring.taps.watched import Watched
from training.export.vela import check_vela
from training.outputs import FOREGROUND, Outputs
from training.parents import read_parent
from training.settings import Config

PARTS = ("encoder", "bottleneck", "decoder")  # of a network of the zoo


class Network(NamedTuple):
    """The network of a configuration.

    Attributes:
        model: The network; of a run that narrows, the parent, whose layers' names remain.
        outputs: What it puts out.
        is_parent: Whether it is to be narrowed.
    """

    model: keras.Model
    outputs: Outputs = FOREGROUND
    is_parent: bool = False


def checked_network(config: Config, *, may_fit: bool = False) -> Network:
    """Checks a configuration as far as that is possible without images.

    Args:
        config: The configuration.
        may_fit: As for `training.parents.read_parent`. Defaults to False.

    Returns:
        The network that it describes.

    Raises:
        ValueError: Settings contradict each other, a package is missing, the network cannot
            be built, or a layer cannot be watched.
    """
    check_settings(config)
    if config.narrow.parent is None:
        network = Network(build(config), Outputs(classes=config.data.masks.classes))
    else:
        network = Network(*read_parent(config, may_fit=may_fit), is_parent=True)
        _check_parent(network.model, config)
    if config.nas.probe_layers is not None:
        Watched(network.model, config.nas.probe_layers)
    return network


def build(config: Config) -> keras.Model:
    """Builds the network that a configuration describes.

    Raises:
        ValueError: Its widths or its input size are impossible, or it does not support
            quantisation-aware training.
    """
    settings = config.model
    check_model_name(settings.name)
    shape = (*settings.input_size, config.data.channels)
    options = builder_options(config) | {"enable_probes": settings.probes}
    model = MODELS[settings.name](shape, **options)
    return quantization_aware(model) if config.training.quantization_aware else model


def builder_options(config: Config) -> dict[str, Any]:
    """Returns what a builder takes beside the input's shape and probes; defaults are left out."""
    names = ("filters", "bottleneck", "decoder_filters", "late_upsampling", "weights")
    values = {name: getattr(config.model, name) for name in names}
    options = {name: value for name, value in values.items() if value is not None}
    return options | {"classes": config.data.masks.classes or 1}


def zoo_settings(model: keras.Model) -> dict[str, Any] | None:
    """Returns the section `model` of a configuration that builds a network of the same shapes.

    Args:
        model: A network, such as one of the zoo that was narrowed.

    Returns:
        Name, input size and widths; None if no builder of the zoo makes such a network.
    """
    widths: dict[str, list[int]] = {}
    classes = model.output_shape[-1]
    for layer in model.layers:
        match = re.fullmatch(r"(encoder_\d+|bottleneck|decoder_\d+)_\d+_pointwise", layer.name)
        if match:
            widths.setdefault(match[1], []).append(layer.filters)
    stages = {kind: [w for name, w in widths.items() if name.startswith(kind)] for kind in PARTS}
    if not all(stages.values()) or len(model.input_shape) != 4:
        return None
    stage_widths: dict[str, Any] = {
        "filters": stages["encoder"],
        "bottleneck": stages["bottleneck"][0],
        "decoder_filters": stages["decoder"],
    }
    for name, builder in MODELS.items():
        for late in (False, True):
            try:
                candidate = builder(
                    model.input_shape[1:], **stage_widths, late_upsampling=late, classes=classes
                )
            except ValueError:
                continue
            if _shapes(candidate) == _shapes(model):
                size = list(model.input_shape[1:3])
                return {"name": name, "input_size": size, **stage_widths, "late_upsampling": late}
    return None


def _shapes(model: keras.Model) -> list[tuple[str, tuple[int, ...], list[tuple[int, ...]]]]:
    """Returns name, output and weights of every layer that has some, in running order."""
    return [
        (layer.name, layer.output.shape, [weight.shape for weight in layer.weights])
        for layer in model.layers
        if layer.weights
    ]


def _check_parent(model: keras.Model, config: Config) -> None:
    """Raises a ValueError for a parent that cannot do what the configuration asks for."""
    nas = config.nas
    if nas.enabled and nas.probe_layers is None and not probe_names(model):
        raise ValueError(
            f"{config.narrow.parent} has no probes, and they cannot be added to a network that is "
            "narrowed: name layers as nas.probe_layers in --config, or give --no-nas-monitoring"
        )
    if config.training.quantization_aware:
        quantization_aware(model)


def check_model_name(name: str) -> None:
    """Raises a ValueError for a network that the zoo does not have."""
    if name not in MODELS:
        raise ValueError(f"Unknown model '{name}'. Known: {', '.join(MODELS)}.")


def check_settings(config: Config) -> None:
    """Raises a ValueError for settings that contradict each other or lack a package."""
    if config.narrow.parent is None:
        check_model_name(config.model.name)
    if config.export.format is not None and importlib.util.find_spec("ai_edge_litert") is None:
        raise ValueError("export.format: int8 needs ai-edge-litert: pip install ai-edge-litert")
    if config.export.format is not None and config.export.vela is not None:
        check_vela()
    nas, epochs, rounds = config.nas, min(config.round_epochs), config.narrow.rounds
    if not epochs:
        raise ValueError(
            f"narrow.rounds: expected at most {config.training.epochs}, one for each epoch "
            f"(training.epochs, --epochs), which the rounds share. Received: {rounds}"
        )
    if nas.enabled and nas.monitor_frequency == "epoch" and nas.log_frequency > epochs:
        raise ValueError(
            "nas.log_frequency: nothing would be measured. Received: "
            f"{nas.log_frequency} epochs of {epochs}" + (" per round" if rounds > 1 else "")
        )
    stops = config.training.early_stopping_patience is not None
    if stops and config.training.early_stopping_monitor == "redundancy":
        if not nas.enabled or (nas.monitor_frequency == "epoch" and nas.log_frequency > 1):
            raise ValueError(
                "training.early_stopping_monitor: redundancy needs nas.enabled and "
                "nas.log_frequency of 1: an epoch that is not measured counts as no progress"
            )
