"""Image files and their masks: found in a data folder, and paired by name."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SPLITS = ("train", "val", "test")
UNSPLIT = "all"  # of a folder that is not split
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".npy")
LAYOUTS = {  # {name: patterns of images and masks}
    "cityscapes": (
        "leftImg8bit/{split}/*/{name}_leftImg8bit.png",
        "gtFine/{split}/*/{name}_gtFine_labelIds.png",
    ),
    "voc": ("JPEGImages/{name}.jpg", "SegmentationClass/{name}.png"),
}
VOC_LISTS = "ImageSets/Segmentation"  # {train,val,test}.txt name the images of a split
PARTS = {"{split}": f"(?P<split>{'|'.join(SPLITS)})", "{name}": "(?P<name>[^/]+)", "*": "[^/]*"}


class Pair(NamedTuple):
    """An image and its mask.

    Attributes:
        name: What their files' names share.
        image: The image's file.
        mask: The mask's file.
    """

    name: str
    image: Path
    mask: Path


Pairs = Mapping[str, Sequence[Pair]]  # {split: pairs in the order of their names}


@dataclass(frozen=True)
class Layout:
    """Where a folder keeps images and masks.

    Attributes:
        images: A pattern of paths in the folder, with "{name}", perhaps "{split}", and "*" for
            anything within one name; None: {train,val,test}/img, or img.
        masks: The same of masks; None: {train,val,test}/mask, or mask.
        lists: A folder of {train,val,test}.txt that list the names of each split; None: none.
    """

    images: str | None = None
    masks: str | None = None
    lists: str | None = None


def layout_of(
    name: str | None = None, images: str | None = None, masks: str | None = None
) -> Layout:
    """Returns a checked layout.

    Args:
        name: A key of `LAYOUTS`. Defaults to None.
        images: As in `Layout`. Defaults to None.
        masks: As in `Layout`. Defaults to None.

    Raises:
        ValueError: The name is unknown, or a pattern is impossible.

    Example:
        >>> layout_of("voc").masks
        'SegmentationClass/{name}.png'
    """
    if name is not None:
        if name not in LAYOUTS:
            raise ValueError(f"Expected a layout of {', '.join(LAYOUTS)}. Received: {name!r}")
        if images or masks:
            raise ValueError("Give a layout or patterns, not both")
        return Layout(*LAYOUTS[name], VOC_LISTS if name == "voc" else None)
    if (images is None) != (masks is None):
        raise ValueError("Expected patterns of both images and masks, or of neither")
    for pattern in (images, masks):
        if pattern is not None and pattern.count("{name}") != 1:
            raise ValueError(
                "Expected a pattern with {name} once, such as frames/{split}/{name}_rgb.png. "
                f"Received: {pattern!r}"
            )
    if images and masks and ("{split}" in images) != ("{split}" in masks):
        raise ValueError("Expected {split} in the patterns of both images and masks, or of neither")
    return Layout(images, masks)


def find_pairs(root: Path, layout: Layout | None = None) -> dict[str, list[Pair]]:
    """Finds all images and masks of a folder.

    Args:
        root: The folder.
        layout: Where they are. Defaults to None: as the folder looks, {train,val,test}/{img,mask},
            {img,mask}, or a key of `LAYOUTS`.

    Returns:
        {split: its pairs, in the order of their names}; `UNSPLIT` if the folder is not split.

    Raises:
        FileNotFoundError: A folder, an image's mask, or a mask's image does not exist.
        ValueError: Two files have one name, or a file is no image.
    """
    if not root.is_dir():
        raise FileNotFoundError(
            f"Data folder {root} does not exist. Expected {root}/{{train,val,test}}/{{img,mask}}/"
        )
    layout = layout or _seen_layout(root)
    if layout.images is not None and layout.masks is not None:
        return _by_pattern(root, layout)
    present = [name for name in SPLITS if (root / name).is_dir()]
    if (root / "img").is_dir() and len(present) < len(SPLITS):
        if present:
            raise ValueError(
                f"{root} holds img, and {' and '.join(present)} as well: move the images of img "
                f"into {root}/train, or the folders of splits elsewhere"
            )
        return {UNSPLIT: pairs_in(root)}
    if not present:
        raise FileNotFoundError(
            f"Data folder {root} holds no images: expected {root}/{{train,val,test}}/{{img,mask}}/ "
            f"or {root}/{{img,mask}}/. For others, give data.layout ({', '.join(LAYOUTS)}), or "
            "data.image_pattern and data.mask_pattern"
        )
    return {name: pairs_in(root / name) for name in present}


def pairs_in(folder: Path) -> list[Pair]:
    """Returns the pairs of `folder`/{img,mask}/NAME.*; errors as those of `find_pairs`."""
    images, masks = (files_in(folder / kind) for kind in ("img", "mask"))
    return _paired(images, masks, {"img": str(folder / "img"), "mask": str(folder / "mask")})


def check_splits(root: Path, pairs: Pairs) -> None:
    """Raises a FileNotFoundError for a folder that is not split into train, val and test."""
    missing = [name for name in SPLITS if name not in pairs]
    if missing:
        raise FileNotFoundError(
            f"Data folder {root} has no {' and no '.join(missing)}: add "
            f"{root}/{{train,val,test}}/{{img,mask}}/, or have the other images split: "
            "--split 0.15,0.15 (data.split)"
        )


def files_in(folder: Path) -> dict[str, Path]:
    """Returns {stem: file} of a folder's images.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: Two files have the same stem, or one has another suffix.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"Data folder {folder} does not exist.")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{path} is not one of {', '.join(SUFFIXES)}: move it elsewhere")
        stem = unicodedata.normalize("NFC", path.stem)
        if stem in files:
            raise ValueError(f"{files[stem]} and {path} have the same stem: keep one")
        files[stem] = path
    return files


