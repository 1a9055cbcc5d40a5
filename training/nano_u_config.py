"""Translates the config.yaml of Nano-U, the origin of these networks, into a configuration of ours.

Where a key is absent, what Nano-U's code then does is translated.
"""

from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any, NamedTuple

import yaml

from monitoring.command_line import printable
from monitoring.records.files import read_values
from monitoring.records.run_files import expanded
from training.config import validate
from training.nano_u_keys import (
    DATA_KEYS,
    QUANTIZATION_KEYS,
    TRAINING_KEYS,
    UNKNOWN,
    Keys,
    Note,
)
from training.nano_u_names import BU_NET, NANO_U, STAGES
from training.nano_u_recipe import translate_recipe

IMAGES = tuple(
    f"data.paths.processed.{split}.{kind}"
    for split in ("train", "val", "test")
    for kind in ("img", "mask")
)
AUGMENTATION = (  # (key of augment_params, key of ours, Nano-U's default)
    ("max_rotation_deg", "rotation", 20.0),
    ("brightness", "brightness", 0.2),
    ("contrast", "contrast", 0.2),
    ("saturation", "saturation", 0.2),
    ("hue", "hue", 0.05),
)


class Translation(NamedTuple):
    """A configuration of ours and where it comes from.

    Attributes:
        config: {section: {key: value}}, as `training.config.read_config` reads it.
        notes: One for each key of Nano-U's configuration and each default that was translated.
    """

    config: dict[str, Any]
    notes: tuple[Note, ...]

    def __str__(self) -> str:
        """Returns what became of each key, to be read by a person."""
        lines = ["Translated:"]
        for note in self.notes:
            if note.ours:
                remark = f" ({note.remark})" if note.remark else ""
                lines.append(f"  {note.key}: {note.value} -> {note.ours}{remark}")
        left = [note for note in self.notes if not note.ours]
        lines += ["Without a counterpart:"] if left else []
        return "\n".join(lines + [f"  {note.key}: {note.value}: {note.remark}" for note in left])


def read_translated(path: str | Path, model: str = NANO_U) -> Translation:
    """Reads Nano-U's config.yaml, and checks the translation.

    Args:
        path: The file. Paths in it are relative to the folder above its folder `config`, else to
            its own folder.
        model: As for `translate`. Defaults to "nano_u".

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is not a configuration of Nano-U, or holds an impossible value.
    """
    file = expanded(path)
    if not file.exists():
        raise FileNotFoundError(f"Config file {path} does not exist.")
    folder = file.absolute().parent
    checkout = folder.parent if folder.name == "config" else folder
    values = read_values(file)
    try:
        translation = translate(values, model, checkout=checkout)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    validate(translation.config, source=f"{path}, translated")
    return translation


def to_yaml(translation: Translation, origin: str | Path) -> str:
    """Returns a configuration as YAML, with a line that names the file that it was made from."""
    heading = f"# Translated from {origin} of Nano-U by `python -m training import-config`\n"
    return printable(heading) + yaml.safe_dump(translation.config, sort_keys=False)


def translate(
    values: Any, model: str = NANO_U, *, checkout: str | Path | None = None
) -> Translation:
    """Translates a configuration of Nano-U.

    Args:
        values: What its YAML file holds.
        model: "nano_u" or "bu_net": whose settings. Defaults to "nano_u".
        checkout: The folder to which paths in the file are relative. Defaults to None: they stay
            as they are.

    Returns:
        The configuration for that network, and what became of each key.

    Raises:
        ValueError: It is not a configuration of Nano-U, or has no settings for that network.

    Example:
        >>> translated = translate({"training": {"nano_u": {"epochs": 100, "loss": "dice"}}})
        >>> translated.config["training"]["epochs"]
        100
        >>> [note.key for note in translated.notes if not note.ours]
        ['training.nano_u.loss']
    """
    _check(values, model)
    keys = Keys(values, model)
    _translate_model(keys)
    _translate_folders(keys, Path(checkout or ""))
    _translate_images(keys)
    translate_recipe(keys)
    _note_the_rest(keys)
    return Translation(keys.config, tuple(keys.notes))


def _check(values: Any, model: str) -> None:
    """Raises a ValueError unless there are settings for the network."""
    training = values.get("training") if isinstance(values, Mapping) else None
    training = training if isinstance(training, Mapping) else {}
    if isinstance(training.get(model), Mapping):
        return
    other = BU_NET if model == NANO_U else NANO_U
    expected = f"expected Nano-U's config.yaml, with a section training.{model}"
    if isinstance(training.get(other), Mapping):
        raise ValueError(f"{expected}. Received: training.{other} alone; give --model {other}")
    shown = ", ".join(map(str, values)) if isinstance(values, Mapping) else repr(values)
    raise ValueError(
        f"{expected}. Received: {shorten(shown, 80) or 'an empty file'}; a configuration of this "
        "project needs no translation"
    )


