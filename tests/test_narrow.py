"""Narrowing: exact where nothing is lost, equal to the wide network without the dropped rows."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers as kl
from narrow_models import MODELS, chain
from test_channel_groups import draw_inputs, draw_weights

from models import BU_Net, Nano_U, narrow
from models.cost import model_cost
from models.narrowing.cut import cut, kept_numbers
from models.narrowing.groups import plan_groups
from models.narrowing.kernels import assign_matrix, kernel_matrix
from models.narrowing.ladder import narrow_ladder, uniform_widths
from monitoring import InputMoments

SIZE = (12, 16, 3)
LOSS = keras.losses.BinaryCrossentropy(from_logits=True)


def draw_images(count=24, seed=0, size=SIZE):
    rng = np.random.default_rng(seed)
    smooth = rng.normal(size=(count, size[0] // 2, size[1] // 2, size[2]))
    images = np.kron(smooth, np.ones((1, 2, 2, 1))) + 0.3 * rng.normal(size=(count, *size))
    return images.astype("float32")


def draw_masks(images):
    return (images.mean(-1, keepdims=True) > 0).astype("float32")


def nano_u(**options):
    return alive(Nano_U(SIZE, (6, 8), 8, **options))


def bu_net():
    return alive(BU_Net(SIZE, (5, 6), 7))


def alive(model):
    """Gives a network scales, offsets, and statistics near those of the images, but not theirs."""
    rng, images = np.random.default_rng(0), draw_images(16, seed=2)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if "gamma" in weight.path or "beta" in weight.path:
            weight.assign(
                rng.uniform(*((0.8, 1.2) if "gamma" in weight.path else (-0.3, 0.5)), shape)
            )
        elif "kernel" in weight.path:
            fan = shape[0] * shape[1] * (1 if "depthwise" in weight.path else shape[2])
            weight.assign(rng.normal(size=shape) * (2 / fan) ** 0.5)
    norms = [each for each in model.layers if isinstance(each, kl.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.2
    for _ in range(3):
        model(images, training=True)
    for weight in model.non_trainable_weights:
        weight.assign(weight.numpy() * rng.uniform(0.8, 1.2, tuple(weight.shape)))
    return model


def widened(model, small):
    """Writes the narrow weights back into a copy of the wide model; dropped rows are zero."""
    plan = plan_groups(model)
    keep = kept_numbers(plan, [np.array(group.kept) for group in small.groups])
    wide = keras.models.clone_model(model)
    wide.set_weights(model.get_weights())
    axes = {}
    for axis in plan.trace.axes.values():
        axes.setdefault(id(axis.variable), {})[axis.axis] = np.flatnonzero(keep[axis.numbers])
    for original, target, source in zip(
        model.variables, wide.variables, small.model.variables, strict=True
    ):
        value = original.numpy()
        places = axes.get(id(original), {})
        index = np.ix_(*(places.get(n, np.arange(side)) for n, side in enumerate(value.shape)))
        value[index] = source.numpy()
        target.assign(value)
    layers = dict(zip(map(id, model._flatten_layers()), wide._flatten_layers(), strict=True))
    for reader in plan.trace.readers.values():
        layer = layers[id(reader.layer)]
        assign_matrix(layer, kernel_matrix(layer) * keep[reader.numbers][..., None])
    return wide


@pytest.mark.parametrize("build", [nano_u, pytest.param(bu_net, marks=pytest.mark.slow)])
def test_the_narrow_network_is_the_wide_one_with_the_dropped_rows_zeroed(build):
    model, images = build(), draw_images()
    before = [w.numpy() for w in model.weights]
    macs = model_cost(model).macs
    small = narrow(model, InputMoments(images, draw_masks(images), LOSS), {"macs": macs // 2})
    assert small.cost == model_cost(small.model) and small.weighted
    assert 0.4 * macs < small.cost.macs <= macs // 2
    outputs = small.model.predict(images, verbose=0)
    wide = widened(model, small).predict(images, verbose=0)
    np.testing.assert_allclose(outputs, wide, rtol=1e-5, atol=1e-5 * np.abs(wide).max())
    assert all((a == w.numpy()).all() for a, w in zip(before, model.weights, strict=True))


def test_all_channels_kept_changes_nothing():
    model, images = nano_u(), draw_images()
    widths = {"encoder_1_1_pointwise": 6}
    small = narrow(model, InputMoments(images), widths=widths)
    found, expected = (m.predict(images, verbose=0) for m in (small.model, model))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def plant(model, source, target):
    """Makes channel `target` of the first group a copy of `source`, and kills channel 0."""
    for name in ("encoder_1_1_pointwise", "encoder_1_1_pointwise_norm"):
        layer = model.get_layer(name)
        for weight in layer.weights:
            value = weight.numpy()
            value[..., target] = value[..., source]
            if "gamma" in weight.path or "beta" in weight.path:
                value[0] = -1.0 if "beta" in weight.path else 0.0  # dead behind the ReLU
            weight.assign(value)
    kernel = model.get_layer("encoder_1_2_depthwise").kernel
    value = kernel.numpy()
    value[:, :, target] = value[:, :, source]
    kernel.assign(value)
    for weight in model.get_layer("encoder_1_2_depthwise_norm").weights:
        value = weight.numpy()
        value[target] = value[source]
        weight.assign(value)


@pytest.mark.parametrize("targets", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_duplicates_and_dead_channels_go_at_no_loss(targets):
    model, images = nano_u(), draw_images(48)
    plant(model, source=2, target=5)
    moments = InputMoments(images, *([draw_masks(images), LOSS] if targets else []))
    small = narrow(model, moments, widths={"encoder_1_1_pointwise": 4})
    kept = set(small.groups[0].kept)
    assert 0 not in kept and len(kept & {2, 5}) == 1 and small.widths["encoder_1_1_pointwise"] == 4
    found, expected = (m.predict(images, verbose=0) for m in (small.model, model))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


READERS = {
    "kernel": lambda: kl.Conv2D(3, 3),
    "separable": lambda: kl.SeparableConv2D(3, 3, depth_multiplier=2),
    "dense": lambda: kl.Dense(3),
    "transposed": lambda: kl.Conv2DTranspose(3, 2, strides=2),
    "without_bias": lambda: kl.Conv2D(3, 1, use_bias=False),
}


def read_by(reader, *, constant=None, copied=None):
    """A model whose `maker` makes five channels, of which the last says nothing of its own."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    maker, layer = kl.Conv2D(5, 1, activation="relu", name="maker"), reader()
    model = keras.Model(inputs, kl.Conv2D(2, 1)(kl.ReLU()(layer(maker(inputs)))))
    if isinstance(layer, kl.SeparableConv2D):  # its rows are what its own filters put out
        depthwise = layer.depthwise_kernel.numpy()
        depthwise[:, :, 4] = depthwise[:, :, 1]
        layer.depthwise_kernel.assign(depthwise)
    kernel, bias = (weight.numpy() for weight in maker.weights)
    bias[:] = 0.7
    kernel[..., 4] = 0 if copied is None else kernel[..., copied]
    if constant is not None:
        bias[4] = constant
    maker.set_weights([kernel, bias])
    return model


