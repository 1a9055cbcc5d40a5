"""The monitor in real trainings of both networks, through `train` and through `fit`."""

import gc
import json
from functools import partial

import keras
import numpy as np
import pandas as pd
import pytest
from conftest import draw_image_folder

from models import MODELS, probe_names, side_model
from monitoring import NASMonitorCallback
from train import train

GROUPS = ("encoder", "bottleneck", "decoder")
WIDTHS = {"nano_u": "filters: [4, 8, 16]", "bu_net": "filters: [8], bottleneck: 8"}


@pytest.fixture
def run(image_folder, tmp_path):
    """Trains a small network on a small folder, into a folder of the given name."""
    return partial(start, image_folder, tmp_path)


def start(images, root, name, folder, **options):
    config = root / f"{name}.yaml"
    config.write_text(
        f"model: {{name: {name}, input_size: [24, 32], {WIDTHS[name]}}}\n"
        f"data: {{root: '{images}'}}\n"
        "training: {epochs: 3, batch_size: 4}\n"
        "nas: {monitor_images: 5}\n"
    )
    options = {"config": config, "output": root / folder, "verbose": 0} | options
    model, history = train(**options)
    return model, history, root / folder


@pytest.fixture(scope="module", params=MODELS)
def trainings(request, tmp_path_factory):
    """The same training without a monitor, with one, and with one again."""
    root = tmp_path_factory.mktemp(request.param)
    begin = partial(start, draw_image_folder(root / "images"), root, request.param)
    return (
        begin("plain"),
        begin("watched", enable_nas_monitoring=True),
        begin("again", probes=GROUPS[:2], nas_config={}),
    )


def rows(folder):
    """Returns monitor.jsonl without what a clock has written."""
    lines = (folder / "monitor.jsonl").read_text().splitlines()
    return [json.dumps({**json.loads(line), "seconds": 0}) for line in lines]


def assert_same_weights(one, other):
    for a, b in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)


def test_train_with_monitoring(trainings):
    model, history, folder = trainings[1]
    probes = probe_names(model)
    assert probes[-1] == "probe_bottleneck"
    table = pd.read_csv(folder / "monitor.csv")
    assert table.probe.tolist() == probes * 4
    assert table.epoch.tolist() == sorted([-1, 0, 1, 2] * len(probes))
    assert table.step.tolist() == sorted([0, 2, 4, 6] * len(probes))
    assert set(table.images) == {5}
    widths = [model.get_layer(name).output.shape[-1] for name in probes]
    assert table.channels.tolist() == widths * 4
    means = table[table.epoch >= 0].groupby("epoch").redundancy_score.mean()
    np.testing.assert_allclose(history.history["redundancy"], means, rtol=1e-12)
    np.testing.assert_allclose(pd.read_csv(folder / "history.csv").redundancy, means, rtol=1e-12)


def test_monitoring_leaves_no_trace_on_the_training(trainings):
    (plain, without, folder), (watched, with_it, watched_folder), _ = trainings
    assert_same_weights(plain, watched)
    history = dict(with_it.history)
    added = [name for name in history if name.startswith("redundancy")]
    assert added[0] == "redundancy"
    assert all(len(history.pop(name)) == 3 for name in added)
    assert history == without.history
    assert not (folder / "monitor.csv").exists()
    evaluations = [
        json.loads((path / "evaluation.json").read_text()) for path in (folder, watched_folder)
    ]
    assert evaluations[0]["monitoring_seconds"] == 0 < evaluations[1]["monitoring_seconds"]
    assert evaluations[0]["miou"] == evaluations[1]["miou"]


def test_the_same_seed_writes_the_same_records(trainings):
    first, second = (rows(folder) for _, _, folder in trainings[1:])
    assert first == second
    assert len(set(first)) == len(first) == 4 * len(probe_names(trainings[1][0]))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_records_of_fit_agree_with_numpy_on_the_final_activations(name, rng):
    keras.utils.set_random_seed(0)
    model = MODELS[name]((24, 32, 3), filters=(6, 8), bottleneck=10, enable_probes=GROUPS)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    images = rng.uniform(-1, 1, (40, 24, 32, 3)).astype("float32")
    monitor = NASMonitorCallback(images, max_positions=None)
    model.fit(images, images[..., :1] > 0, epochs=1, verbose=0, callbacks=[monitor])
    assert [record.probe for record in monitor.records] == probe_names(model) * 2
    for record in monitor.records[len(probe_names(model)) :]:
        activations = side_model(model, [record.probe]).predict(images, verbose=0)[record.probe]
        samples = activations.reshape(-1, record.channels).astype(np.float64)
        live = samples.std(axis=0) > 1e-4 * samples.std()
        correlation = np.corrcoef(samples[:, live], rowvar=False)
        energy = np.square(correlation).sum()
        assert record.samples == len(samples)
        assert record.redundancy_plugin == pytest.approx(1 - live.sum() / energy, rel=1e-4)
        shares = np.linalg.eigvalsh(correlation) / live.sum()
        shares = shares[shares > 0]
        entropy = -(shares * np.log(shares)).sum()
        assert record.effective_rank_low < record.effective_rank < record.effective_rank_high
        assert record.effective_rank == pytest.approx(np.exp(entropy), rel=0.02)
        assert record.trace == pytest.approx(samples.var(axis=0, ddof=1).sum(), rel=1e-4)


@pytest.mark.slow
def test_a_given_callback_is_used_as_it_is(run, tmp_path):
    images = np.zeros((3, 24, 32, 3), np.float32) + np.linspace(-1, 1, 3)[:, None, None, None]
    monitor = NASMonitorCallback(images, log_frequency=2, log_dir=tmp_path / "elsewhere")
    _, history, folder = run("nano_u", "run", probes=["bottleneck"], nas_callback=monitor)
    assert [(record.probe, record.epoch) for record in monitor.records] == [
        *(("probe_bottleneck", -1), ("probe_bottleneck", 1)),
    ]
    assert len(history.history["redundancy"]) == 3
    assert (tmp_path / "elsewhere" / "monitor.csv").is_file()
    assert not (folder / "monitor.csv").exists()


def test_nas_config_and_nas_callback_exclude_each_other(run):
    with pytest.raises(ValueError, match="not both"):
        run("nano_u", "run", nas_config={}, nas_callback=NASMonitorCallback(np.ones((1, 2))))


@pytest.mark.slow
def test_nas_config_has_the_keys_of_the_configuration(run):
    _, history, folder = run("nano_u", "run", nas_config={"log_frequency": 3, "monitor_images": 2})
    table = pd.read_csv(folder / "monitor.csv")
    assert set(table.epoch) == {-1, 2}
    assert set(table.images) == {2}
    with pytest.raises(ValueError, match="nas.log_freq: unknown key, did you mean log_frequency"):
        run("nano_u", "other", nas_config={"log_freq": 3})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # Keras' CSVLogger
def test_an_exception_in_fit_detaches_the_monitor(run):
    class Fails:
        closed = False

        def write(self, record, snapshot):
            raise RuntimeError("full disk")

        def close(self):
            Fails.closed = True

    monitor = NASMonitorCallback(np.zeros((2, 24, 32, 3)), loggers=[Fails()])
    with pytest.raises(RuntimeError, match="full disk"):
        run("nano_u", "run", nas_callback=monitor)
    assert Fails.closed
    gc.collect()
