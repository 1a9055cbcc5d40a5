"""Packs the weights of finished runs for `models/weights`; `make weights` trains them first.

    python tests/pack_weights.py RUN=scenes RUN=scenes-narrow ...

Prints the checksums that models/pretrained.py holds.
"""

import hashlib
import inspect
import json
import sys
from pathlib import Path

import checkout  # noqa: F401
import yaml

from models import MODELS
from models.pretrained import FOLDER, pack
from training.model_files import load_model


def main(*arguments: str) -> None:
    """Writes a file per run."""
    for argument in arguments:
        folder, _, name = argument.rpartition("=")
        run = Path(folder)
        model = load_model(run / "model.keras")
        section = yaml.safe_load((run / "config.yaml").read_text())["model"]
        if (run / "narrowing.json").is_file():
            section = json.loads((run / "narrowing.json").read_text())["model"]
        defaults = inspect.signature(MODELS[section["name"]]).parameters
        settings = {
            key: section.get(key) or defaults[key].default
            for key in ("filters", "bottleneck", "decoder_filters")
        }
        settings = {key: value for key, value in settings.items() if value is not None}
        content = pack(model, settings)
        file = FOLDER / f"{name}-{section['name']}.npz"
        file.write_bytes(content)
        print(
            f'    "{file.name}": "{hashlib.sha256(content).hexdigest()}",  # {len(content):,} bytes'
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
