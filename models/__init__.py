"""Segmentation networks with optional identity probes.

`MODELS` is the registry: a name as the command line takes it, and the function
that builds the network.
"""

from .bu_net import BU_Net
from .nano_u import Nano_U
from .narrowing import channel_groups, narrow
from .pretrained import pretrained_names, pretrained_settings
from .probes import Probe, probe_names, side_model
from .quantization.network import quantization_aware

MODELS = {"nano_u": Nano_U, "bu_net": BU_Net}

__all__ = [
    "MODELS",
    "BU_Net",
    "Nano_U",
    "Probe",
    "channel_groups",
    "narrow",
    "pretrained_names",
    "pretrained_settings",
    "probe_names",
    "quantization_aware",
    "side_model",
]
