"""Logits or probabilities: who tells, and that both are scored alike."""

import keras
import numpy as np
import pytest
from keras import layers as kl
from keras import ops
from PIL import Image

from models import Nano_U, quantization_aware
from training.data import scale
from training.evaluate import logits, sweep
from training.output_kind import last_activation, output_kind, to_logits
from training.outputs import Outputs
from training.run_ladder import mean_iou
from training.split import Split

OWN = keras.saving.register_keras_serializable("test_output_kind")


@OWN
class Network(keras.Model):
    """The network of `logit_network`, subclassed: its graph shows nothing."""

    def __init__(self, squash=True, **options):
        super().__init__(**options)
        self.enc, self.dec, self.head = (layer() for layer in LAYERS)
        self.squash = squash

    def build(self, shape):
        for layer, channels in ((self.enc, 3), (self.dec, 8), (self.head, 8)):
            layer.build((*shape[:-1], channels))

    def call(self, x):
        x = self.head(self.dec(self.enc(x)))
        return ops.sigmoid(x) if self.squash else x

    def get_config(self):
        return {**super().get_config(), "squash": self.squash}


def convolution(name, channels, **options):
    return lambda **more: kl.Conv2D(channels, name=name, padding="same", **options, **more)


LAYERS = (
    convolution("enc", 8, kernel_size=3, activation="relu"),
    convolution("dec", 8, kernel_size=3, activation="relu"),
    convolution("head", 1, kernel_size=1),
)


def functional(after=lambda x: x, **head):
    inputs = keras.Input((16, 16, 3))
    return keras.Model(inputs, after(LAYERS[2](**head)(LAYERS[1]()(LAYERS[0]()(inputs)))))


def nested():
    inputs = keras.Input((16, 16, 3))
    return keras.Model(inputs, functional(activation="sigmoid")(inputs))


def subclassed(squash=True):
    model = Network(squash)
    model(np.zeros((1, 16, 16, 3), np.float32))
    return model


