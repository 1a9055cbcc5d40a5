"""A student taught by a teacher: closed forms, and what stays as it was."""

import keras
import numpy as np
import pandas
import pytest
from conftest import draw_image_folder

from models import Nano_U, probe_names
from train import train
from training.config import read_config
from training.data import batches, scale, training_batches
from training.distill import Answers, DistillationLoss, read_teacher
from training.run import prepare
from training.settings import AugmentationConfig
from training.split import Split
from training.synthetic import synthetic_splits

SMALL = "model: {name: nano_u, filters: [2, 4], bottleneck: 4}\n"


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    keras.utils.set_random_seed(5)
    path = tmp_path_factory.mktemp("teacher") / "teacher.keras"
    Nano_U(filters=(3, 6), bottleneck=6, enable_probes=True).save(path)
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return draw_image_folder(tmp_path_factory.mktemp("data") / "tiny")


def trained(folder, **options):
    config = folder.with_suffix(".yaml")
    config.write_text(SMALL + options.pop("more", ""))
    return train(None, 1, config=config, output=folder, verbose=0, **options)


def test_the_loss_is_its_formula(rng):
    mask = rng.integers(0, 2, (2, 3, 4, 1)).astype(float)
    taught, logits = rng.normal(size=(2, 2, 3, 4, 1)) * 3
    hard = -np.mean(mask * np.log(sigmoid(logits)) + (1 - mask) * np.log(1 - sigmoid(logits)))
    for alpha, temperature in ((0.0, 4.0), (0.3, 1.0), (0.5, 4.0), (1.0, 2.0)):
        soft = np.mean((sigmoid(taught / temperature) - sigmoid(logits / temperature)) ** 2)
        expected = (1 - alpha) * hard + alpha * temperature**2 * soft
        loss = DistillationLoss(alpha, temperature)
        assert float(loss(np.concatenate([mask, taught], -1), logits)) == pytest.approx(
            expected, 1e-5
        )
        again = DistillationLoss.from_config(loss.get_config())
        assert (again.alpha, again.temperature) == (alpha, temperature)


@pytest.mark.parametrize(("alpha", "temperature"), [(-0.1, 1), (1.1, 1), (0.5, 0), (0.5, np.nan)])
def test_impossible_weights_are_refused(alpha, temperature):
    with pytest.raises(ValueError, match="Expected a"):
        DistillationLoss(alpha, temperature)


