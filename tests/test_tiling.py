"""Tiles: nothing lost, nothing changed, and no seam where the receptive field allows none."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers as kl

from models import BU_Net, Nano_U
from training.receptive_field import Geometry, geometry
from training.tiling import Tiling, cut, merge, plan_axis, weights


@st.composite
def axes(draw):
    stride, tile = draw(st.integers(1, 6)), draw(st.integers(1, 20))
    tile = max(tile, stride)
    overlap = draw(st.integers(0, tile - stride))
    margin = draw(st.one_of(st.none(), st.integers(0, 12)))
    return plan_axis(draw(st.integers(1, 45)), tile, overlap, stride=stride, margin=margin), overlap


@settings(max_examples=200, deadline=None)
@given(axes(), axes(), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_the_tiles_of_an_array_give_the_array(rows, columns, channels, seed):
    tiling = Tiling(rows[0], columns[0])
    shape = (tiling.rows.size, tiling.columns.size, channels)
    array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    tiles = list(cut(array, tiling))
    assert len(tiles) == len(tiling)
    assert {tile.shape for tile in tiles} == {(rows[0].tile, columns[0].tile, channels)}
    assert np.array_equal(merge(tiles, tiling), array)


@settings(max_examples=200, deadline=None)
@given(axes())
def test_each_pixel_is_covered_on_a_grid_of_strides(drawn):
    axis, overlap = drawn
    covered = np.zeros(axis.padded, int)
    for start in axis.starts:
        covered[start : start + axis.tile] += 1
    assert covered.min() >= 1 and axis.padded >= axis.size
    pairs = list(zip(axis.starts, axis.starts[1:], strict=False))
    assert all(first < second <= first + axis.tile - overlap for first, second in pairs)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 5), st.integers(1, 60))
def test_no_pixel_of_a_margin_is_used_where_tiles_overlap_by_two(margin, stride, more, size):
    overlap = 2 * margin
    tile = overlap + stride + more
    axis = plan_axis(size, tile, overlap, stride=stride, margin=margin)
    assert all(start % stride == 0 for start in axis.starts)
    tiles = []
    for start in axis.starts:
        affected = np.zeros((tile, 1, 1), np.float32)
        if start > 0:
            affected[:margin] = 1
        if start + tile < axis.padded:
            affected[tile - margin :] = 1
        tiles.append(affected)
    assert not merge(tiles, Tiling(axis, plan_axis(1, 1, 0))).any()


def test_tiles_fade_into_each_other_where_they_must():
    tiling = Tiling(plan_axis(30, 20, 10, margin=8), plan_axis(4, 4, 0))
    tiles = [np.zeros((20, 4, 1), np.float32), np.ones((20, 4, 1), np.float32)]
    profile = merge(tiles, tiling)[:, 0, 0]
    assert (np.diff(profile) >= 0).all() and np.diff(profile).max() < 0.17
    assert profile[9] == 0 and profile[20] == 1
    assert weights(10, 8) + weights(10, 8)[::-1] == pytest.approx(1)


@pytest.mark.parametrize("overlap", [-1, 17, 40])
def test_tiles_must_move_on(overlap):
    with pytest.raises(ValueError, match="overlap of 0 to 16 pixels: tiles have 20.*of 4"):
        plan_axis(50, 20, overlap, stride=4)


def small(shape, name="chain", seed=0):
    """A network with pooling and a short reach, whose weights are all of one sign or not small."""
    keras.utils.set_random_seed(seed)
    inputs = x = keras.Input(shape)
    if name == "chain":
        x = kl.Conv2D(4, 3, padding="same", activation="relu")(x)
        x = kl.MaxPooling2D((3, 2))(x)
        x = kl.DepthwiseConv2D(3, padding="same")(x)
        x = kl.UpSampling2D((3, 2))(x)
    elif name == "strided":
        skip = x
        x = kl.Conv2D(4, 3, strides=2, padding="same", activation="gelu")(x)
        x = kl.BatchNormalization()(kl.Conv2D(4, 3, dilation_rate=2, padding="same")(x))
        x = kl.Conv2DTranspose(4, 3, strides=2, padding="same")(x)
        x = kl.Concatenate()([x, kl.Conv2D(2, 5, padding="same")(skip)])
    elif name == "bilinear":
        x = kl.SeparableConv2D(4, 3, padding="same")(x)
        x = kl.AveragePooling2D(2, padding="same")(x)
        x = kl.UpSampling2D(2, interpolation="bilinear")(x)
        x = keras.ops.relu(x) + kl.Conv2D(4, 1)(inputs)
    elif name == "nested":
        part = keras.Input((None, None, shape[-1]))
        inner = keras.Model(part, kl.Conv2D(3, 3, padding="same")(part))
        x = kl.UpSampling2D(2)(inner(kl.MaxPooling2D(2)(x)))
        x = kl.Cropping2D(1)(kl.ZeroPadding2D(1)(x))
    return keras.Model(inputs, kl.Conv2D(2, 3, padding="same")(x))


NETWORKS = ("chain", "strided", "bilinear", "nested")


def at_size(model, shape, name):
    """The same network for images of another size."""
    other = small(shape, name)
    other.set_weights(model.get_weights())
    return other


def seen_radius(model, rng):
    """The farthest pixel that changes an output, by trying; rows and columns."""
    height, width, channels = model.input_shape[1:]
    farthest = [0, 0]
    image = rng.normal(size=(1, height, width, channels)).astype(np.float32)
    before = model.predict_on_batch(image)
    for y in range(height // 2 - 6, height // 2 + 6):
        for x in range(width // 2 - 6, width // 2 + 6):
            changed = image.copy()
            changed[0, y, x] += 1e3 * (1 if (y + x) % 2 else -1)
            ys, xs = np.nonzero((model.predict_on_batch(changed) != before).any(-1)[0])
            distances = (abs(ys - y), abs(xs - x))
            farthest = [
                int(each.max(initial=far)) for each, far in zip(distances, farthest, strict=True)
            ]
    return farthest


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chain", Geometry((3, 2), (7, 5))),
        ("strided", Geometry((2, 2), (9, 9))),
        ("bilinear", Geometry((2, 2), (5, 5))),
        ("nested", Geometry((2, 2), (6, 6))),  # 4, but that the inner network tells no size
    ],
)
def test_the_receptive_field_holds_all_that_a_pixel_depends_on(rng, name, expected):
    model = small((36, 36, 3), name)
    found = geometry(model)
    assert found == expected
    seen = seen_radius(model, rng)
    assert all(0 <= radius - far <= 2 for radius, far in zip(found.radius, seen, strict=True)), seen


def test_networks_that_see_the_whole_image_have_no_radius():
    inputs = keras.Input((24, 32, 3))
    x = kl.Conv2D(4, 3, strides=4, padding="same")(inputs)
    x = kl.Multiply()([x, kl.Reshape((1, 1, 4))(kl.GlobalAveragePooling2D()(x))])
    model = keras.Model(inputs, kl.UpSampling2D(4)(x))
    assert geometry(model) == Geometry((4, 4), None)
    grouped = keras.Model(inputs, kl.GroupNormalization(1)(inputs))
    assert geometry(grouped) == Geometry((1, 1), None)


def test_the_zoo_is_fully_convolutional():
    assert geometry(Nano_U((60, 80, 3))).stride == (12, 8)
    assert geometry(BU_Net((61, 83, 3))).stride == (8, 8)
    # two blocks, a pooling, two blocks of half the size, a repetition, two blocks
    assert geometry(Nano_U((60, 80, 3), (4,), 4)).radius == (2 + 1 + 2 * 2 + 2,) * 2
    assert all(radius > 30 for radius in geometry(BU_Net((60, 80, 3))).radius)


def predicted_in_tiles(model, image, overlap):
    seen = geometry(model)
    axes = [
        plan_axis(image.shape[i], model.input_shape[1 + i], overlap[i], stride=seen.stride[i],
                  margin=seen.radius[i])
        for i in (0, 1)
    ]  # fmt: skip
    tiling = Tiling(*axes)
    tiles = (model.predict_on_batch(tile[None])[0] for tile in cut(image, tiling))
    return merge(tiles, tiling), tiling


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(90, 96), (86, 101)])
def test_there_is_no_seam(rng, name, size):
    model = small((36, 36, 3), name)
    image = rng.normal(size=(*size, 3)).astype(np.float32)
    merged, tiling = predicted_in_tiles(model, image, [2 * r for r in geometry(model).radius])
    assert len(tiling) >= 9
    rows, columns = tiling.rows.padded, tiling.columns.padded
    padded = np.pad(image, ((0, rows - size[0]), (0, columns - size[1]), (0, 0)), mode="reflect")
    whole = at_size(model, padded.shape, name).predict_on_batch(padded[None])[0]
    whole = whole[: size[0], : size[1]]
    assert np.abs(merged - whole).max() <= 1e-5 * np.abs(whole).max()


def test_too_small_an_overlap_is_seen_and_fading_softens_it(rng):
    model = small((36, 36, 3), "strided")
    image = rng.normal(size=(90, 90, 3)).astype(np.float32)
    whole = at_size(model, image.shape, "strided").predict_on_batch(image[None])[0]
    worst = [np.abs(predicted_in_tiles(model, image, (n, n))[0] - whole).max() for n in (0, 8, 18)]
    assert worst[0] > worst[1] > 100 * worst[2]
