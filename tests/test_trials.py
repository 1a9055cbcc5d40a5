"""Trials of single groups: what leaving out some of their channels really costs."""

import keras
import numpy as np
import pytest
from keras import layers as kl
from narrow_models import concatenated, grouped, residual_with_squeeze_and_excite
from test_channel_groups import draw_inputs, draw_weights
from test_narrow import draw_images, nano_u

from models import narrow
from models.cost import model_cost
from models.narrowing.cut import cut
from models.narrowing.forms import ReaderForms
from models.narrowing.groups import plan_groups
from models.narrowing.trials import MOST, try_groups
from monitoring import InputMoments


def transposed():
    x = inputs = keras.Input((8, 6, 3), name="image")
    for width in (6, 5):
        x = kl.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(x)
        x = kl.ReLU()(kl.BatchNormalization()(x))
    for width in (5, 2):
        x = kl.Conv2DTranspose(width, 3, strides=2, padding="same")(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(nano_u, marks=pytest.mark.slow),
        transposed,
        grouped,
        concatenated,
        residual_with_squeeze_and_excite,
    ],
    ids=lambda build: build.__name__,
)
@pytest.mark.parametrize("elements", [None, 1])  # held in memory at a time
def test_a_silenced_group_costs_what_the_cut_network_loses(build, elements, monkeypatch):
    if elements:
        monkeypatch.setattr("models.narrowing.forms.ELEMENTS", elements)
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = build()
    if build is not nano_u:
        draw_weights(model, rng)
    images = draw_images() if build is nano_u else np.concatenate([draw_inputs(model, rng)] * 4)
    targets = rng.normal(size=model(images).shape).astype("float32")
    moments = InputMoments(images, targets, "mse", positions=8)
    plan = plan_groups(model)
    forms = ReaderForms(plan, moments)
    dropped = [
        None if group.fixed else np.arange(0, group.channels - 1, 2) for group in plan.groups
    ]
    before = model.get_weights()
    trials = try_groups(plan, forms, dropped, moments)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert trials.whole == pytest.approx(loss_of(model, images, targets), rel=1e-5)
    tried = 0
    for index, channels in enumerate(dropped):
        if channels is None:
            assert trials.losses[index] == trials.whole
            continue
        kept = [np.arange(group.channels) for group in plan.groups]
        kept[index] = np.setdiff1d(kept[index], channels)
        narrower = cut(plan, kept)
        forms.resolve(narrower)
        expected = loss_of(narrower.model, images, targets)
        assert trials.losses[index] == pytest.approx(expected, rel=1e-4)
        tried += trials.losses[index] != trials.whole
    assert tried > 1


def loss_of(model, images, targets) -> float:
    outputs = model.predict(images[:MOST], verbose=0)
    return float(np.square(outputs - targets[:MOST]).mean(dtype=np.float64))


class Skewed(InputMoments):
    """Gradients that are off by a factor, another one at each layer."""

    exponents = (0.0,)

    def gradients(self, model, layers):
        found = super().gradients(model, layers)
        return [
            10.0 ** self.exponents[number % len(self.exponents)] * each
            for number, each in enumerate(found)
        ]


def bottles():
    """Convolutions of 1 x 1, some wider than what they carry."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((12, 16, 3))
    for width in (12, 6, 12, 8, 10, 6):
        x = kl.ReLU()(kl.Conv2D(width, 1, bias_initializer="random_normal")(x))
    return keras.Model(inputs, kl.Conv2D(2, 1)(x))


def test_widths_follow_the_loss_where_estimates_are_off_by_a_factor(monkeypatch):
    model, images = bottles(), draw_images(48)
    noise = np.random.default_rng(0).normal(size=(48, 12, 16, 2))
    targets = (model.predict(images, verbose=0) + 0.1 * noise).astype(
        "float32"
    )  # nothing fits better
    budget = {"macs": int(0.7 * model_cost(model).macs)}

    def widths(*exponents):
        moments = Skewed(images, targets, "mse")
        moments.exponents = exponents
        groups = narrow(model, moments, budget).groups
        return np.array([group.after for group in groups])

    expected, found = widths(0.0), widths(0.9, -1.5, -0.5)
    monkeypatch.setattr("models.narrowing.rounds.try_groups", lambda *_: None)
    misled = widths(0.9, -1.5, -0.5)
    assert 3 * np.abs(found - expected).sum() <= np.abs(misled - expected).sum()


class Spying(InputMoments):
    """Remembers which networks' losses are asked for."""

    def mean_loss(self, model, images):
        loss = super().mean_loss(model, images)
        self.asked = [*getattr(self, "asked", []), loss]
        return loss


def test_nothing_is_tried_for_nothing():
    model, images = bottles(), draw_images()
    budget = {"macs": int(0.7 * model_cost(model).macs)}
    without = Spying(images)
    assert narrow(model, without, budget).rounds > 1 and without.asked == [None]
    free = [group.name for group in plan_groups(model).groups if not group.fixed]
    moments = Spying(images, images[..., :2], "mse")
    small = narrow(model, moments, budget, keep=free[1:3])
    tried = len(free) - 2
    assert len(moments.asked) == small.rounds * (1 + tried)
    widths = {group.name: (group.before, group.after) for group in small.groups}
    assert all(before == after for before, after in (widths[name] for name in free[1:3]))


def test_the_mean_loss_of_the_first_images():
    inputs = keras.Input(batch_shape=(20, 4))
    model = keras.Model(inputs, kl.Dense(3)(inputs))
    x, targets = (draw_images(60, size=(2, 2, 3)).reshape(60, -1)[:, :side] for side in (4, 3))
    errors = np.square(model.predict(x, batch_size=20, verbose=0) - targets).mean(-1)
    moments = InputMoments(x, targets, "mse")
    for count in (7, 33, 60, 100):
        expected = errors[:count].mean(dtype=np.float64)
        assert moments.mean_loss(model, count) == pytest.approx(expected, rel=1e-5)
    assert InputMoments(x).mean_loss(model, 7) is None


def test_a_network_whose_loss_is_no_number_is_said_to_be():
    model, images = bottles(), draw_images()
    moments = InputMoments(images, images[..., :2], "mse")
    forms = ReaderForms(plan_groups(model), moments)
    model.layers[-1].bias.assign([np.nan, 0])
    with pytest.raises(ValueError, match="Expected a finite loss of 'functional.*: nan"):
        try_groups(plan_groups(model), forms, [], moments)