def _translate_model(keys: Keys) -> None:
    key, value, shape = keys.take("data.input_shape", default=[60, 80, 3])
    size = list(shape[:2]) if isinstance(shape, (list, tuple)) else shape
    remark = ""
    if isinstance(size, list) and len(shape) == 3 and shape[2] != 3:
        remark = f"images have 3 channels here, not {shape[2]}"
    elif keys.model == NANO_U and isinstance(size, list) and size and _pools_differ(size[0]):
        remark = "the third pooling is 2x2 here at this height, and 3x2 in Nano-U"
    keys.put(key, value, "model.input_size", size, remark)
    key, value, filters = keys.take(keys.own("filters"), f"models.{keys.model}.filters")
    if filters is not None:
        only_three = keys.model == NANO_U and isinstance(filters, list)
        used = filters[:STAGES] if only_three else filters
        unused = "" if used == filters else f"Nano-U uses the first {STAGES} alone"
        keys.put(key, value, "model.filters", used, unused)
    else:
        keys.note(key, value, "null: model.filters keeps the default of this project")
    bottleneck = (keys.own("bottleneck"), f"models.{keys.model}.bottleneck")
    keys.move(*bottleneck, to="model.bottleneck")
    for section in ("training", "models"):
        why = "Nano-U does not read it: its decoder, like ours, has the encoder's widths reversed"
        keys.drop(f"{section}.{keys.model}.decoder_filters", why)


def _pools_differ(height: Any) -> bool:
    return type(height) is int and height % 8 == 0


def _translate_folders(keys: Keys, checkout: Path) -> None:
    """Sets `data.root` if the folders of images lie in one folder as ours do."""
    key, value, root = keys.take("data.paths.processed.root")
    folders = [(name, keys.take(name)[1]) for name in IMAGES if name in keys.left]
    roots = {_root(name, path) for name, path in folders} or {root}
    [folder] = roots if len(roots) == 1 else [None]
    if isinstance(folder, str):
        remark = "a placeholder: fill it in, or give --data DIR" if "<" in folder else ""
        keys.put(key, value, "data.root", str(checkout / folder), remark)
    why = "folders must be DIR/{train,val,test}/{img,mask} here: arrange them so, give --data DIR"
    for name, path in folders if isinstance(folder, str) else [(key, value), *folders]:
        shared = "data.root" if isinstance(folder, str) else ""
        keys.note(name, path, "" if shared else why, ours=shared)


def _root(name: str, path: Any) -> str | None:
    """Returns the folder above split and kind of a folder that is named by both."""
    parts = Path(path).parts if isinstance(path, str) else ()
    return str(Path(*parts[:-2])) if parts[-2:] == tuple(name.split(".")[-2:]) else None


def _translate_images(keys: Keys) -> None:
    """Notes how pixels are scaled, and sets how images are changed at random."""
    _translate_normalization(keys)
    key, value, classes = keys.take("data.num_classes")
    keys.note(key, value, f"networks have one output{', too' * (classes == 1)}; see data.classes")
    key, value, augmented = keys.take(keys.own("augment"), default=False)
    parameters = keys.own("augment_params.")
    if not augmented:
        keys.drop_all(parameters, f"{key} is off")
        keys.put(key, value, "data.augmentation.horizontal_flip", False)
        for _, ours, _ in AUGMENTATION:
            keys.put(key, value, f"data.augmentation.{ours}", 0.0)
        return
    flip, given, share = keys.take(f"{parameters}flip_prob", default=0.5)
    remark = f"half of the images; Nano-U draws {share} of them and flips half of these"
    flips = bool(share)
    keys.put(key, value, "data.augmentation.horizontal_flip", flips, remark * flips)
    keys.note(flip, given, remark * flips, ours="data.augmentation.horizontal_flip")
    for theirs, ours, default in AUGMENTATION:
        keys.move(parameters + theirs, to=f"data.augmentation.{ours}", default=default)


def _translate_normalization(keys: Keys) -> None:
    """Sets how pixels are scaled: a pixel of 0..255 where Nano-U divides it by 255 first."""
    taken = [keys.take(f"data.normalization.{name}") for name in ("mean", "std")]
    numbers = [numbers if isinstance(numbers, list) else [numbers] for _, _, numbers in taken]
    is_default = all(each in ([0.5], [0.5] * 3) for each in numbers)
    is_usable = all(
        len(each) in (1, 3) and all(type(n) in (int, float) and n >= least for n in each)
        for each, least in zip(numbers, (-1e6, 1e-6), strict=True)
    )
    for (key, value, _), each, ours in zip(taken, numbers, ("mean", "scale"), strict=True):
        if is_default:
            keys.note(key, value, "images are scaled to -1..1 here, too")
        elif is_usable:
            scaled = [round(255 * n, 4) for n in each]
            keys.put(key, value, f"data.{ours}", scaled, "of pixels from 0 to 255")
        else:
            keys.note(key, value, "images are scaled to -1..1: a mean and a std for each channel")


def _note_the_rest(keys: Keys) -> None:
    """Notes all that is left: nothing is skipped in silence."""
    for name, why in TRAINING_KEYS.items():
        keys.drop(keys.own(name), why)
    for name, why in (DATA_KEYS | QUANTIZATION_KEYS).items():
        keys.drop(name, why)
    other = BU_NET if keys.model == NANO_U else NANO_U
    for section in ("training", "models"):
        keys.drop_all(
            f"{section}.{other}.", f"a setting of {other}: import it with --model {other}"
        )
    keys.drop_all("", UNKNOWN)
