"""Losses of masks by name, beside their formulas in NumPy float64."""

import keras
import numpy as np
import pytest

from training.distill import DistillationLoss
from training.loss_names import loss_parts
from training.losses import MaskLoss, class_weights
from training.outputs import Outputs

CLASSES = ("a", "b", "c")
EPSILON = 1e-7


@pytest.fixture(params=[(), CLASSES], ids=["foreground", "classes"])
def case(request, rng):
    """Outputs, labels, logits, which pixels are scored, and a weight for each class."""
    outputs = Outputs(classes=request.param)
    count = max(2, outputs.channels)
    labels = rng.integers(0, count, (2, 5, 6, 1))
    logits = rng.normal(size=(2, 5, 6, outputs.channels)) * 2
    scored = rng.integers(0, 2, labels.shape)
    return outputs, labels, logits, scored, tuple(rng.uniform(0.5, 2.0, count).tolist())


def softmax(logits):
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return exp / exp.sum(-1, keepdims=True)


def chances(outputs, logits):
    """Probability of each class, (..., count)."""
    if outputs.classes:
        return softmax(logits)
    foreground = 1 / (1 + np.exp(-logits))
    return np.concatenate([1 - foreground, foreground], -1)


def expected(name, outputs, labels, logits, scored, weights):
    p = chances(outputs, logits)
    true = np.take_along_axis(p, labels, -1)[..., 0]
    pixels = np.array(weights)[labels[..., 0]] * scored[..., 0]
    if name == "cross_entropy":
        return (-np.log(true) * pixels).sum() / scored.sum()
    if name == "focal":
        return (-((1 - true) ** 2) * np.log(true) * pixels).sum() / scored.sum()
    hot = np.eye(p.shape[-1])[labels[..., 0]] * scored
    p = p * scored
    hits = (hot * p).sum((0, 1, 2))
    missed, false = (hot * (1 - p)).sum((0, 1, 2)), ((1 - hot) * p).sum((0, 1, 2))
    if name == "dice":
        losses = 1 - 2 * hits / (2 * hits + missed + false + EPSILON)
    else:
        losses = 1 - hits / (hits + 0.7 * missed + 0.3 * false + EPSILON)
    if not outputs.classes:
        return losses[1]
    return (losses * weights).sum() / sum(weights)


@pytest.mark.parametrize("name", ["cross_entropy", "dice", "focal", "tversky"])
@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_each_loss_is_its_formula(case, name, kind):
    outputs, labels, logits, scored, weights = case
    outputs = Outputs(kind, outputs.classes)
    values = logits
    if kind == "probabilities":
        values = softmax(logits) if outputs.classes else 1 / (1 + np.exp(-logits))
    loss = MaskLoss((name,), weights, outputs)
    reference = expected(name, outputs, labels, logits, scored, weights)
    assert float(loss(labels, values, scored)) == pytest.approx(reference, rel=2e-5)
    assert float(MaskLoss.from_config(loss.get_config())(labels, values, scored)) == pytest.approx(
        reference, rel=2e-5
    )


def test_what_is_not_scored_changes_nothing(case):
    outputs, labels, logits, scored, weights = case
    loss = MaskLoss(("cross_entropy", "dice", "focal", "tversky"), weights, outputs)
    others = np.where(scored == 1, labels, 1 - labels.clip(0, 1))
    noise = np.where(scored == 1, logits, 50.0)
    assert float(loss(labels, logits, scored)) == float(loss(others, noise, scored))


def test_sums_are_sums(case):
    outputs, labels, logits, scored, weights = case
    parts = [MaskLoss((n,), weights, outputs)(labels, logits, scored) for n in ("dice", "focal")]
    both = MaskLoss(loss_parts("dice+focal"), weights, outputs)(labels, logits, scored)
    assert float(both) == pytest.approx(float(sum(parts)), rel=1e-6)


