"""A search before it begins: everything checked, and a folder for it."""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from monitoring.records.files import read_values, whole_file
from monitoring.records.run_files import claim_folder, claim_new_folder
from training.config import read_config
from training.fitting import Fitted, widest
from training.network import check_model_name
from training.parents import load_parent
from training.run_folder import RUNS
from training.search.candidates import shared_limits
from training.settings import Config
from training.split import Splits
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
        parents: Runs of the wide parents, by whether they upsample late; not trained yet, unless
            the user has given one.
    """

    config: Config
    splits: Splits
    folder: Path
    parents: Mapping[bool, Path]

    @property
    def storage(self) -> str:
        """URL of Optuna's storage."""
        return self.config.search.storage or f"sqlite:///{(self.folder / STUDY).absolute()}"

    @property
    def shared_settings(self) -> dict[str, Any]:
        """What all processes of the search have in common, on any machine."""
        digest = hashlib.sha256()
        for split in (self.splits.train, self.splits.val):
            for array in (split.images, split.masks):
                digest.update(np.ascontiguousarray(array).tobytes())
        narrow, training = self.config.narrow, self.config.training
        return {
            "model": self.config.model.name,
            "limits": [narrow.arena, narrow.macs, narrow.parameters],
            "arena_plan": self.config.export.arena_plan,
            "epochs": training.epochs,
            "seed": training.seed,
            "images": digest.hexdigest(),
        }


def prepare_search(
    path: str | Path | None, overrides: Mapping[str, Mapping[str, Any]]
) -> tuple[Search, list[Fitted]]:
    """Checks the settings of a search, and claims its folder.

    Args:
        path: The user's configuration file; None: no file.
        overrides: As for `training.config.read_config`.

    Returns:
        The search, and the widest networks that keep to its limits, with early and late
        upsampling.

    Raises:
        ValueError: A setting is impossible, a package is missing, nothing keeps to the limits, or
            the folder holds something else.
        OSError: A file does not exist, or the folder cannot be written.
    """
    for module, package in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise ValueError(f"--search needs {package.split()[-1]}: pip install {package}")
    narrow = dict(overrides.get("narrow", {}))
    parent = narrow.pop("parent", None)
    config = read_config(path, {**overrides, "narrow": narrow}, for_pipeline=True)
    check_model_name(config.model.name)
    limits = shared_limits(config, 1.0)
    if limits.arena is None and limits.macs is None and limits.parameters is None:
        raise ValueError("A search needs a limit: --arena, --macs or --parameters")
    if parent is not None:
        load_parent(parent)
    splits = read_config_splits(config)
    if len(splits.val) < FEWEST:
        raise ValueError(
            f"A search chooses by validation images: expected {FEWEST} or more. Received: "
            f"{len(splits.val)}"
        )
    fit_widths = partial(widest, config.model.name, limits, size=config.model.input_size)
    fit_widths = partial(
        fit_widths, classes=max(len(config.data.masks.classes), 1), channels=config.data.channels
    )
    fitting = [fit_widths(late_upsampling=late) for late in PARENTS]
    folder = _claim(config)
    parents = {late: Path(parent) if parent else folder / name for late, name in PARENTS.items()}
    return Search(config, splits, folder, parents), fitting


def _claim(config: Config) -> Path:
    """Returns a folder that is this search's own: a new one, or the one to resume."""
    values = config.model_dump(mode="json", exclude={"output": {"folder"}, "search": {"workers"}})
    output = config.output.folder
    if output is None:
        folder = claim_new_folder(RUNS, f"search-{datetime.now():%Y%m%d-%H%M%S}")
    else:
        folder = Path(output)
        if (folder / SETTINGS).is_file():
            if read_values(folder / SETTINGS) != values:
                raise ValueError(
                    f"Output folder {folder} holds a search with other settings ({SETTINGS}). "
                    "Choose another one, or repeat the same settings to go on with it."
                )
            return folder
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(f"Output folder {folder} is not empty, and holds no search.")
        claim_folder(folder)
    with whole_file(folder / SETTINGS) as draft:
        draft.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return folder
