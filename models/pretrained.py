"""Weights that ship with the networks, to start a training from."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

FOLDER = Path(__file__).parent / "weights"
HEAD = "logits/"  # weights of the last layer, whose shape depends on the classes
SETTINGS = "settings"  # JSON in a file of weights: the builder's arguments
CHECKSUMS: Mapping[str, str] = {  # {file: SHA-256}; `make weights` prints them
    "scenes-nano_u.npz": "6cf9aa33b913a48dee4a93af9520b257ba4233fafa6e54bd99e2eb2f35d1105d",
    "scenes-bu_net.npz": "9bae76cd60e1c87b95299534792585d8d7d45ab7d876d2773d8ad178226e1699",
    "scenes-narrow-nano_u.npz": "82e633e9747554af37c008b433a07d90075b6d79605edd250855eece9233f553",
}


def pretrained_names(network: str) -> list[str]:
    """Returns the names that a builder's `weights` takes.

    Args:
        network: A key of `models.MODELS`.
    """
    suffix = f"-{network}.npz"
    return sorted(file.removesuffix(suffix) for file in CHECKSUMS if file.endswith(suffix))


def pretrained_settings(network: str, name: str) -> dict[str, Any]:
    """Returns the widths of a network whose weights ship: arguments of its builder.

    Raises:
        ValueError: There are none of that name, or the file is damaged.
    """
    settings: dict[str, Any] = json.loads(str(_read(network, name)[SETTINGS]))
    return settings


def set_pretrained(model: keras.Model, network: str, name: str) -> None:
    """Sets a network's weights; its last layer keeps its own if it has other classes.

    Args:
        model: The network, of the widths that `pretrained_settings` returns.
        network: A key of `models.MODELS`.
        name: As for `pretrained_settings`.

    Raises:
        ValueError: The weights are of another network, or the file is damaged.
    """
    arrays = _read(network, name)
    for weight in model.weights:
        array = arrays.get(weight.path)
        if array is not None and array.shape == tuple(weight.shape):
            weight.assign(array)
        elif not weight.path.startswith(HEAD):
            expected = "none of this name" if array is None else f"shape {array.shape}"
            raise ValueError(
                f"weights={name!r} are those of {_described(arrays)} for RGB images: they have "
                f"{expected}. Received: {weight.path} of shape {tuple(weight.shape)}"
            )


def pack(model: keras.Model, settings: Mapping[str, Any]) -> bytes:
    """Returns a file of weights, the same bytes for the same weights.

    Args:
        model: A trained network.
        settings: The builder's arguments that made it, as JSON can hold them.
    """
    arrays: dict[str, Any] = {
        weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights
    }
    file = io.BytesIO()
    np.savez_compressed(file, **arrays | {SETTINGS: np.array(json.dumps(dict(settings)))})
    return file.getvalue()


def _read(network: str, name: str) -> dict[str, np.ndarray]:
    file = f"{name}-{network}.npz"
    if file not in CHECKSUMS:
        known = ", ".join(repr(each) for each in pretrained_names(network)) or "none"
        raise ValueError(f"Expected weights of {network}: {known}, or None. Received: {name!r}")
    content = (FOLDER / file).read_bytes() if (FOLDER / file).is_file() else b""
    if hashlib.sha256(content).hexdigest() != CHECKSUMS[file]:
        raise ValueError(f"{FOLDER / file} is missing or damaged: install the project again")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def _described(arrays: Mapping[str, np.ndarray]) -> str:
    settings = json.loads(str(arrays[SETTINGS]))
    return ", ".join(f"{key}={value}" for key, value in settings.items())