@pytest.mark.slow
def test_alpha_of_zero_is_plain_training_to_the_bit(tmp_path, teacher, tiny):
    options = {"data": tiny, "batch_size": 2}
    plain, history = trained(tmp_path / "plain", **options)
    options["distill_from"] = teacher
    taught, other = trained(tmp_path / "taught", more="distillation: {alpha: 0}\n", **options)
    for a, b in zip(plain.get_weights(), taught.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert history.history == other.history
    more, _ = trained(tmp_path / "more", **options)
    assert any((a != b).any() for a, b in zip(plain.get_weights(), more.get_weights(), strict=True))


@pytest.mark.slow
def test_what_is_saved_is_the_bare_student(tmp_path, teacher):
    folder = tmp_path / "run"
    model, _ = trained(folder, distill_from=teacher, enable_nas_monitoring=True)
    loaded = keras.saving.load_model(folder / "model.keras")
    assert loaded.count_params() == Nano_U(filters=(2, 4), bottleneck=4).count_params()
    val = synthetic_splits().val
    scores = loaded.evaluate(batches(val, 16), verbose=0, return_dict=True)
    assert 0 < scores["miou"] < 1  # masks alone: the plain loss and metric
    assert (folder / "monitor.csv").is_file()
    beside = pandas.read_csv(folder / "teacher" / "monitor.csv").set_index("probe").channels
    assert beside.to_dict() == {
        "probe_encoder_1": 3,
        "probe_encoder_2": 6,
        "probe_bottleneck": 6,
    }
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Beside its teacher" in page and "teacher: in use" in page


def test_answers_are_the_teachers_at_what_the_student_sees(teacher):
    split, model = synthetic_splits().val, keras.saving.load_model(teacher, compile=False)
    before = model.get_weights()
    plain = AugmentationConfig(horizontal_flip=False, brightness=0)
    assert plain.none and not AugmentationConfig().none
    for augmentation in (plain, AugmentationConfig(rotation=20)):
        options = {"epochs": 1, "seed": 3, "augmentation": augmentation}
        for fixed in (True, False) if augmentation.none else (False,):
            answers = Answers(model, split, fixed=fixed)
            images, labels = next(iter(training_batches(split, 8, answers=answers, **options)))
            np.testing.assert_allclose(
                labels[..., 1:], model(images, training=False), rtol=1e-4, atol=1e-5
            )
            _, masks = next(iter(training_batches(split, 8, **options)))
            np.testing.assert_array_equal(labels[..., :1], masks)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_mixed_precision(teacher, rng):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = Nano_U(filters=(2, 4), bottleneck=4)
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile("adam", DistillationLoss())
    split = synthetic_splits().val
    answers = Answers(keras.saving.load_model(teacher, compile=False), split, fixed=True)
    history = model.fit(batches(split, 16, answers), epochs=2, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def behind_sigmoid(model):
    return keras.Model(model.inputs, keras.ops.sigmoid(model.output))


def test_a_teacher_behind_its_sigmoid_teaches_like_its_logits(tmp_path, teacher, rng):
    student, val = Nano_U(filters=(2, 4), bottleneck=4), synthetic_splits().val
    split = Split(val.images[:16], val.masks[:16], val.names[:16])
    behind_sigmoid(keras.saving.load_model(teacher, compile=False)).save(tmp_path / "twin.keras")
    before, behind = (read_teacher(p, student) for p in (teacher, tmp_path / "twin.keras"))
    assert not behind.trainable and not behind.trainable_weights
    assert probe_names(behind) == probe_names(before) != []
    student.compile(loss=DistillationLoss(0.9))
    for fixed in (True, False):
        answers = [Answers(model, split, fixed=fixed) for model in (before, behind)]
        images = scale(split.images[:8])
        np.testing.assert_allclose(*(a(images, np.arange(8)) for a in answers), atol=1e-4)
        losses = [student.evaluate(batches(split, 16, a), verbose=0) for a in answers]
        assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    raw = keras.saving.load_model(tmp_path / "twin.keras", compile=False)
    wrong = student.evaluate(batches(split, 16, Answers(raw, split, fixed=True)), verbose=0)
    assert abs(wrong - losses[0]) > 1e-3


def test_a_teacher_that_does_not_tell_what_it_puts_out_needs_the_option(tmp_path, teacher):
    loaded = keras.saving.load_model(teacher)
    keras.Model(loaded.inputs, keras.ops.relu(loaded.output)).save(tmp_path / "relu.keras")
    folder = tmp_path / "run"
    overrides = {"distillation": {"teacher": str(tmp_path / "relu.keras")}}
    overrides["output"] = {"folder": str(folder)}
    message = "it ends in relu.*: give distillation.teacher_outputs: logits if"
    with pytest.raises(ValueError, match=message):
        prepare(read_config(None, overrides))
    assert not folder.exists()
    overrides["distillation"]["teacher_outputs"] = "probabilities"
    taught = prepare(read_config(None, overrides)).teacher
    images = scale(synthetic_splits().val.images[:2])
    clipped = np.clip(loaded.predict(images, verbose=0), 2**-24, 1 - 2**-24)
    np.testing.assert_allclose(
        taught.predict(images, verbose=0), np.log(clipped / (1 - clipped)), atol=1e-4
    )


@pytest.mark.filterwarnings("ignore:You are using a softmax")
def test_a_teacher_with_a_softmax_over_one_channel_is_refused(tmp_path, teacher):
    student, loaded = Nano_U(filters=(2, 4), bottleneck=4), keras.saving.load_model(teacher)
    outputs = keras.layers.Softmax()(loaded.output)
    keras.Model(loaded.inputs, outputs).save(tmp_path / "softmax.keras")
    with pytest.raises(ValueError, match="softmax over one channel"):
        read_teacher(tmp_path / "softmax.keras", student, "probabilities")


def test_a_teacher_of_one_output_in_a_dict_teaches(tmp_path, teacher):
    student, loaded = Nano_U(filters=(2, 4), bottleneck=4), keras.saving.load_model(teacher)
    keras.Model(loaded.inputs, {"main": loaded.output}).save(tmp_path / "dict.keras")
    assert read_teacher(tmp_path / "dict.keras", student).output_shape == student.output_shape


def test_teachers_that_do_not_fit_are_refused(tmp_path, teacher):
    student = Nano_U(filters=(2, 4), bottleneck=4)
    assert not read_teacher(teacher, student).trainable
    Nano_U((24, 32, 3)).save(tmp_path / "small.keras")
    with pytest.raises(ValueError, match=r"input_shape \(None, 24, 32, 3\), the student"):
        read_teacher(tmp_path / "small.keras", student)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_teacher(tmp_path / "none", student)
    with pytest.raises(FileNotFoundError, match="did not end"):
        read_teacher(tmp_path, student)
    (tmp_path / "text.keras").write_text("no model")
    with pytest.raises(ValueError, match="is not a .keras file"):
        read_teacher(tmp_path / "text.keras", student)