def assert_lossless(model, images):
    small = narrow(model, InputMoments(images), widths={"maker": 4})
    found, expected = (m.predict(images, verbose=0) for m in (small.model, model))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_every_kind_of_reader_makes_up_for_a_duplicate(reader):
    assert_lossless(read_by(reader, copied=1), draw_images(48, size=(8, 8, 3)))


@pytest.mark.parametrize("name", ["kernel", "separable", "dense"])
def test_a_bias_takes_the_place_of_a_constant_channel(name):
    assert_lossless(read_by(READERS[name], constant=3.0), draw_images(48, size=(8, 8, 3)))


@pytest.mark.parametrize("name", ["transposed", "without_bias"])
def test_a_constant_channel_stays_where_no_bias_can_take_its_place(name):
    model = read_by(READERS[name], constant=30.0)
    images = draw_images(48, size=(8, 8, 3))
    small = narrow(model, InputMoments(images), widths={"maker": 4})
    assert 4 in small.groups[0].kept


@pytest.mark.slow
@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_every_kind_of_layer_is_narrowed_and_resolved(build):
    rng = np.random.default_rng(0)
    model = build()
    draw_weights(model, rng)
    inputs = draw_inputs(model, rng)
    inputs = [np.concatenate([x] * 4) for x in (inputs if isinstance(inputs, list) else [inputs])]
    inputs = inputs if len(inputs) > 1 else inputs[0]
    budget = {"parameters": int(0.8 * model_cost(model).parameters)}
    small = narrow(model, InputMoments(inputs, positions=8), budget)
    assert small.cost.parameters <= budget["parameters"]
    outputs = small.model.predict(inputs, verbose=0)
    wide = widened(model, small).predict(inputs, verbose=0)
    np.testing.assert_allclose(outputs, wide, rtol=1e-4, atol=1e-4 * np.abs(wide).max())


