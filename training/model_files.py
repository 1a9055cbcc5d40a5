"""Loads .keras files, which may come from strangers."""

import zipfile
from pathlib import Path

import keras


def load_model(path: Path) -> keras.Model:
    """Loads a .keras file in safe mode.

    Raises:
        FileNotFoundError: It does not exist.
        ValueError: It is not a model that can be loaded safely.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Model file {path} does not exist.")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is not a .keras file, or is damaged.")
    try:
        return keras.saving.load_model(path, safe_mode=True, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} cannot be loaded in safe mode; classes of your own need --import MODULE: "
            f"{reason[:300]}"
        ) from None
