"""A search before it begins: everything checked, and a folder for it."""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import yaml

from monitoring.records.files import read_values, whole_file
from monitoring.records.run_files import (
    DRAFT,
    MARKER,
    MODEL,
    claim_new_folder,
    expanded,
    mark_folder,
)
from training.config import read_config
from training.fitting import Fitted, widest
from training.network import check_model_name
from training.parents import load_parent
from training.run_folder import RUNS
from training.search.candidates import shared_limits
from training.search.locks import LOCK, alone_in
from training.search.study import open_study, without_password
from training.settings import Config
from training.split import PART, Splits
from training.splits import read_config_splits

SETTINGS, STUDY = "search.yaml", "study.db"
NETWORKS = "networks"
PARENTS = {False: "parent", True: "parent_late"}
FEWEST = 8  # validation images
PACKAGES = {"tflite_micro": "--pre tflite-micro", "ai_edge_litert": "ai-edge-litert"}


@dataclass(frozen=True)
class Search:
    """A search that is checked, and owns its folder.

    Attributes:
        config: Its configuration, with the limits.
        splits: Its images.
        folder: Its folder.
        parents: The wide parents, by whether they upsample late: runs that are trained later or,
            if the user has given one, that run or .keras file.
        given_parent: What the user has given; None if the search trains its own.
        study: Optuna's study.
    """

    config: Config
    splits: Splits
    folder: Path
    parents: Mapping[bool, Path]
    given_parent: Path | None
    study: optuna.Study

    @property
    def limits(self) -> list[int | None]:
        """Bytes of arena, multiply-adds and parameters; None: no limit."""
        return _limits(self.config)


def prepare_search(
    path: str | Path | None, overrides: Mapping[str, Mapping[str, Any]]
) -> tuple[Search, list[Fitted]]:
    """Checks the settings of a search, claims its folder, and opens its study.

    Args:
        path: The user's configuration file; None: no file.
        overrides: As for `training.config.read_config`.

    Returns:
        The search, and the widest networks that keep to its limits, with early and late
        upsampling.

    Raises:
        ValueError: A setting is impossible, a package is missing, nothing keeps to the limits, or
            the folder or the storage holds something else.
        OSError: A file does not exist, or the folder cannot be written.
    """
    config, parent = _read(path, overrides)
    splits = read_config_splits(config)
    if len(splits.val) < FEWEST:
        raise ValueError(
            f"A search chooses by validation images: expected {FEWEST} or more. Received: "
            f"{len(splits.val)}"
        )
    fit_widths = partial(
        widest,
        config.model.name,
        shared_limits(config, 1.0),
        size=config.model.input_size,
        classes=max(len(config.data.masks.classes), 1),
        channels=config.data.channels,
    )
    fitting = [fit_widths(late_upsampling=late) for late in PARENTS]
    storage, settings = config.search.storage, shared_settings(config, splits, parent)
    # A storage that cannot be used leaves no folder that stands in the way of the next try.
    study = None if storage is None else open_study(storage, settings, is_shared=True)
    folder = _claim(config, parent)
    if study is None:
        file = f"sqlite:///{(folder / STUDY).absolute()}"
        study = open_study(file, settings, is_shared=False)
    parents = {late: parent or folder / name for late, name in PARENTS.items()}
    return Search(config, splits, folder, parents, parent, study), fitting


def _read(
    path: str | Path | None, overrides: Mapping[str, Mapping[str, Any]]
) -> tuple[Config, Path | None]:
    """Returns the configuration of a search, and the parent that the user has given."""
    for module, package in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise ValueError(f"--search needs {package.split()[-1]}: pip install {package}")
    narrow = dict(overrides.get("narrow", {}))
    given = narrow.pop("parent", None)
    config = read_config(path, {**overrides, "narrow": narrow}, for_pipeline=True)
    check_model_name(config.model.name)
    if _limits(config) == [None, None, None]:
        raise ValueError("A search needs a limit: --arena, --macs or --parameters")
    if given is None:
        return config, None
    load_parent(given)
    return config, expanded(given)


def _limits(config: Config) -> list[int | None]:
    return [config.narrow.arena, config.narrow.macs, config.narrow.parameters]


def shared_settings(config: Config, splits: Splits, parent: Path | None) -> dict[str, Any]:
    """Returns what all processes of a search have in common, on any machine."""
    digest = hashlib.sha256()
    for split in (splits.train, splits.val):
        for name in ("images", "masks"):
            for first in range(0, len(split), PART):
                digest.update(getattr(split[first : first + PART], name).tobytes())
    file = parent / MODEL if parent is not None and parent.is_dir() else parent
    return {
        "model": config.model.name,
        "limits": _limits(config),
        "arena_plan": config.export.arena_plan,
        "trials": config.search.trials,
        "epochs": config.training.epochs,
        "seed": config.training.seed,
        "parent": None if file is None else hashlib.sha256(file.read_bytes()).hexdigest(),
        "images": digest.hexdigest(),
    }


def _claim(config: Config, parent: Path | None) -> Path:
    """Returns a folder that is this search's own: a new one, or the one to resume."""
    values = config.model_dump(mode="json", exclude={"output": {"folder"}, "search": {"workers"}})
    values["narrow"]["parent"] = None if parent is None else str(parent)
    if config.search.storage is not None:
        values["search"]["storage"] = without_password(config.search.storage)
    if config.output.folder is None:
        folder = claim_new_folder(RUNS, f"search-{datetime.now():%Y%m%d-%H%M%S}")
    else:
        folder = Path(config.output.folder)
        _check_own(folder)
    if not (folder / SETTINGS).is_file():
        with alone_in(folder):
            mark_folder(folder)
            if not (folder / SETTINGS).is_file():
                with whole_file(folder / SETTINGS) as draft:
                    draft.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    stored = read_values(folder / SETTINGS)
    if stored != values:
        other = [
            f"{section}.{key}"
            for section, keys in values.items()
            for key in keys
            if stored.get(section, {}).get(key) != keys[key]
        ]
        raise ValueError(
            f"Output folder {folder} holds a search with other settings ({SETTINGS}): "
            f"{', '.join(other)}. Choose another one, or repeat the same settings to go on with it."
        )
    return folder


def _check_own(folder: Path) -> None:
    """Raises a ValueError for a folder that holds anything but a search."""
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    # What a search leaves that was killed before its settings were there.
    if SETTINGS not in names and not names <= {MARKER, LOCK, f"{DRAFT}{SETTINGS}"}:
        raise ValueError(f"Output folder {folder} is not empty, and holds no search.")
