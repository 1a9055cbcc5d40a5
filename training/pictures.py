"""Image files, opened whole or refused in words that name them."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 50_000_000  # 150 MB once decoded to RGB


def open_picture(path: Path, modes: tuple[str, ...]) -> "Image.Image":
    """Decodes a whole file, upright as viewers show it.

    Args:
        path: The file.
        modes: The modes of Pillow that can be read.

    Returns:
        The picture; `info["lossy"]` says whether the file keeps no exact values.

    Raises:
        ValueError: It cannot be read to its end, is too large, or has another mode.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels are too many")
            if image.mode in modes:
                lossy = image.format == "JPEG"
                image.load()
                upright = ImageOps.exif_transpose(image)
                upright.info["lossy"] = lossy
                return upright
            received = image.mode
    # What Pillow's decoders raise on damaged files.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    raise ValueError(
        f"{path} has Pillow's mode {received}, where {', '.join(modes)} can be read: convert it to "
        "8 bits of grey or RGB"
    )
