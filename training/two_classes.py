"""Whether grey values are a mask of two classes, with soft edges or the noise of JPEG around both.

A picture of class numbers is piecewise constant: most pixels of a value lie in 2x2 squares of
it. The noise of JPEG and soft edges are not, and they lie along the border between the classes.
"""

from dataclasses import dataclass

import numpy as np

DARK, BRIGHT = 31, 224  # soft edges and noise end in values up to, or from, these
FEW = 16  # with more values than these, a mask may have noise
BLOCK = 8  # pixels; JPEG's noise stays in the 8x8 block that has an edge
NOISE = 16  # grey levels around black and white in which most noise lies
FLAT = 0.5  # fraction of a value's pixels that lie in 2x2 squares of it
LEVEL = 24  # grey levels; a grey area varies by less over 3x3 pixels, an edge by more
ROUNDED = 3  # grey levels by which JPEG may move all of black or white
REST = 0.12  # fraction of noise and soft edges that may be far from the border
STRAY = 0.05  # fraction of the pixels of an edge that may differ from a rule
TIPS = 0.4  # fraction of the greys that may be far from white, as at the tip of a thin shape
RARE = 0.35  # fraction of noise that may be flat


@dataclass(frozen=True)
class TwoClasses:
    """A mask that is understood.

    Attributes:
        labels: Where the brighter class is, bool, the shape of the values.
        dark: The value of the darker class.
        bright: The value of the brighter class: 1, or 255 for whatever is nearly white.
        soft: Whether there are other values, of soft edges or of noise.
    """

    labels: np.ndarray
    dark: int
    bright: int
    soft: bool


def two_classes(values: np.ndarray, *, lossy: bool) -> TwoClasses | None:
    """Returns the two classes of a mask; None if its values can mean something else.

    Args:
        values: (height, width), integers, 0..65535.
        lossy: Whether they come from a JPEG.

    Example:
        >>> two_classes(np.array([[0, 255]]), lossy=False).labels.tolist()
        [[False, True]]
        >>> two_classes(np.array([[0, 1, 255]]), lossy=False) is None
        True
    """
    distinct = np.unique(values)
    if len(distinct) and distinct[-1] > 255:
        return None
    if set(distinct) <= {0, 1}:
        return TwoClasses(values == 1, 0, 1, soft=False)
    if len(distinct) <= 2:
        return _flat(values, distinct, lossy)
    return _soft(values, distinct, lossy)


def _flat(values: np.ndarray, distinct: np.ndarray, lossy: bool) -> TwoClasses | None:
    """Reads a mask of one or two values, not both of them 0 or 1."""
    if len(distinct) == 1:
        noise = ROUNDED if lossy else 0
        if noise < distinct[0] < 255 - noise:
            return None
        return TwoClasses(values > 127, 0, 255, soft=False)
    dark, bright = distinct
    if dark > DARK or bright < BRIGHT or _has_void(dark, bright):
        return None
    return TwoClasses(values == bright, int(dark), 255, soft=False)


def _has_void(dark: int, bright: int) -> bool:
    """Returns whether 255 may stand for what is not labelled, and the other value for a class."""
    return dark > 0 and bright == 255


