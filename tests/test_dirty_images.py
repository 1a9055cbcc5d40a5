"""Images as people have them: read as a viewer shows them, or refused in a line that names them."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from training.class_masks import IGNORED
from training.images import read_images, read_split

SIZE = (24, 32)
EXAMPLES = int(os.environ.get("PROBE_ZOO_EXAMPLES", "200"))


def picture(seed: int = 0) -> Image.Image:
    """A picture whose corners differ, so that turning it shows."""
    values = np.random.default_rng(seed).integers(0, 40, (24, 32, 3), np.uint8)
    values[:12, :16, 0] = 250
    return Image.fromarray(values)


def header_of(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


READABLE = {
    "rgb.png": encoded(picture(), "PNG"),
    "palette.png": encoded(picture().quantize(256), "PNG"),
    "palette and transparency.png": encoded(picture().quantize(255), "PNG", transparency=3),
    "alpha.png": encoded(picture().convert("RGBA"), "PNG"),
    "grey.png": encoded(picture().convert("L"), "PNG"),
    "grey and alpha.png": encoded(picture().convert("LA"), "PNG"),
    "one bit.png": encoded(picture().convert("1"), "PNG"),
    "baseline.jpg": encoded(picture(), "JPEG", quality=95),
    "progressive.JPG": encoded(picture(), "JPEG", progressive=True),
    "cmyk.jpeg": encoded(picture().convert("CMYK"), "JPEG"),
    "Größe ☃ 'quoted' %s.png": encoded(picture(), "PNG"),
}
REFUSED = {
    "sixteen bits.png": encoded(Image.fromarray(np.full((24, 32), 300, np.uint16)), "PNG"),
    "nothing.png": b"",
    "a text.png": b"once upon a time",
    "zeros.png": bytes(1000),
    "half.png": READABLE["rgb.png"][: len(READABLE["rgb.png"]) // 2],
    "half.jpg": READABLE["baseline.jpg"][: len(READABLE["baseline.jpg"]) // 2],
    "huge.png": header_of(40_000, 40_000),
    "large.png": header_of(9_000, 9_000),
    "gif.png": b"GIF89a" + bytes(3),
}


@pytest.mark.parametrize("name", READABLE)
def test_what_a_viewer_shows_is_read(tmp_path, name):
    (tmp_path / name).write_bytes(READABLE[name])
    (image,) = read_images(tmp_path, SIZE)
    assert image.shape == (*SIZE, 3) and image.dtype == np.uint8
    corner = image[2:8, 2:12].astype(float).mean()
    assert corner > image[14:, 18:].astype(float).mean() + 20


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_cannot_be_read_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(REFUSED[name])
    with pytest.raises(ValueError) as raised:
        read_images(tmp_path, SIZE)
    assert str(tmp_path / name) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_turned_camera_is_turned_back(tmp_path, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    upright = picture().resize((32, 24))
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(undo[turn]) if turn > 1 else upright
    stored.save(tmp_path / "turned.png", exif=exif)
    (image,) = read_images(tmp_path, SIZE)
    np.testing.assert_array_equal(image, np.asarray(upright))


def test_links_are_followed_and_a_broken_one_is_named(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.png").write_bytes(READABLE["rgb.png"])
    (tmp_path / "links").symlink_to(tmp_path / "there")
    assert len(read_images(tmp_path / "links", SIZE)) == 1
    (tmp_path / "there" / "b.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match="b.png cannot be read"):
        read_images(tmp_path / "there", SIZE)


def masked(folder, values) -> None:
    for name in ("img", "mask"):
        (folder / name).mkdir()
    (folder / "img" / "a.png").write_bytes(READABLE["rgb.png"])
    Image.fromarray(np.resize(np.array(values, np.uint8), (24, 32))).save(folder / "mask" / "a.png")


def test_a_mask_of_three_values_is_refused_by_its_values(tmp_path):
    masked(tmp_path, [0, 128, 255])
    with pytest.raises(ValueError, match="a.png has the values 0, 128, 255: expected two"):
        read_split(tmp_path, SIZE)


def test_a_mask_of_class_numbers_is_refused_by_its_values(tmp_path):
    masked(tmp_path, [0, 1, 2])
    with pytest.raises(ValueError, match="a.png has the values 0, 1, 2: expected two"):
        read_split(tmp_path, SIZE)


@pytest.mark.parametrize("values", [[0, 255], [3, 250]])
def test_two_values_are_masks(tmp_path, values):
    masked(tmp_path, list(values))
    split = read_split(tmp_path, SIZE)
    assert set(np.unique(split.masks)) == {0, 1}


@pytest.mark.parametrize("ignored", [0, 128, 255])
def test_a_value_to_ignore_is_neither_foreground_nor_background(tmp_path, ignored):
    masked(tmp_path, [20, ignored, 250])
    split = read_split(tmp_path, SIZE, ignore_value=ignored)
    assert split.masks[0, 0, :6, 0].tolist() == [0, IGNORED, 1] * 2


@pytest.mark.parametrize("values", [[0, 64, 128, 255], range(256)])
def test_what_is_besides_the_value_to_ignore_must_be_dark_or_bright(tmp_path, values):
    masked(tmp_path, list(values))
    with pytest.raises(ValueError, match="expected two besides 128, which is ignored"):
        read_split(tmp_path, SIZE, ignore_value=128)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(sorted(READABLE)),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6)), max_size=4),
    length=st.floats(0.05, 1),
)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_read_or_refused_and_nothing_else(tmp_path, name, cuts, length):
    content = bytearray(READABLE[name])
    for place, junk in cuts:
        start = int(place * len(content))
        content[start : start + len(junk)] = junk
    path = tmp_path / "damaged.png"
    path.write_bytes(bytes(content[: int(length * len(content))]))
    try:
        images = read_images(tmp_path, SIZE)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert images.shape == (1, *SIZE, 3)


def test_each_folder_is_listed_once(tmp_path, monkeypatch):
    masked(tmp_path, [20, 250])
    listed = []
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: (listed.append(path.name), iterdir(path))[1])
    read_split(tmp_path, SIZE)
    assert sorted(listed) == ["img", "mask"]
