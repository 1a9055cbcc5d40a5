"""The images that a configuration asks for."""

from pathlib import Path

from training.images import Splits, read_splits
from training.settings import Config
from training.synthetic import CLASSES, HEIGHT, WIDTH, synthetic_splits


def read_config_splits(config: Config, data: str | Path | None = None) -> Splits:
    """Reads a configuration's images, or draws scenes where it names no folder.

    Args:
        config: The configuration.
        data: A folder to read instead. Defaults to None.

    Raises:
        FileNotFoundError: A folder or a file does not exist.
        ValueError: A file cannot be used, or the drawn scenes have another size.
    """
    root, size = data or config.data.root, config.model.input_size
    if root is not None:
        return read_splits(root, size, **vars(config.data.masks))
    if size != (HEIGHT, WIDTH):
        raise ValueError(
            f"model.input_size: the drawn scenes are {HEIGHT}x{WIDTH}; other sizes need "
            f"data.root (--data). Received: {size[0]}x{size[1]}"
        )
    classes = config.data.masks.classes
    if classes and (len(classes) != len(CLASSES) or config.data.colours):
        raise ValueError(
            f"data.classes: the drawn scenes have 1 class, path, or {len(CLASSES)}, "
            f"{', '.join(CLASSES)}; others need data.root (--data). Received: "
            f"{', '.join(classes)}"
        )
    return synthetic_splits(classes=max(len(classes), 1))