def _soft(values: np.ndarray, distinct: np.ndarray, lossy: bool) -> TwoClasses | None:
    """Reads a mask of three values or more."""
    dark, bright = values <= DARK, values >= BRIGHT
    if not (dark.any() and bright.any()):
        return None
    count = np.bincount(values.ravel(), minlength=256)
    black, white = int(count[: DARK + 1].argmax()), BRIGHT + int(count[BRIGHT:].argmax())
    noisy = lossy or len(distinct) > FEW
    if _has_void(black, white) and not (noisy and black <= ROUNDED):
        return None
    others = (values != black) & (values != white)
    at_border = near(dark, BLOCK) & near(bright, BLOCK)
    areas = others & _flat_values(values)[values]
    if noisy:
        areas &= ~(((values <= ROUNDED) | (values >= 255 - ROUNDED)) & near(at_border, BLOCK // 2))
    if areas.any() and not _is_noise(values, areas, others, at_border):
        return None
    middle = ~dark & ~bright
    reach = max(4, max(values.shape) // 32)
    along_border = near(dark, reach) & near(bright, reach)
    lowest, highest = _lowest(values), _highest(values)
    # Noise around black is cut off at black, so that an area of it comes down to black.
    raised = (lowest > black + ROUNDED) & (highest <= DARK)
    lowered = (highest < white - ROUNDED) & (lowest >= BRIGHT)
    if (raised | lowered).sum() > STRAY * others.sum():
        return None
    # White lines alone may be the border between classes, as PASCAL VOC draws it.
    if noisy and (lowest > 127).sum() <= STRAY * (values > 127).sum():
        return None
    level = middle & (highest - lowest < LEVEL)
    if level.sum() > STRAY * middle.sum() or (middle & ~along_border).sum() > TIPS * middle.sum():
        return None
    for end in (dark, bright):
        alone = middle & ~_connected(end, middle, 4 * reach)
        if (alone & _in_square(alone)).sum() > STRAY * middle.sum():
            return None
    if (others & ~middle & ~at_border).sum() > REST * others.sum():
        return None
    if not noisy and not _between(values, distinct, black, white):
        return None
    return TwoClasses(values > 127, black, 255, soft=True)


def _flat_values(values: np.ndarray) -> np.ndarray:
    """Returns which of 256 values form areas, (256,), bool."""
    count = np.bincount(values.ravel(), minlength=256)
    squares = np.bincount(values[_in_square(values)], minlength=256)
    return (count >= 4) & (squares >= FLAT * count)


def _in_square(values: np.ndarray) -> np.ndarray:
    """Returns which pixels lie in 2x2 squares of one value, bool."""
    same = (
        (values[:-1, :-1] == values[1:, 1:])
        & (values[:-1, :-1] == values[1:, :-1])
        & (values[:-1, :-1] == values[:-1, 1:])
    )
    inside = np.zeros(values.shape, bool)
    for rows in (slice(None, -1), slice(1, None)):
        for columns in (slice(None, -1), slice(1, None)):
            inside[rows, columns] |= same
    return inside


def _is_noise(
    values: np.ndarray, areas: np.ndarray, others: np.ndarray, at_border: np.ndarray
) -> bool:
    """Returns whether areas of a value of their own may be noise.

    Blocks of noise are flat now and then, near black or white, and rarely.
    """
    plausible = (values <= NOISE) | (values >= 255 - NOISE)
    return bool(areas.sum() <= RARE * others.sum() and (plausible & at_border)[areas].all())


def _between(values: np.ndarray, distinct: np.ndarray, black: int, white: int) -> bool:
    """Returns whether each value lies between its neighbours', as along a soft edge.

    Where there are values near black and values near white, they are noise and need not.
    """
    others = distinct[(distinct != black) & (distinct != white)]
    noise = (others <= NOISE, others >= 255 - NOISE)
    if all(part.any() for part in noise):
        others = others[~(noise[0] | noise[1])]
    elif len(others) == 1:
        return False
    inside = (values > _lowest(values)) & (values < _highest(values))
    count = np.bincount(values.ravel(), minlength=256)
    between = np.bincount(values[inside], minlength=256)
    return all(5 * between[value] >= count[value] for value in others)


def _connected(end: np.ndarray, middle: np.ndarray, steps: int) -> np.ndarray:
    """Returns which pixels of `middle` are connected with `end` by others of it, bool."""
    found = end
    for _ in range(steps):
        grown = end | (near(found, 1) & middle)
        if (grown == found).all():
            break
        found = grown
    return found & middle


def near(pixels: np.ndarray, distance: int) -> np.ndarray:
    """Returns which pixels lie within some rows and columns of one of `pixels`, bool.

    Example:
        >>> near(np.array([[True, False, False]]), 1).tolist()
        [[True, True, False]]
    """
    for axis in (0, 1):
        sums = np.cumsum(np.insert(pixels.astype(int), 0, 0, axis=axis), axis=axis)
        size = pixels.shape[axis]
        last = np.minimum(np.arange(size) + distance + 1, size)
        first = np.maximum(np.arange(size) - distance, 0)
        pixels = np.take(sums, last, axis=axis) > np.take(sums, first, axis=axis)
    return pixels


def _lowest(values: np.ndarray) -> np.ndarray:
    return _over_squares(values, np.minimum)


def _highest(values: np.ndarray) -> np.ndarray:
    return _over_squares(values, np.maximum)


def _over_squares(values: np.ndarray, choose: np.ufunc) -> np.ndarray:
    """Returns the minimum or maximum over 3x3 pixels around each."""
    for axis in (0, 1):
        rows = np.moveaxis(values, axis, 0)
        found = rows.copy()
        found[1:] = choose(found[1:], rows[:-1])
        found[:-1] = choose(found[:-1], rows[1:])
        values = np.moveaxis(found, 0, axis)
    return values
