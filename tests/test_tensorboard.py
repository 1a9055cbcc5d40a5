"""Read back by TensorBoard's own reader."""

import io

import keras
import numpy as np
import pytest
from conftest import grouped_units
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monitoring.loggers.tensorboard import TensorBoardLogger, draw_correlation, likeness_order
from monitoring.records.measurement import Measurement, summarise
from monitoring.records.record import METRIC_COLUMNS


def record_of(x, epoch, step):
    return summarise(
        Measurement(grouped_units(x[:, None]), "probe_bottleneck", "images", epoch, step)
    )


def test_scalars_and_images(rng, tmp_path):
    logger = TensorBoardLogger(tmp_path / "tensorboard", image_frequency=2)
    pairs = [
        record_of(rng.normal(size=(640, 6)), epoch, 10 * epoch + 10) for epoch in (-1, 0, 1, 2)
    ]
    for record, snapshot in pairs:
        logger.write(record, snapshot)
    logger.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    defined = {name for name in METRIC_COLUMNS if not np.isnan(getattr(pairs[0][0], name))}
    assert set(tags["scalars"]) == {f"{name}/bottleneck" for name in defined}
    scalars = events.Scalars("effective_rank/bottleneck")
    assert [scalar.step for scalar in scalars] == [0, 10, 20, 30]
    found = [scalar.value for scalar in scalars]
    assert found == pytest.approx([record.effective_rank for record, _ in pairs])
    assert set(tags["images"]) == {"spectrum/bottleneck", "correlation/bottleneck"}
    images = events.Images("correlation/bottleneck")
    assert [image.step for image in images] == [0, 20]
    picture = Image.open(io.BytesIO(images[0].encoded_image_string))
    assert picture.size == (images[0].width, images[0].height) == (252, 252)


def test_nothing_is_written_before_the_first_record(tmp_path):
    TensorBoardLogger(tmp_path / "tensorboard").close()
    assert not (tmp_path / "tensorboard").exists()


def test_channels_that_say_the_same_stand_together(rng):
    x = rng.normal(size=(640, 4))
    x = np.concatenate([x, -x[:, ::-1]], axis=1)
    _, snapshot = record_of(x, 0, 0)
    order = likeness_order(np.abs(snapshot.correlation))
    assert sorted(order) == list(range(8))
    places = {channel: place for place, channel in enumerate(order)}
    assert all(abs(places[channel] - places[7 - channel]) == 1 for channel in range(4))
    picture = draw_correlation(snapshot.correlation)
    dark = (picture[::32, ::32] == [20, 40, 110]).all(axis=-1)
    np.testing.assert_array_equal(dark, np.kron(np.eye(4), np.ones((2, 2))).astype(bool))


def test_early_stopping_on_redundancy(rng, tmp_path):
    from monitoring import NASMonitorCallback

    x = rng.normal(size=(64, 4)).astype("float32")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3, name="wide")(inputs))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    monitor = NASMonitorCallback(x, ["wide"], log_dir=tmp_path)
    stop = keras.callbacks.EarlyStopping(monitor="redundancy", mode="min", patience=2)
    log = keras.callbacks.CSVLogger(tmp_path / "history.csv")
    callbacks = [monitor, stop, log]
    NASMonitorCallback.check_order(callbacks)
    history = model.fit(x, x[:, :3], epochs=20, verbose=0, callbacks=callbacks)
    assert len(history.epoch) == 3
    assert "redundancy/wide" in (tmp_path / "history.csv").read_text().splitlines()[0]
    assert list((tmp_path / "tensorboard").iterdir())
    for early in ([stop, monitor], [log, monitor], [stop, log, monitor]):
        with pytest.raises(ValueError, match="Expected NASMonitorCallback before"):
            NASMonitorCallback.check_order(early)


def test_what_is_recorded_is_on_disk_before_the_writer_is_closed(tmp_path, rng):
    """A kill must not take events with it whose records a checkpoint counts on."""
    logger = TensorBoardLogger(tmp_path)
    record, snapshot = record_of(rng.normal(size=(640, 6)), 0, 10)
    logger.write(record, snapshot)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [event.step for event in events.Scalars("trace/bottleneck")] == [10]
    logger.close()
