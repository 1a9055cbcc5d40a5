"""Images that a folder does not split: drawn by seed and by groups, or cut into folds."""

import csv
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from training.pairs import SPLITS, UNSPLIT, Pair, Pairs

PREFIX = "prefix"


def group_of(groups: str | int | None) -> Callable[[str], str]:
    """Returns a function from an image's name to its group.

    Args:
        groups: "prefix": the name without the digits at its end, so that the frames of a video are
            one group; a number: so many characters from its beginning; a file of lines
            "name,group"; None: every image is a group of its own.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is no such file; or, when the function is called, it lacks a name.

    Example:
        >>> group_of("prefix")("seq1_000123"), group_of(4)("seq1_000123")
        ('seq1', 'seq1')
    """
    if groups is None:
        return lambda name: name
    if isinstance(groups, int):
        return lambda name: name[:groups]
    if groups == PREFIX:
        return lambda name: re.sub(r"[\W_]*\d+$", "", name) or name
    table = _read_groups(Path(groups))

    def group(name: str) -> str:
        if name not in table:
            raise ValueError(f"{groups} names no group for the image {name}")
        return table[name]

    return group


def split_pairs(
    pairs: Pairs, *, val: float, test: float, seed: int, groups: str | int | None = None
) -> dict[str, list[Pair]]:
    """Draws the splits that a folder lacks from its training images, or from all if it has none.

    Args:
        pairs: As `find_pairs` returns them.
        val: Share of the images to draw for validation, 0..1.
        test: The same for the test split.
        seed: Determines the draw.
        groups: As for `group_of`; no group is in two splits. Defaults to None.

    Returns:
        {"train", "val", "test": pairs}.

    Raises:
        ValueError: There are too few groups, or one is in two of the splits that the folder has.
    """
    name_group = group_of(groups)
    check_disjoint(pairs, name_group)
    given = dict(pairs)
    source = given.pop(UNSPLIT, None) or given.pop("train", [])
    shares = {"test": test, "val": val}
    wanted = {name: share for name, share in shares.items() if name not in given}
    parts = _draw(list(source), wanted, name_group, seed)
    return {name: list(given[name]) if name in given else parts[name] for name in SPLITS}


def fold_pairs(
    pairs: Pairs,
    *,
    fold: int,
    folds: int,
    val: float,
    seed: int,
    groups: str | int | None = None,
) -> dict[str, list[Pair]]:
    """Returns one fold of a cross-validation over all images of a folder.

    Each image is in the test split of one fold. Validation images are drawn from the others.

    Args:
        pairs: As `find_pairs` returns them; its splits are put together.
        fold: Which one, from 1.
        folds: How many.
        val: Share of the images to draw for validation, 0..1.
        seed: Determines folds and draws.
        groups: As for `group_of`; no group is in two splits. Defaults to None.

    Raises:
        ValueError: There are fewer groups than folds, or two images have one name.
    """
    name_group = group_of(groups)
    everything = sorted(pair for part in pairs.values() for pair in part)
    for before, pair in itertools.pairwise(everything):
        if before.name == pair.name:
            raise ValueError(
                f"Folds need a name of its own for each image. Received: {before.image}, "
                f"{pair.image}"
            )
    members = _shuffled_groups(everything, name_group, seed)
    if len(members) < folds:
        raise ValueError(
            f"Expected at least {folds} groups, one per fold. Received: {len(members)}"
        )
    parts: list[list[Pair]] = [[] for _ in range(folds)]
    for group in sorted(members, key=len, reverse=True):  # into the smallest fold so far
        min(parts, key=len).extend(group)
    test = parts.pop(fold - 1)
    rest = [pair for part in parts for pair in part]
    drawn = _draw(sorted(rest), {"val": val}, name_group, seed)
    return {"train": drawn["train"], "val": drawn["val"], "test": sorted(test)}


def check_disjoint(pairs: Pairs, name_group: Callable[[str], str]) -> None:
    """Raises a ValueError if a group has images in two splits."""
    owners: dict[str, tuple[str, str]] = {}
    for split, part in pairs.items():
        for pair in part:
            group = name_group(pair.name)
            first, name = owners.setdefault(group, (split, pair.name))
            if first != split:
                raise ValueError(
                    f"Group {group} is in two splits: {name} in {first}, {pair.name} in {split}. "
                    "What is scored must not look like what is trained on: move one, or have all "
                    "images split anew (data.split.folds), or omit data.split.groups"
                )


def _draw(
    pairs: list[Pair], shares: Mapping[str, float], name_group: Callable[[str], str], seed: int
) -> dict[str, list[Pair]]:
    """Draws groups for each share until it has its images; the others are for training."""
    left = _shuffled_groups(pairs, name_group, seed)
    parts: dict[str, list[Pair]] = {}
    for name, share in shares.items():
        parts[name] = []
        while left and len(parts[name]) < max(share * len(pairs), 1):
            # Too large a group would take images from training that other groups can spare.
            room = share * len(pairs) - len(parts[name])
            fitting = [group for group in left if len(group) <= max(room * 1.5, 1)]
            group = fitting[0] if fitting else min(left, key=len)
            left.remove(group)
            parts[name].extend(group)
    parts["train"] = [pair for group in left for pair in group]
    for name, part in parts.items():
        if not part:
            raise ValueError(
                f"Too few groups of images to split: none is left for {name}. Received: "
                f"{len(pairs)} images"
            )
    return {name: sorted(part) for name, part in parts.items()}


def _shuffled_groups(
    pairs: Sequence[Pair], name_group: Callable[[str], str], seed: int
) -> list[list[Pair]]:
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(name_group(pair.name), []).append(pair)
    ordered = [groups[name] for name in sorted(groups)]
    return [ordered[index] for index in np.random.default_rng(seed).permutation(len(ordered))]


def _read_groups(path: Path) -> dict[str, str]:
    """Reads lines "name,group"."""
    if not path.is_file():
        raise FileNotFoundError(
            f"data.split.groups: expected {PREFIX}, a number of characters, or a file of lines "
            f"name,group. Received: {path}, which does not exist"
        )
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows or any(len(row) != 2 for row in rows):
        raise ValueError(f"{path}: expected lines of two columns, name,group")
    return dict(rows)
