"""Finds the images that a user names: files, folders, patterns."""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from monitoring.records.run_files import expanded
from training.pairs import SUFFIXES

KINDS = ", ".join(SUFFIXES)


class Found(NamedTuple):
    """What has been found.

    Attributes:
        images: The images, in the order of their names.
        others: Other files in the folders, which are left out.
    """

    images: list[Path]
    others: list[Path]


def find_images(places: Sequence[str | Path]) -> Found:
    """Returns the images of files, folders and patterns such as "photos/*.png".

    Folders are not searched below their first level; hidden files do not count.

    Raises:
        FileNotFoundError: There is no such file, or no image.
        ValueError: A file that is named, or that a pattern matches, is no image.
    """
    images, others = [], []
    for place in places:
        path = expanded(place)
        if path.is_dir():
            files = [file for file in path.iterdir() if file.is_file() and file.name[0] != "."]
            images += [file for file in files if _is_image(file)]
            others += [file for file in files if not _is_image(file)]
            if not any(_is_image(file) for file in files):
                raise FileNotFoundError(f"{path} holds no image (expected {KINDS}){_hint(path)}")
            continue
        files = [path] if path.exists() else _matches(path)
        for file in files:
            if not _is_image(file):
                raise ValueError(f"Expected an image, {KINDS}. Received: {file}")
        images += files
    return Found(sorted(set(images)), sorted(set(others)))


def _matches(pattern: Path) -> list[Path]:
    matches = [Path(name) for name in glob.glob(str(pattern), recursive=True)]
    files = [path for path in matches if path.is_file()]
    if not files:
        raise FileNotFoundError(
            f"{pattern} does not exist, and matches no image: give a file, a folder, or a pattern "
            "in quotes"
        )
    return files


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _hint(folder: Path) -> str:
    """Points to the images of a data folder."""
    for name in ("img", "test/img"):
        if (folder / name).is_dir():
            return f": give {folder / name}"
    return ""