def _seen_layout(root: Path) -> Layout:
    """Returns the layout that a folder has by the names in it."""
    for name, patterns in LAYOUTS.items():
        if all((root / pattern.split("/")[0]).is_dir() for pattern in patterns):
            return layout_of(name)
    return Layout()


def _by_pattern(root: Path, layout: Layout) -> dict[str, list[Pair]]:
    images, masks = (_matches(root, pattern or "") for pattern in (layout.images, layout.masks))
    places = {"img": str(root / (layout.images or "")), "mask": str(root / (layout.masks or ""))}
    if layout.lists is not None and (root / layout.lists).is_dir():
        return _by_lists(
            root / layout.lists, images.get(UNSPLIT, {}), masks.get(UNSPLIT, {}), places
        )
    if not images:
        raise ValueError(f"No image matches {places['img']}")
    order = [name for name in (*SPLITS, UNSPLIT) if name in images or name in masks]
    return {name: _paired(images.get(name, {}), masks.get(name, {}), places) for name in order}


def _matches(root: Path, pattern: str) -> dict[str, dict[str, Path]]:
    """Returns {split: {name: file}} of the files that match a pattern."""
    parts = re.split(r"(\{split\}|\{name\}|\*)", pattern)
    wanted = re.compile("".join(PARTS.get(part, re.escape(part)) for part in parts))
    found: dict[str, dict[str, Path]] = {}
    first = pattern.split("/")[0]
    start = root if any(part in first for part in PARTS) else root / first
    for path in sorted(start.rglob("*") if start.is_dir() else []):
        match = wanted.fullmatch(path.relative_to(root).as_posix())
        if match is None or not path.is_file():
            continue
        name = unicodedata.normalize("NFC", match["name"])
        files = found.setdefault(match.groupdict().get("split") or UNSPLIT, {})
        if name in files:
            raise ValueError(f"{files[name]} and {path} have the same name {name}: keep one")
        files[name] = path
    return found


def _by_lists(
    lists: Path, images: Mapping[str, Path], masks: Mapping[str, Path], places: Mapping[str, str]
) -> dict[str, list[Pair]]:
    """Returns the pairs that {train,val,test}.txt list."""
    pairs = {}
    for split in SPLITS:
        file = lists / f"{split}.txt"
        if not file.is_file():
            continue
        names = sorted(set(file.read_text(encoding="utf-8").split()))
        for kind, files in (("img", images), ("mask", masks)):
            missing = [name for name in names if name not in files]
            if missing:
                raise FileNotFoundError(f"{file} lists {missing[0]}, but not in {places[kind]}")
        pairs[split] = [Pair(name, images[name], masks[name]) for name in names]
    if not pairs:
        raise FileNotFoundError(f"{lists} holds none of {', '.join(f'{s}.txt' for s in SPLITS)}")
    return pairs


def _paired(
    images: Mapping[str, Path], masks: Mapping[str, Path], places: Mapping[str, str]
) -> list[Pair]:
    for name in sorted(images.keys() ^ masks.keys()):
        present, missing = (images, "mask") if name in images else (masks, "img")
        raise FileNotFoundError(f"{present[name]} has no partner {name}.* in {places[missing]}")
    if not images:
        raise ValueError(f"{places['img']} holds no image (expected {', '.join(SUFFIXES)})")
    return [Pair(name, images[name], masks[name]) for name in sorted(images)]
