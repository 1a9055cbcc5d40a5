"""A folder for several trainings that were started by one command, and its settings."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from monitoring.records.files import read_values, whole_file
from monitoring.records.run_files import claim_folder, claim_new_folder
from training.run_folder import RUNS


def claim_settings(
    output: str | None, file: str, values: Any, *, kind: str, comparable: Callable[[Any], Any]
) -> Path:
    """Returns a folder that is this command's own: a new one, or the one to resume.

    Args:
        output: The user's folder; None: a new one in runs/.
        file: Name of the file that holds the settings.
        values: The settings, as YAML can hold them.
        kind: What the folder holds, for messages and names: "pipeline".
        comparable: Returns settings as they are read in the form of `values`.

    Raises:
        ValueError: It holds one with other settings, or something else.
        OSError: It cannot be written.
    """
    if output is None:
        folder = claim_new_folder(RUNS, f"{kind}-{datetime.now():%Y%m%d-%H%M%S}")
    else:
        folder = Path(output)
        if (folder / file).is_file():
            if comparable(read_values(folder / file)) != values:
                raise ValueError(
                    f"Output folder {folder} holds a {kind} with other settings ({file}). Choose "
                    "another one, or repeat the same settings to resume it."
                )
            return folder
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(f"Output folder {folder} is not empty, and holds no {kind}.")
        claim_folder(folder)
    with whole_file(folder / file) as draft:
        draft.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return folder