def test_the_plain_loss_of_classes_is_keras_own(case):
    outputs, labels, logits, scored, _ = case
    if not outputs.classes:
        pytest.skip("of foreground, it is tested as it was")
    plain = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction="mean_with_sample_weight"
    )
    ours = MaskLoss(("cross_entropy",), None, outputs)
    value = float(plain(labels, logits, scored))
    assert float(ours(labels, logits, scored)) == pytest.approx(value, rel=1e-6)


def test_missed_pixels_weigh_more_than_false_ones_in_tversky():
    truth = np.array([1, 1, 1, 0, 0, 0], float).reshape(1, 1, 6, 1)
    missed = np.where(np.arange(6) < 2, 20.0, -20.0).reshape(truth.shape)
    false = np.where(np.arange(6) < 4, 20.0, -20.0).reshape(truth.shape)
    loss = MaskLoss(("tversky",))
    assert float(loss(truth, missed)) > float(loss(truth, false)) > 0


def test_weights_have_a_mean_of_one_over_the_pixels(rng):
    masks = rng.choice([0, 1, 2, 255], (4, 8, 8, 1), p=[0.6, 0.25, 0.05, 0.1])
    counts = np.bincount(masks.ravel(), minlength=256)
    shares = counts[:3] / counts[:3].sum()
    for wanted in ("balanced", [1, 2, 10], {"c": 10, "a": 1, "b": 2}):
        weights = class_weights(wanted, counts, CLASSES)
        assert np.dot(weights, shares) == pytest.approx(1)
    balanced = np.array(class_weights("balanced", counts, CLASSES))
    np.testing.assert_allclose(balanced * shares, 1 / 3)
    assert class_weights([1, 2, 10], counts, CLASSES) == class_weights(
        {"c": 10, "a": 1, "b": 2}, counts, CLASSES
    )


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ([1, 2], "expected 3 weights, for a, b, c"),
        ({"a": 1, "b": 2, "d": 3}, "a weight for each of a, b, c"),
        ("balanced", "no training mask has c"),
    ],
)
def test_weights_that_do_not_fit_are_refused(wanted, message):
    with pytest.raises(ValueError, match=message):
        class_weights(wanted, np.array([1, 2, 0]), CLASSES)


@pytest.mark.parametrize("text", ["", "bce+bce", "bce+cross_entropy", "lovasz", "dice+"])
def test_unknown_losses_are_refused(text):
    with pytest.raises(
        ValueError, match="expected one of bce, cross_entropy, dice, focal, tversky"
    ):
        loss_parts(text)


def test_softened_answers_of_classes_are_hintons(rng):
    labels = rng.integers(0, 3, (2, 3, 4, 1)).astype(float)
    taught, logits = rng.normal(size=(2, 2, 3, 4, 3)) * 3
    t, s = softmax(taught / 4), softmax(logits / 4)
    soft = (t * np.log(t / s)).sum(-1).mean()
    hard = -np.log(np.take_along_axis(softmax(logits), labels.astype(int), -1)).mean()
    loss = DistillationLoss(0.3, 4.0, outputs=Outputs(classes=CLASSES))
    both = np.concatenate([labels, taught], -1)
    assert float(loss(both, logits)) == pytest.approx(0.7 * hard + 0.3 * 16 * soft, rel=1e-5)
    again = DistillationLoss.from_config(loss.get_config())
    assert float(again(both, logits)) == float(loss(both, logits))


def test_a_named_loss_takes_the_place_of_the_cross_entropy(rng):
    mask = rng.integers(0, 2, (2, 3, 4, 1)).astype(float)
    taught, logits = rng.normal(size=(2, 2, 3, 4, 1)) * 3
    scored = rng.integers(0, 2, mask.shape)
    dice = MaskLoss(("dice",))
    both = np.concatenate([mask, taught], -1)
    combined = DistillationLoss(0.3, mask_loss=dice)
    alone, plain = DistillationLoss(1.0), float(dice(mask, logits, scored))
    expected = 0.3 * float(alone(both, logits, scored)) + 0.7 * plain
    assert float(combined(both, logits, scored)) == pytest.approx(expected, rel=1e-5)
    again = DistillationLoss.from_config(combined.get_config())
    assert float(again(both, logits, scored)) == float(combined(both, logits, scored))
