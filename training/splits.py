"""The images that a configuration asks for."""

from dataclasses import replace
from pathlib import Path

from training.images import ImageOptions, decoded_bytes, read_pairs
from training.pairs import Pairs, check_splits, find_pairs, layout_of
from training.settings import Config, DataConfig
from training.split import Splits
from training.splitting import fold_pairs, split_pairs
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
    if root is None and config.data.given is not None:
        raise ValueError(
            "The images of this run were given from Python: pass the same data= to train(), or "
            "name a folder of images (--data)"
        )
    if root is not None:
        section, pairs = config.data, config_pairs(config.data, Path(root))
        options = ImageOptions(size, section.channels, section.scaling, section.tiles)
        on_disk = decoded_bytes(pairs, options) > section.memory
        return read_pairs(pairs, replace(options, on_disk=on_disk), section.masks)
    if size != (HEIGHT, WIDTH):
        raise ValueError(
            f"model.input_size: the drawn scenes are {HEIGHT}x{WIDTH}; other sizes need "
            f"data.root (--data). Received: {size[0]}x{size[1]}"
        )
    if config.data.channels != 3 or config.data.mean is not None:
        raise ValueError(
            "data.channels, data.mean: the drawn scenes are RGB of 8 bits; others need data.root "
            "(--data)"
        )
    classes = config.data.masks.classes
    if classes and (len(classes) != len(CLASSES) or config.data.colours):
        raise ValueError(
            f"data.classes: the drawn scenes have 1 class, path, or {len(CLASSES)}, "
            f"{', '.join(CLASSES)}; others need data.root (--data). Received: "
            f"{', '.join(classes)}"
        )
    return synthetic_splits(classes=max(len(classes), 1))


def config_pairs(data: DataConfig, root: Path) -> Pairs:
    """Returns the files of each split, as section `data` of a configuration finds and splits them.

    Args:
        data: The section.
        root: The folder of images.

    Raises:
        FileNotFoundError: A folder, a file or a split does not exist.
        ValueError: Files cannot be paired or split.
    """
    layout = None
    if data.layout or data.image_pattern:
        layout = layout_of(data.layout, data.image_pattern, data.mask_pattern)
    pairs, split = find_pairs(root, layout), data.split
    if split is None:
        check_splits(root, pairs)
        return pairs
    val, seed, groups = split.val, split.seed, split.groups
    if split.folds is None:
        return split_pairs(pairs, val=val, test=split.test, seed=seed, groups=groups)
    return fold_pairs(pairs, fold=split.fold, folds=split.folds, val=val, seed=seed, groups=groups)
