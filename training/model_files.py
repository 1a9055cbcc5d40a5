"""Loads .keras files, which may come from strangers."""

import zipfile
from pathlib import Path

import keras

from monitoring.analysis.single_output import single_output
from monitoring.records.run_files import MODEL

HDF5 = b"\x89HDF\r\n\x1a\n"


def load_model(
    path: Path, *, advice: str = "classes of your own need --import MODULE"
) -> keras.Model:
    """Loads a .keras file in safe mode.

    Args:
        path: The file.
        advice: What to do about classes that Keras does not know. Defaults to the option of
            `python -m monitoring analyze`.

    Raises:
        FileNotFoundError: It does not exist.
        ValueError: It is not a model that can be loaded safely.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder. {_advice_on_folder(path)}")
    if not path.is_file():
        raise FileNotFoundError(f"Model file {path} does not exist.")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} {_advice_on_file(path)}")
    try:
        return keras.saving.load_model(path, safe_mode=True, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        reason = " ".join(str(error).split()).split("Full object config")[0].strip()[:300]
        raise ValueError(f"{path} cannot be loaded in safe mode; {advice}: {reason}") from None


def without_structure(model: keras.Model) -> keras.Model:
    """Returns a functional model without the dict or list around its one input or output.

    Other models are returned as they are: only a call tells what they return.

    Raises:
        ValueError: It has several inputs or outputs.
    """
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        return model
    if len(inputs) > 1:
        raise ValueError(
            f"Expected a model with one input, images. Received: {len(inputs)} inputs of model "
            f"'{model.name}': {', '.join(tensor.name for tensor in inputs)}. Use a model that "
            "takes images alone"
        )
    if isinstance(model, keras.Sequential):  # has neither dicts nor lists
        single_output(model, outputs)
        return model
    output = single_output(model, model.output)
    if keras.tree.is_nested(model.input) or keras.tree.is_nested(model.output):
        return keras.Model(inputs[0], output, name=model.name)
    return model


def _advice_on_folder(path: Path) -> str:
    if (path / "saved_model.pb").is_file():
        return (
            "A SavedModel shows no layers, not even through keras.layers.TFSMLayer: load the "
            "model that it was exported from, and model.save('NAME.keras')"
        )
    if (path / MODEL).is_file():
        return f"Give its model, {path / MODEL}"
    return "Expected a .keras file"


def _advice_on_file(path: Path) -> str:
    with path.open("rb") as file:
        if file.read(len(HDF5)) != HDF5:
            return "is not a .keras file, or is damaged."
    if path.name.endswith(".weights.h5"):
        return (
            "holds weights alone, and no model: build it, model.load_weights(...), and "
            "model.save('NAME.keras')"
        )
    return (
        "is HDF5, which cannot be loaded in safe mode. If you trust it, convert it: "
        f"keras.models.load_model('{path}', compile=False).save('{path.with_suffix('.keras')}')"
    )
