"""Drawn scenes as a folder of images, with paths so thin that 3 % of the pixels are foreground.

    python tests/thin_paths.py FOLDER [WIDTH]

WIDTH is the factor of the path's width, 0.13 unless given.
"""

import sys
from pathlib import Path

import checkout  # noqa: F401
from PIL import Image

from training.split import class_shares
from training.synthetic import synthetic_splits


def write_scenes(root: Path, width: float) -> None:
    """Writes the three splits, and prints their shares of foreground."""
    splits = synthetic_splits(path_width=width)
    for name, split in vars(splits).items():
        for kind in ("img", "mask"):
            (root / name / kind).mkdir(parents=True)
        for stem, image, mask in zip(split.names, split.images, split.masks, strict=True):
            Image.fromarray(image).save(root / name / "img" / f"{stem}.png")
            Image.fromarray(255 * mask[..., 0]).save(root / name / "mask" / f"{stem}.png")
    print(class_shares(splits))


if __name__ == "__main__":
    write_scenes(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.13)
