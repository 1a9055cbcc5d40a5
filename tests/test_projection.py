"""A trained model with its activations held to k directions: closed forms."""

import keras
import numpy as np
import pytest
from keras import layers as kl

from models import Nano_U
from monitoring.analysis.check import LEVELS
from monitoring.analysis.projection import projection_check
from monitoring.taps.images_tap import ImagesTap
from monitoring.taps.watched import Watched


def low_rank(rank: int) -> keras.Model:
    """A layer of 6 channels that lie in `rank` directions."""
    inputs = keras.Input((4,))
    x = kl.Dense(rank, use_bias=False)(inputs)
    x = kl.Dense(6, bias_initializer="normal", name="wide")(x)
    return keras.Model(inputs, kl.Dense(2)(x))


def closeness(model, x):
    """Returns a score: minus the squared distance from the model as it is."""
    expected = model.predict(x, verbose=0)
    return lambda other: -float(np.square(other.predict(x, verbose=0) - expected).sum())


def check(model, x, width, **options):
    watched = Watched(model, ["wide"])
    measured = ImagesTap(watched).measure(x)
    return projection_check(watched, measured, closeness(model, x), {"wide": width}, **options)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_as_many_directions_as_there_are_lose_nothing(rng, rank):
    x = rng.normal(size=(50, 4)).astype("float32")
    model = low_rank(rank)
    _, whole, rows = check(model, x, rank)
    assert whole == pytest.approx(0, abs=1e-8)
    by_width = {row.directions: row for row in rows if row.probe == "wide"}
    assert by_width[rank].lost == pytest.approx(0, abs=1e-6)
    assert by_width[rank].random < -1e-3
    if rank > 1:
        assert by_width[rank // 2].lost > 1e-3


def test_what_is_lost_is_what_numpy_loses(rng):
    x = rng.normal(size=(50, 4)).astype("float32")
    model = low_rank(4)
    wide = keras.Model(model.input, model.get_layer("wide").output).predict(x, verbose=0)
    _, _, directions = np.linalg.svd(wide - wide.mean(axis=0), full_matrices=False)
    head = model.layers[-1]
    for k in (1, 2):
        held = wide.mean(axis=0) + (wide - wide.mean(axis=0)) @ directions[:k].T @ directions[:k]
        expected = np.square(np.asarray(head(held)) - np.asarray(head(wide))).sum()
        rows = check(model, x, k).rows
        (row,) = [row for row in rows if row.probe == "wide" and row.level == "advised"]
        assert row.lost == pytest.approx(expected, rel=1e-3)


def test_layers_alone_and_all_together_and_nothing_left_behind(rng):
    model = Nano_U((24, 32, 3), enable_probes=True)
    x = rng.uniform(-1, 1, (20, 24, 32, 3)).astype("float32")
    before = model.predict(x, verbose=0)
    watched = Watched(model)
    widths = {"probe_encoder_1": 2, "probe_encoder_3": 6, "probe_bottleneck": 4}
    _, whole, rows = projection_check(
        watched, ImagesTap(watched).measure(x), closeness(model, x), widths, draws=1
    )
    tried = {
        "probe_encoder_1": (1, 2, 3),
        "probe_encoder_3": (3, 6, 11),
        "probe_bottleneck": (2, 4, 10),
        "all": (6, 12, 24),
    }
    assert [(row.probe, row.level, row.directions) for row in rows] == [
        (probe, level, k)
        for probe, ks in tried.items()
        for level, k in zip(LEVELS, ks, strict=True)
    ]
    assert whole == pytest.approx(0, abs=1e-6)
    assert not any("call" in vars(layer) for layer in model.layers)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)


def test_channels_first_and_a_seed(rng):
    inputs = keras.Input((3, 5, 4))
    mix = kl.Permute((3, 1, 2), name="wide")(kl.Dense(6)(kl.Permute((2, 3, 1))(inputs)))
    model = keras.Model(inputs, kl.Flatten()(mix))
    x = rng.normal(size=(30, 3, 5, 4)).astype("float32")
    watched = Watched(model, ["wide"], "channels_first")
    measured = ImagesTap(watched).measure(x)
    scores = [
        projection_check(watched, measured, closeness(model, x), {"wide": 3}, seed=seed)
        for seed in (0, 0, 1)
    ]
    rows = scores[0].rows
    assert rows[1].lost == pytest.approx(0, abs=1e-5)  # 3 inputs make 3 directions
    assert scores[0] == scores[1] != scores[2]


def test_a_width_that_is_none_is_refused(rng):
    x = rng.normal(size=(50, 4)).astype("float32")
    with pytest.raises(ValueError, match="Expected a width of 1 to 6 for 'wide'. Received: 7"):
        check(low_rank(2), x, 7)


def test_no_width_to_try_gives_the_score_alone(rng):
    x = rng.normal(size=(50, 4)).astype("float32")
    model = low_rank(2)
    check = projection_check(Watched(model, ["wide"]), {}, closeness(model, x), {}, score="near")
    assert (check.score, list(check.rows)) == ("near", [])
    assert check.whole == pytest.approx(0, abs=1e-8)