def test_resolving_comes_closer_to_the_parent_than_cutting_alone():
    model, images = nano_u(), draw_images(48)
    noise, unseen = np.random.default_rng(0).normal(size=(48, 12, 16, 1)), draw_images(24, seed=1)
    targets = model.predict(images, verbose=0) + noise.astype("float32")
    moments = InputMoments(images, targets, "mse")
    small = narrow(model, moments, {"macs": int(0.9 * model_cost(model).macs)})
    plan = plan_groups(model)
    alone = cut(plan, [np.array(group.kept) for group in small.groups]).model
    parent, resolved, bare = (m.predict(unseen, verbose=0) for m in (model, small.model, alone))
    assert np.square(resolved - parent).mean() < 0.6 * np.square(bare - parent).mean()


def test_budgets_hold_together_and_widths_are_multiples():
    model, images = nano_u(), draw_images()
    cost = model_cost(model)
    budget = {
        "macs": int(0.8 * cost.macs),
        "parameters": int(0.6 * cost.parameters),
        "peak_activation_bytes": int(0.7 * cost.peak_activation_bytes),
    }
    small = narrow(model, InputMoments(images), budget, multiple=2, keep=["bottleneck_1_pointwise"])
    assert all(getattr(small.cost, name) <= limit for name, limit in budget.items())
    assert all(group.after % 2 == 0 for group in small.groups if not group.fixed)
    assert small.widths["bottleneck_1_pointwise"] == 8 and not small.weighted
    limit = int(0.6 * cost.peak_overlapped_bytes)
    small = narrow(model, InputMoments(images), {"peak_overlapped_bytes": limit})
    assert 0.8 * limit < small.cost.peak_overlapped_bytes <= limit