# {kind: the same network behind its sigmoid}
TWINS = {
    "functional": lambda: functional(activation="sigmoid"),
    "sequential": lambda: keras.Sequential(
        [keras.Input((16, 16, 3)), *(layer() for layer in LAYERS), kl.Activation("sigmoid")]
    ),
    "nested": nested,
    "activation": lambda: functional(kl.Activation("sigmoid")),
    "operation": lambda: functional(ops.sigmoid),
    "subclassed": subclassed,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of images and masks, and both as arrays."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for kind in ("img", "mask"):
        (folder / "val" / kind).mkdir(parents=True)
    images, masks = [], []
    for number in range(24):
        mask = np.zeros((16, 16), np.uint8)
        mask[rng.integers(3, 13) :] = 255
        noise = rng.normal(0, 90, (16, 16, 3))
        image = np.clip(np.where(mask[..., None] > 0, 170, 90) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "val" / "img" / f"{number:02}.png")
        Image.fromarray(mask).save(folder / "val" / "mask" / f"{number:02}.png")
        images.append(image)
        masks.append(mask > 0)
    return folder, np.stack(images), np.stack(masks)[..., None]


@pytest.fixture(scope="module")
def trained(data):
    """A network of logits that has learned something."""
    _, images, masks = data
    keras.utils.set_random_seed(0)
    model = functional()
    model.compile(keras.optimizers.Adam(0.01), keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(images / 127.5 - 1, masks.astype("float32"), epochs=8, batch_size=8, verbose=0)
    return model


@pytest.fixture(scope="module")
def split(data):
    _, images, masks = data
    return Split(images, masks.astype(np.uint8), tuple(map(str, range(len(images)))))


def score(model, split, outputs=None):
    kind = output_kind(model, outputs, scale(split.images))
    return mean_iou(split, Outputs(kind))(model)


@pytest.fixture(scope="module")
def expected(trained, split):
    """The score of the logits, which is NumPy's."""
    found = trained.predict(scale(split.images), verbose=0) >= 0
    truth = split.masks == 1
    ious = [(a & b).sum() / (a | b).sum() for a, b in ((found, truth), (~found, ~truth))]
    assert score(trained, split) == pytest.approx(np.mean(ious), abs=1e-6)
    assert 0.6 < np.mean(ious) < 0.99
    return np.mean(ious)


@pytest.mark.parametrize("kind", TWINS)
def test_a_network_scores_the_same_before_and_behind_its_sigmoid(kind, trained, expected, split):
    twin = TWINS[kind]()
    twin.set_weights(trained.get_weights())
    outputs = None
    if kind == "subclassed":
        with pytest.raises(ValueError, match=r"may put out logits .*give --outputs logits if"):
            score(twin, split)
        outputs = "probabilities"
    assert score(twin, split, outputs) == pytest.approx(expected, abs=1e-6)


def test_values_of_both_signs_tell_logits_where_layers_do_not(trained, expected, split):
    model = subclassed(squash=False)
    model.set_weights(trained.get_weights())
    assert score(model, split) == pytest.approx(expected, abs=1e-6)


def test_the_sweep_is_the_same_before_and_behind_a_sigmoid(trained, split):
    twin = TWINS["operation"]()
    twin.set_weights(trained.get_weights())
    values = logits(twin, split, outputs=Outputs("probabilities"))
    assert sweep(values, split.masks) == sweep(logits(trained, split), split.masks)


def head(activation=None, channels=1):
    return kl.Conv2D(channels, 1, activation=activation)


PROBABILITIES = {
    "hard sigmoid": head("hard_sigmoid"),
    "softmax of two": head("softmax", 2),
    "one of a softmax": lambda x: head("softmax", 2)(x)[..., 1:],
    "layer Softmax": lambda x: kl.Softmax()(head(channels=3)(x)),
    "linear after it": lambda x: kl.Activation("linear")(head("sigmoid")(x)),
    "upsampled": lambda x: kl.UpSampling2D(interpolation="bilinear")(head("sigmoid")(x)),
    "resized": lambda x: ops.image.resize(head("sigmoid")(x), (16, 16)),
    "reshaped": lambda x: kl.Reshape((64, 1))(kl.Dropout(0.5)(head("sigmoid")(x))),
    "probed": lambda x: kl.Identity(name="probe_end")(head("sigmoid")(x)),
    "cast": lambda x: ops.cast(head("sigmoid")(x), "bfloat16"),
    "average": lambda x: kl.Average()([head("sigmoid")(x), head("hard_sigmoid")(x)]),
    "product": lambda x: head("sigmoid")(x) * head("sigmoid")(x),
}
LOGITS = {
    "convolution": head(),
    "dense": kl.Dense(1),
    "cropped": lambda x: kl.Cropping2D(1)(head()(x)),
    "sum": lambda x: kl.Add()([head()(x), head()(x)]),
}
NEITHER = {
    "relu": head("relu"),
    "layer ReLU": lambda x: kl.ReLU()(head()(x)),
    "tanh": lambda x: ops.tanh(head()(x)),
    "log sigmoid": head("log_sigmoid"),
    "scaled": lambda x: head("sigmoid")(x) * 255,
    "sum of sigmoids": lambda x: head("sigmoid")(x) + head("sigmoid")(x),
    "mixed": lambda x: kl.Average()([head("sigmoid")(x), head()(x)]),
    "not below 0": lambda x: ops.maximum(head()(x), 0.0),
    "one of two classes": lambda x: head(channels=2)(x)[..., 1:],
    "whole numbers": lambda x: ops.cast(head("sigmoid")(x), "uint8"),
    "own function": head(lambda x: x),
    "recurrent": lambda x: kl.ConvLSTM2D(1, 1, activation="sigmoid")(kl.Reshape((1, 8, 8, 3))(x)),
}


def ended(end):
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, end(inputs))


@pytest.mark.parametrize("end", PROBABILITIES)
def test_a_last_activation_tells_probabilities(end):
    assert output_kind(ended(PROBABILITIES[end])) == "probabilities"


@pytest.mark.parametrize("end", LOGITS)
def test_a_last_layer_without_activation_tells_logits(end):
    assert output_kind(ended(LOGITS[end])) == "logits"


@pytest.mark.parametrize("end", NEITHER)
def test_what_tells_nothing_is_refused_unless_an_option_tells(end):
    model = ended(NEITHER[end])
    with pytest.raises(ValueError, match="give --outputs logits if foreground is from 0 up"):
        output_kind(model)
    assert output_kind(model, "probabilities") == "probabilities"


def test_the_zoos_networks_put_out_logits():
    network = Nano_U((24, 32, 3), enable_probes=True)
    for model in (network, quantization_aware(network)):
        assert last_activation(model) == "logits"


@pytest.mark.parametrize("end", [head("softmax"), lambda x: kl.Softmax()(head()(x))])
@pytest.mark.filterwarnings("ignore:You are using a softmax")
def test_a_softmax_over_one_channel_is_refused(end):
    with pytest.raises(ValueError, match="softmax over one channel, which is 1 everywhere"):
        output_kind(ended(end), "probabilities")


@pytest.mark.parametrize(
    ("factor", "shift", "kind"),
    [(3, 0, "logits"), (0.5, 0.5, None), (0.6, 0.5, None), (127.5, 127.5, None), (3, -4, None)],
)
def test_only_values_well_on_both_sides_show_logits(factor, shift, kind):
    model = ended(kl.Lambda(lambda x: factor * x + shift))
    images = np.linspace(-1, 1, 8 * 8 * 3, dtype=np.float32).reshape(1, 8, 8, 3)
    if kind:
        assert output_kind(model, images=images) == kind
        with pytest.raises(ValueError, match="Expected probabilities, 0..1. Received: .* -3 to 3"):
            output_kind(model, "probabilities", images)
    else:
        with pytest.raises(ValueError, match="its layers do not tell, with values of"):
            output_kind(model, images=images)


def test_options_that_contradict_the_model_are_refused():
    with pytest.raises(ValueError, match="ends in a sigmoid or softmax.* Omit --outputs"):
        output_kind(ended(head("sigmoid")), "logits")
    with pytest.raises(ValueError, match="Expected --outputs logits or probabilities. Received"):
        output_kind(ended(head()), "logit")
    assert output_kind(ended(head()), "probabilities") == "probabilities"  # a regression


def test_logits_of_probabilities_are_the_inverse_of_the_sigmoid():
    values = np.linspace(-12, 12, 97)
    found = ops.convert_to_numpy(to_logits(1 / (1 + np.exp(-values))))
    np.testing.assert_allclose(found, values, atol=5e-3)
    np.testing.assert_allclose(found[values <= 4], values[values <= 4], atol=1e-5)
    edges = ops.convert_to_numpy(to_logits(np.array([0, 0.5, np.nextafter(0.5, 0, dtype="f"), 1])))
    assert edges[1] == 0 and edges[2] < 0
    np.testing.assert_allclose(edges[[0, 3]], [-16.6355, 16.6355], atol=1e-4)
