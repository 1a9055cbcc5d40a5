"""Groups of channels, and cutting them: as if the dropped rows of every reader were zero."""

import keras
import numpy as np
import pytest
from keras import layers as kl
from narrow_models import MODELS, SIZE, concatenated, nested, what_is_not_understood

from models import BU_Net, Nano_U, channel_groups
from models.cost import model_cost
from models.narrowing.costs import Costs
from models.narrowing.cut import cut
from models.narrowing.groups import plan_groups
from models.narrowing.kernels import assign_matrix, kernel_matrix


def draw_inputs(model, rng):
    arrays = [
        rng.integers(0, 20, (3, *t.shape[1:]))
        if t.dtype == "int32"
        else rng.normal(size=(3, *t.shape[1:])).astype("float32")
        for t in model.inputs
    ]
    return arrays if len(arrays) > 1 else arrays[0]


def draw_weights(model, rng):
    """Biases, scales and statistics as after training, none of them 0 or 1."""
    for weight in model.weights:
        low = 0.5 if "variance" in weight.path else -0.5
        if "kernel" not in weight.path and "embeddings" not in weight.path:
            weight.assign(rng.uniform(low, low + 1.0, tuple(weight.shape)))


def draw_kept(plan, rng):
    return [
        np.arange(g.channels)
        if g.fixed
        else np.sort(rng.choice(g.channels, rng.integers(1, g.channels), replace=False))
        for g in plan.groups
    ]


def outputs_with_zero_rows(plan, keep, inputs):
    """What the wide model puts out when no reader sees the dropped channels."""
    readers = list(plan.trace.readers.values())
    saved = [kernel_matrix(reader.layer) for reader in readers]
    for reader, matrix in zip(readers, saved, strict=True):
        assign_matrix(reader.layer, matrix * keep[reader.numbers][..., None])
    outputs = plan.model.predict(inputs, verbose=0)
    for reader, matrix in zip(readers, saved, strict=True):
        assign_matrix(reader.layer, matrix)
    return outputs


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_a_cut_model_is_the_wide_one_without_the_dropped_rows(build, seed, tmp_path):
    rng = np.random.default_rng(seed)
    model = build()
    draw_weights(model, rng)
    inputs, before = draw_inputs(model, rng), [w.numpy() for w in model.weights]
    plan = plan_groups(model)
    assert plan.free
    kept = draw_kept(plan, rng)
    small = cut(plan, kept)
    expected = outputs_with_zero_rows(plan, small.keep, inputs)
    found = small.model.predict(inputs, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    assert all((a == w.numpy()).all() for a, w in zip(before, model.weights, strict=True))
    assert [layer.name for layer in small.model.layers] == [layer.name for layer in model.layers]
    widths = np.array([len(indices) for indices in kept])
    costs, counted = Costs(plan), model_cost(small.model)
    for name in costs.budgets:
        assert costs.cost(name, widths) == getattr(counted, name)
    if seed == 0:
        small.model.save(tmp_path / "small.keras")
        loaded = keras.models.load_model(tmp_path / "small.keras", safe_mode=True)
        np.testing.assert_array_equal(loaded.predict(inputs, verbose=0), found)


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_all_channels_kept_is_the_same_model(build):
    rng = np.random.default_rng(0)
    model = build()
    draw_weights(model, rng)
    plan = plan_groups(model)
    same = cut(plan, [np.arange(group.channels) for group in plan.groups]).model
    inputs = draw_inputs(model, rng)
    np.testing.assert_array_equal(same.predict(inputs, verbose=0), model.predict(inputs, verbose=0))


def test_the_groups_of_nano_u():
    groups = channel_groups(Nano_U(enable_probes=True))
    assert [group.channels for group in groups] == [4, 4, 8, 8] + [16] * 6 + [8, 8, 4, 4, 1]
    assert all(len(group.makers) == 1 for group in groups)
    assert [group.fixed for group in groups[:-1]] == [""] * 14
    assert groups[-1].fixed == "an output of the model"


def test_a_u_nets_skip_is_read_at_an_offset():
    groups = {group.name: group for group in channel_groups(BU_Net())}
    skip = groups["encoder_1_3_pointwise"]
    readers = {reader.layer: reader.offsets for reader in skip.readers}
    up = groups["decoder_2_3_pointwise"]
    decoder = {reader.layer: reader.offsets for reader in up.readers}
    assert readers["decoder_3_1_pointwise"] == (0,)
    assert decoder["decoder_3_1_pointwise"] == (skip.channels,)


def test_ties_across_a_concatenation_make_groups_of_parts():
    groups = channel_groups(concatenated())
    tied = [group for group in groups if len(group.makers) > 1]
    assert [group.channels for group in tied] == [4, 5]
    assert len(set(tied[0].makers) & set(tied[1].makers)) == 1


def test_layers_of_nested_models_have_paths():
    makers = {maker for group in channel_groups(nested()) for maker in group.makers}
    assert any(maker.startswith("inner/") for maker in makers)
    assert any(maker.startswith("middle/") for maker in makers)


def test_what_is_not_understood_stays_with_its_reason():
    model = what_is_not_understood()
    reasons = {group.name.split("/")[-1]: group.fixed for group in channel_groups(model)}
    names = [layer.name for layer in model.layers if isinstance(layer, (kl.Conv2D, kl.Dense))]
    stay = [reasons[name] for name in names]
    assert "LayerNormalization" in stay[0]
    assert stay[1] == ""  # between LayerNormalization and Reshape
    assert "Reshape" in stay[2]
    assert stay[3] == ""
    assert "LSTM" in stay[4]
    assert "Softmax" in stay[5]
    assert stay[6] == ""
    assert stay[7] == "an output of the model"


def test_a_subclass_of_a_layer_is_not_taken_for_it():
    class Mine(kl.Conv2D):
        def call(self, inputs):
            return super().call(inputs)[..., ::-1]

    inputs = keras.Input(SIZE)
    x = kl.Conv2D(4, 1, name="before")(inputs)
    model = keras.Model(inputs, kl.Conv2D(2, 1)(Mine(4, 1)(x)))
    assert "Mine" in channel_groups(model)[0].fixed


def test_a_model_without_a_graph_is_refused():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="Expected a functional or sequential model"):
        channel_groups(Subclassed())
