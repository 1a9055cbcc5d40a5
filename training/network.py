"""The network that a configuration describes, and what is wrong with the configuration."""

import importlib.util
from typing import NamedTuple

import keras

from models import MODELS, probe_names, quantization_aware
from monitoring.taps.watched import Watched
from training.output_kind import LOGITS
from training.parents import read_parent
from training.settings import Config


class Network(NamedTuple):
    """The network of a configuration.

    Attributes:
        model: The network; of a run that narrows, the parent, whose layers' names remain.
        outputs: What it puts out, "logits" or "probabilities".
        is_parent: Whether it is to be narrowed.
    """

    model: keras.Model
    outputs: str = LOGITS
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
        network = Network(build(config))
    else:
        network = Network(*read_parent(config.narrow, may_fit=may_fit), is_parent=True)
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
    widths: dict = {"filters": settings.filters, "bottleneck": settings.bottleneck}
    shape = (*settings.input_size, 3)
    model = MODELS[settings.name](
        shape,
        enable_probes=settings.probes,
        **{name: width for name, width in widths.items() if width is not None},
    )
    return quantization_aware(model) if config.training.quantization_aware else model


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
