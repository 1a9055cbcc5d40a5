"""Prints the largest errors against NumPy in float64: `python tests/accuracy_table.py`.

The same float32 activations, (200, 3, 4, 16), mixed so that their channels are correlated, go
through each way the monitor accumulates, in many splits and orders of batches. The reference
is a two-pass computation in float64. docs/accuracy.md quotes it.
"""

import checkout  # noqa: F401
import keras
import numpy as np

from models import Probe
from monitoring import NASMonitorCallback, RunningCovariance, channel_metrics
from monitoring.statistics.structure import effective_rank, redundancy_score

SPLITS = 30


def activations(mean: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3, 4, 16)) @ rng.normal(size=(16, 16))
    x *= np.geomspace(0.01, 100, 16)  # channels of very different scales
    return (x + mean * x.std(axis=(0, 1, 2))).astype(np.float32)


def reference(x: np.ndarray) -> dict[str, float | np.ndarray]:
    covariance = np.cov(x.reshape(-1, 16).astype(np.float64), rowvar=False)
    deviations = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(deviations, deviations)
    return {
        "covariance": covariance,
        "trace": np.trace(covariance),
        "redundancy": redundancy_score(correlation),
        "rank": effective_rank(np.linalg.eigvalsh(correlation)),
    }


def by_hand(x: np.ndarray):
    """Yields what RunningCovariance finds, for many splits and orders."""
    rng = np.random.default_rng(1)
    for split in range(SPLITS):
        order = rng.permutation(len(x))
        cuts = np.sort(rng.choice(np.arange(1, len(x)), size=split, replace=False))
        running = RunningCovariance(16)
        for part in np.split(x[order], cuts):
            running.update(part)
        metrics = channel_metrics(running)
        yield {
            "covariance": running.covariance(),
            "trace": metrics.trace,
            "redundancy": metrics.redundancy_score,
            "rank": metrics.effective_rank,
        }


def by_callback(x: np.ndarray, source: str):
    """Yields what the callback records, for several batch sizes, in the order that fit shuffles."""
    for batch_size in (1, 3, 7, 16, 50, 200):
        inputs = keras.Input(x.shape[1:])
        seen = Probe(name="probe_seen")(inputs)
        output = keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(seen))
        model = keras.Model(inputs, output)
        model.compile(keras.optimizers.SGD(0.0), "mse")
        images = x if source == "images" else None
        monitor = NASMonitorCallback(images, loggers=[])
        options = {"batch_size": batch_size, "epochs": 1, "verbose": 0, "callbacks": [monitor]}
        model.fit(x, np.zeros((len(x), 1)), **options)
        record = monitor.records[-1]
        yield {"trace": record.trace, "redundancy": record.redundancy_plugin}


def error(found, expected) -> float:
    """Relative; of a covariance, relative to the two channels' deviations."""
    if np.ndim(expected):
        deviations = np.sqrt(np.diag(expected))
        return float(np.abs((found - expected) / np.outer(deviations, deviations)).max())
    return abs(found - expected) / abs(expected)


def main() -> None:
    print("| | mean / deviation | covariance | trace | redundancy | rank |")
    print("|---|---|---|---|---|---|")
    for mean in (1.0, 1e2, 1e4):
        x = activations(mean)
        expected = reference(x)
        ways = {
            f"RunningCovariance, {SPLITS} splits": by_hand(x),
            "callback, images": by_callback(x, "images"),
            "callback, batches of 6 sizes": by_callback(x, "batches"),
        }
        for name, results in ways.items():
            worst: dict[str, float] = {}
            for result in results:
                for key, value in result.items():
                    worst[key] = max(worst.get(key, 0.0), error(value, expected[key]))
            columns = ("covariance", "trace", "redundancy", "rank")
            cells = [f"{worst[key]:.0e}" if key in worst else "" for key in columns]
            print(f"| {name} | {mean:.0e} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
