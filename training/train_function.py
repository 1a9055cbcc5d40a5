"""The function `train`: what a Python user calls."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from monitoring import NASMonitorCallback
from monitoring.records.reading import read_history
from monitoring.records.run_files import HISTORY, MODEL, expanded
from training.arrays import digest, given_images, splits_of
from training.config import read_config
from training.fit import fit
from training.history import without_epoch
from training.model_files import load_model
from training.prepared import prepared_runs
from training.run_folder import read_resumed
from training.settings import Config
from training.split import Splits


def train(
    model_name: str | None = None,
    epochs: int | None = None,
    *,
    probes: Sequence[str] | None = None,
    weights: str | None = None,
    data: str | Path | Sequence[Any] | None = None,
    classes: int | Sequence[str] | None = None,
    loss: str | None = None,
    config: str | Path | None = None,
    batch_size: int | None = None,
    distill_from: str | Path | None = None,
    narrow: Mapping | None = None,
    quantization_aware: bool | None = None,
    export_format: str | None = None,
    output: str | Path | None = None,
    seed: int | None = None,
    enable_nas_monitoring: bool = False,
    nas_config: Mapping | None = None,
    nas_callback: NASMonitorCallback | None = None,
    resume: str | Path | None = None,
    verbose: int = 1,
) -> tuple[keras.Model, keras.callbacks.History]:
    """Trains a network of the zoo, evaluates it, and writes a folder of results.

    Arguments that are None come from `config`, else from configs/<model>.yaml. `~` is expanded
    in every path.

    Args:
        model_name: A key of `models.MODELS`. Defaults to None: `config`'s, else "nano_u".
        epochs: Passes through the training split.
        probes: Drawn from "encoder", "bottleneck" and "decoder"; they are built, and measured
            if monitoring is on.
        weights: Name of weights to begin with, "scenes". Defaults to None: `config`'s, else random.
        data: Folder with {train,val,test}/{img,mask}/NAME.{png,jpg}; or (train, val, test), each
            of which is (images, masks) as arrays, a tf.data.Dataset or a keras.utils.PyDataset:
            images (images, height, width, channels) in uint8, 0..255, and masks (images, height,
            width, 1). Defaults to None: `config`'s, else scenes that the project draws itself.
        classes: How many classes the masks have, or their names. Defaults to None: `config`'s, else
            1, foreground and background.
        loss: "cross_entropy" ("bce"), "dice", "focal", "tversky", or a sum, as in "bce+dice".
            Defaults to None: `config`'s, else the cross-entropy.
        config: A YAML file with the keys that it changes. Defaults to None: no file.
        batch_size: Images per step.
        distill_from: A teacher of the same input and output: a run's folder or a .keras file.
            Defaults to None: `config`'s, else no teacher.
        narrow: Keys of the configuration's section `narrow`: a trained network is cut down and
            fine-tuned, such as {"parent": "runs/wide", "macs": "2.4M"}, with "rounds" in several
            rounds. Defaults to None: `config`'s, else a network is built anew.
        quantization_aware: Whether to round weights and activations as INT8 will, nano_u
            only. Defaults to None: `config`'s, else False.
        export_format: "int8" for a file for microcontrollers, model_int8.tflite. Defaults to
            None: `config`'s, else no file.
        output: Folder for the results. Defaults to None: runs/<model>-<date>-<time>.
        seed: Determines weights, order, augmentation and which images are monitored.
        enable_nas_monitoring: Whether to measure the probes' channels after each epoch;
            without `probes`, those of encoder and bottleneck. Defaults to False.
        nas_config: Keys of the configuration's section `nas`; turns monitoring on unless it
            has `enabled: False`. Defaults to None.
        nas_callback: A monitor to use as it is. Defaults to None.
        resume: Folder of a run that was stopped. It continues with its own settings and ends
            as if it had never been stopped; only `nas_callback`, `verbose` and images that were
            given from Python may be given as well. Defaults to None.
        verbose: 0 is silent, 1 a progress bar, 2 one line per epoch. Defaults to 1.

    Returns:
        The model with the weights of its best validation mIoU, and Keras' History.

    Raises:
        ValueError: A value is impossible, an image cannot be used, or the folder holds
            another run; the message names it, and nothing has been written.
        OSError: A file does not exist, or the folder cannot be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "run"
        >>> model, history = train("nano_u", epochs=1, output=folder, verbose=0)
        >>> sorted(history.history)
        ['loss', 'miou', 'val_loss', 'val_miou']
    """
    if resume is not None:
        settings = (model_name, epochs, probes, classes, config, batch_size, distill_from)
        more = (quantization_aware, export_format, output, seed, enable_nas_monitoring or None)
        if any(
            value is not None for value in (*settings, *more, loss, weights, narrow, nas_config)
        ):
            raise ValueError(
                "A resumed run uses its own settings: with resume, give no argument but "
                "nas_callback and verbose, and data that were given from Python."
            )
        return _resume(expanded(resume), data, nas_callback, verbose)
    if nas_config is not None and nas_callback is not None:
        raise ValueError("Expected nas_config or nas_callback, not both.")
    monitored = enable_nas_monitoring or nas_config is not None or nas_callback is not None
    nas: dict = {"enabled": True} if monitored else {}
    sections: dict[str, dict] = {
        "model": {"name": model_name, "probes": probes, "weights": weights},
        "data": {"classes": classes},
        "training": {
            **{"epochs": epochs, "batch_size": batch_size, "seed": seed},
            **{"quantization_aware": quantization_aware, "loss": loss},
        },
        "distillation": {"teacher": None if distill_from is None else str(distill_from)},
        "narrow": dict(narrow or {}),
        "export": {"format": export_format},
        "nas": nas | dict(nas_config or {}),
        "output": {"folder": None if output is None else str(output)},
    }
    pairs = None
    if isinstance(data, (str, Path)):
        sections["data"]["root"] = str(data)
    elif data is not None:
        pairs = given_images(data)
        shape = pairs[0][0].shape
        sections["data"] |= {"given": digest(pairs), "channels": shape[-1]}
        sections["model"]["input_size"] = shape[1:3]
    overrides = {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in sections.items()
    }
    resolved = read_config(config, overrides, origin="train()")
    splits = None if pairs is None else _splits(pairs, resolved)
    return _fit_all(resolved, splits, nas_callback, resume=False, verbose=verbose)


def _splits(pairs: Sequence[tuple[np.ndarray, np.ndarray]], config: Config) -> Splits:
    """Returns splits of arrays, all of the size that the network takes.

    Raises:
        ValueError: They are of different sizes, or values have no meaning.
    """
    shapes = [images.shape[1:] for images, _ in pairs]
    if len(set(shapes)) > 1:
        raise ValueError(f"Expected images of one size in all splits. Received: {shapes}")
    return splits_of(pairs, config.data.masks, config.data.scaling)


def _fit_all(
    config: Config,
    splits: Splits | None,
    nas_callback: NASMonitorCallback | None,
    *,
    resume: bool,
    verbose: int,
) -> tuple[keras.Model, keras.callbacks.History]:
    """Trains all that a configuration asks for; returns what `fit` returns of the run itself."""
    for run in prepared_runs(config, nas_callback, resume=resume, splits=splits, verbose=verbose):
        trained = fit(run, verbose=verbose)
    return trained


def _resume(
    folder: Path, data: Any, nas_callback: NASMonitorCallback | None, verbose: int
) -> tuple[keras.Model, keras.callbacks.History]:
    """Continues a run; one that has finished is only loaded."""
    config, splits = read_resumed(folder), None
    if config is not None and data is not None:
        pairs = given_images(data)
        if digest(pairs) != config.data.given:
            raise ValueError(f"{folder} was not trained on these data: give those of its train()")
        splits = _splits(pairs, config)
    if config is not None:
        return _fit_all(config, splits, nas_callback, resume=True, verbose=verbose)
    history = keras.callbacks.History()
    history.history = without_epoch(read_history(folder / HISTORY))
    return load_model(folder / MODEL), history
