"""Drawn masks of every kind that people have: those that are two classes, and those that are not.

Each kind takes a random generator, and returns a picture, the format and options to save it with
and, for two classes, where the foreground is.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIZES = ((24, 32), (60, 80), (120, 160))


@dataclass
class Drawn:
    """A mask as somebody may have it.

    Attributes:
        picture: As it is saved.
        truth: Where the foreground is; None if that cannot be known.
        kind: "PNG" or "JPEG".
        options: For `save`.
    """

    picture: Image.Image
    truth: np.ndarray | None = None
    kind: str = "PNG"
    options: dict = field(default_factory=dict)


def shapes(rng, fills, count, *, scale=1, size=None, mode="L", background=0) -> Image.Image:
    """Shapes on a background, each of at least a sixth of the smaller side."""
    height, width = size or SIZES[rng.integers(len(SIZES))]
    height, width = height * scale, width * scale
    picture = Image.new(mode, (width, height), background)
    pen = ImageDraw.Draw(picture)
    smallest, largest = min(height, width) // 6, min(height, width) // 2
    for number in range(count):
        across, down = rng.integers(smallest, largest, 2)
        left, top = rng.integers(0, width - across), rng.integers(0, height - down)
        box = [int(side) for side in (left, top, left + across, top + down)]
        fill = fills[number % len(fills)]
        fill = fill if isinstance(fill, tuple) else int(fill)
        pen.rectangle(box, fill) if rng.random() < 0.5 else pen.ellipse(box, fill)
    return picture


def binary(rng, **options) -> Image.Image:
    """A mask of 0 and 255."""
    return shapes(rng, [255, 255, 0], int(rng.integers(1, 5)), **options)


def is_white(picture) -> np.ndarray:
    return np.asarray(picture) > 127


def encoded(picture, **options) -> Image.Image:
    """What a JPEG keeps of a picture."""
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return Image.open(io.BytesIO(file.getvalue())).copy()


def numbers(rng, most=20) -> list[int]:
    """At least two class numbers, not 0."""
    count = int(rng.integers(2, 8))
    return rng.choice(np.arange(1, most + 1), count, replace=False).tolist()


def _plain(rng, mode=None):
    mask = binary(rng)
    return Drawn(mask.convert(mode) if mode else mask, is_white(mask))


def _ones(rng):
    mask = binary(rng)
    return Drawn(mask.point(lambda value: value // 255), is_white(mask))


def _antialiased(rng, **saved):
    mask = None
    while mask is None or len(np.unique(mask)) < 4:  # one grey between may be a third class
        mask = binary(rng, scale=4)
        mask = mask.resize((mask.width // 4, mask.height // 4), Image.Resampling.BOX)
    return Drawn(mask, is_white(mask), **saved)


def _blurred(rng):
    mask = binary(rng, size=(120, 160)).filter(ImageFilter.GaussianBlur(rng.uniform(0.6, 1.2)))
    return Drawn(mask, is_white(mask))


def _enlarged(rng):
    mask = binary(rng)
    mask = mask.resize((mask.width * 3, mask.height * 3), Image.Resampling.BILINEAR)
    return Drawn(mask, is_white(mask))


def _quality(rng) -> dict:
    return {"quality": int(rng.integers(30, 100))}


def _jpeg(rng, mode="L"):
    mask = binary(rng)
    return Drawn(mask.convert(mode), is_white(mask), "JPEG", _quality(rng))


def _from_jpeg(rng):
    mask = binary(rng, size=(60, 80))
    return Drawn(encoded(mask, **_quality(rng)), is_white(mask))


def _opaque(rng):
    mask = binary(rng)
    return Drawn(mask.convert("RGBA"), is_white(mask))


def _black_and_white_palette(rng):
    mask = binary(rng)
    indexed = mask.point(lambda value: value // 255).convert("P")
    indexed.putpalette([0, 0, 0, 255, 255, 255])
    return Drawn(indexed, is_white(mask))


def _sixteen_bits(rng):
    mask = binary(rng)
    return Drawn(Image.fromarray(np.asarray(mask).astype(np.uint16) * 257), is_white(mask))


TWO_CLASSES: dict[str, Callable] = {
    "black and white": _plain,
    "in colour": lambda rng: _plain(rng, "RGB"),
    "one bit": lambda rng: _plain(rng, "1"),
    "0 and 1": _ones,
    "antialiased": _antialiased,
    "blurred": _blurred,
    "enlarged": _enlarged,
    "jpeg": _jpeg,
    "jpeg in colour": lambda rng: _jpeg(rng, "RGB"),
    "png of a jpeg": _from_jpeg,
    "opaque": _opaque,
    "black and white palette": _black_and_white_palette,
    "sixteen bits": _sixteen_bits,
}


def _class_numbers(rng, *more):
    return Drawn(shapes(rng, [*numbers(rng), *more], 9))


def _one_class_and_void(rng):
    return Drawn(shapes(rng, [255], 2, background=int(rng.integers(1, 20))))


def _outlined(rng):
    """Class numbers with a border of 255 between them, as PASCAL VOC has them."""
    values = np.asarray(shapes(rng, numbers(rng), 6)).copy()
    edges = np.zeros(values.shape, bool)
    edges[1:] |= values[1:] != values[:-1]
    edges[:, 1:] |= values[:, 1:] != values[:, :-1]
    values[edges] = 255
    return Drawn(Image.fromarray(values))


def _instances(rng):
    return Drawn(shapes(rng, rng.permutation(np.arange(1, 250))[:60].tolist(), 60))


def _three_greys(rng, **saved):
    return Drawn(shapes(rng, [255, int(rng.integers(60, 200))], 4, size=(60, 80)), **saved)


def _three_soft_greys(rng):
    mask = shapes(rng, [255, int(rng.integers(60, 200))], 4, scale=2, size=(60, 80))
    return Drawn(mask.resize((80, 60), Image.Resampling.BILINEAR))


def _colours(rng, *colours, **saved):
    drawn = [tuple(rng.integers(1, 256, 3).tolist()) for _ in range(3)]
    return Drawn(shapes(rng, list(colours) or drawn, 6, mode="RGB", background=(0, 0, 0)), **saved)


def _red_numbers(rng):
    """Class numbers in the red channel, as CARLA has them."""
    return _colours(rng, *((number, 0, 0) for number in numbers(rng)))


def _shape_in_alpha(rng, mode, white):
    mask = binary(rng)
    picture = Image.new(mode, mask.size, white)
    picture.putalpha(mask)
    return Drawn(picture)


def _palette(rng):
    indexed = shapes(rng, numbers(rng), 6).convert("P")
    indexed.putpalette([0, 0, 0, *rng.integers(1, 256, 765).tolist()])
    return Drawn(indexed)


def _as_jpeg(rng, drawn):
    return Drawn(drawn.picture, kind="JPEG", options=_quality(rng))


def _other_grey(rng):
    return Drawn(shapes(rng, [int(rng.integers(40, 216))], 3))


MORE_THAN_TWO: dict[str, Callable] = {
    "class numbers": _class_numbers,
    "class numbers and void": lambda rng: _class_numbers(rng, 255),
    "one class and void": _one_class_and_void,
    "outlined class numbers": _outlined,
    "instances": _instances,
    "three greys": _three_greys,
    "three soft greys": _three_soft_greys,
    "three greys in a jpeg": lambda rng: _three_greys(rng, kind="JPEG", options=_quality(rng)),
    "class numbers in a jpeg": lambda rng: _as_jpeg(rng, _class_numbers(rng)),
    "class numbers and void in a jpeg": lambda rng: _as_jpeg(rng, _class_numbers(rng, 255)),
    "outlined class numbers in a jpeg": lambda rng: _as_jpeg(rng, _outlined(rng)),
    "colours": _colours,
    "colours of one luma": lambda rng: _colours(rng, (255, 0, 0), (0, 130, 0)),
    "colours in a jpeg": lambda rng: _colours(
        rng, (255, 0, 0), (0, 130, 0), kind="JPEG", options=_quality(rng)
    ),
    "class numbers in red": _red_numbers,
    "shape in alpha": lambda rng: _shape_in_alpha(rng, "RGBA", (255, 255, 255, 255)),
    "shape in alpha, grey": lambda rng: _shape_in_alpha(rng, "LA", (255, 255)),
    "palette": _palette,
    "black and another grey": _other_grey,
}