@pytest.mark.slow
def test_the_same_images_give_the_same_network():
    model, images = nano_u(), draw_images()
    first, second = (
        narrow(model, InputMoments(images, draw_masks(images), LOSS), {"macs": 60_000})
        for _ in range(2)
    )
    assert first.groups == second.groups
    for a, b in zip(first.model.weights, second.model.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.slow
def test_it_trains_on_and_loads_in_plain_keras(tmp_path):
    model, images = nano_u(enable_probes=True), draw_images()
    small = narrow(model, InputMoments(images), {"macs": 60_000}).model
    small.compile("adam", LOSS)
    assert np.isfinite(small.fit(images, draw_masks(images), verbose=0).history["loss"]).all()
    small.save(tmp_path / "small.keras")
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "outputs.npy", small.predict(images, verbose=0))
    script = (
        "import keras, numpy as np, sys; "
        f"m = keras.models.load_model({str(tmp_path / 'small.keras')!r}, safe_mode=True); "
        f"x, y = (np.load({str(tmp_path)!r} + n) for n in ('/images.npy', '/outputs.npy')); "
        "assert np.array_equal(m.predict(x, verbose=0), y); assert 'models' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-500:]


def test_what_cannot_be_done_is_said():
    model, images = chain(), draw_images(8, size=(8, 6, 3))
    moments = InputMoments(images)
    with pytest.raises(ValueError, match="at least macs=.*the model has .*Received: macs=1"):
        narrow(model, moments, {"macs": 1})
    with pytest.raises(ValueError, match="budget of some of parameters, macs, peak_activation"):
        narrow(model, moments, {"flops": 1000})
    with pytest.raises(ValueError, match="positive number as budget. Received: macs='2M'"):
        narrow(model, moments, {"macs": "2M"})
    with pytest.raises(ValueError, match="either a budget or widths. Received: neither"):
        narrow(model, moments)
    with pytest.raises(ValueError, match="no group of channels made by 'nothing'. Groups that"):
        narrow(model, moments, {"macs": 1000}, keep=["nothing"])
    with pytest.raises(ValueError, match=r"width of 1 to \d+ for"):
        narrow(model, moments, widths={plan_groups(model).groups[0].name: 0})
    with pytest.raises(ValueError, match="must stay: an output of the model"):
        narrow(model, moments, widths={plan_groups(model).groups[-1].name: 1})
    name = plan_groups(model).groups[0].name
    with pytest.raises(ValueError, match="either keep or widths. Received: keep=.* width of 1"):
        narrow(model, moments, widths={name: 1}, keep=[name])
    inputs = keras.Input((4,))
    fixed = keras.Model(inputs, kl.Dense(2)(inputs), name="fixed")
    with pytest.raises(ValueError, match="'fixed' has no channels that can be cut: an output"):
        narrow(fixed, moments, {"macs": 4})
    open_size = keras.Input((None, None, 3))
    anysize = keras.Model(open_size, kl.Conv2D(2, 1)(kl.Conv2D(4, 1)(open_size)))
    with pytest.raises(ValueError, match="fixed input size, .*None, None, 3"):
        narrow(anysize, moments, {"macs": 10})


class Counted(InputMoments):
    """Counts how often everything is measured."""

    measured = 0

    def gradients(self, model, layers):
        self.measured += 1
        return super().gradients(model, layers)


def same_network(first, second):
    pairs = zip(first.model.weights, second.model.weights, strict=True)
    return first.groups == second.groups and all(
        np.array_equal(a.numpy(), b.numpy()) for a, b in pairs
    )


def convolutions():
    """A small network of three groups, two of which can be cut."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = kl.Conv2D(10, 1, activation="relu", name="first")(inputs)
    x = kl.Conv2D(8, 1, activation="relu", name="second")(x)
    return keras.Model(inputs, kl.Conv2D(1, 1)(x))


def test_a_ladder_gives_the_networks_of_each_budget_and_measures_less():
    model, images = convolutions(), draw_images(size=(8, 8, 3))
    budgets = [int(share * model_cost(model).macs) for share in (0.5, 0.9, 0.2)]
    counted = Counted(images)
    ladder = list(narrow_ladder(model, counted, budgets))
    rounds = 0
    for (small, even), budget in zip(ladder, sorted(budgets, reverse=True), strict=True):
        alone = narrow(model, InputMoments(images), {"macs": budget})
        assert small.cost.macs <= budget and same_network(small, alone)
        assert small.rounds == alone.rounds
        widths = {group.name: group.after for group in even.groups if not group.fixed}
        assert same_network(even, narrow(model, InputMoments(images), widths=widths))
        rounds += alone.rounds + even.rounds
    assert counted.measured < 0.7 * rounds
    with pytest.raises(ValueError, match="at least macs=.* Received: macs=1"):
        list(narrow_ladder(model, counted, [budgets[0], 1]))


@pytest.mark.parametrize(
    ("share", "widths"), [(0.5, (7, 5)), (0.26, (4, 4)), (0, (1, 1)), (1.0, (10, 8))]
)
def test_uniform_widths_are_one_share_of_every_group(share, widths):
    model = convolutions()
    macs = share * model_cost(model).macs
    assert uniform_widths(plan_groups(model), macs).tolist() == [*widths, 1]
