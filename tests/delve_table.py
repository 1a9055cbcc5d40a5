"""Prints Delve's saturation beside ours on the same activations.

`python tests/delve_table.py [MODEL.keras DATA]`: on activations drawn with a known answer and,
with a trained zoo model with probes, on what its probes see of DATA's test images.
docs/accuracy.md quotes it.

Delve's number is computed from the definition that version 0.1.50 publishes
(https://github.com/delve-team/delve, delve/metrics.py and torch_utils.py): covariance from raw
sums in float64; the eigenvalues whose cumulative share stays under 99 %, at least one, and one
more where their share is more than two points short; divided by the channels.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import checkout  # noqa: F401
import numpy as np
from jackknife_table import measure


def delve_dimension(samples: np.ndarray) -> int:
    """Delve 0.1.50's intrinsic dimension of samples (samples, channels)."""
    samples = samples.astype(np.float64)
    mean = samples.sum(axis=0) / len(samples)
    covariance = samples.T @ samples / len(samples) - np.outer(mean, mean)
    eigenvalues = np.maximum(np.linalg.eigvalsh(covariance)[::-1], 0)
    explained = eigenvalues.cumsum() / eigenvalues.sum()
    below = explained[explained < 0.99]
    if not len(below):
        return 1
    return len(below) + int(0.99 - below[-1] > 0.02)


def drawn() -> Iterator[tuple[str, np.ndarray]]:
    """Yields cases with the answer in their name."""
    rng = np.random.default_rng(0)
    signals = rng.normal(size=(64, 25, 40, 64))
    sixteen = signals[..., :16]
    mixing = np.random.default_rng(1).normal(size=(8, 64))
    yield "8 signals mixed into 64 channels", signals[..., :8] @ mixing
    halves = signals[..., :32]
    yield "32 channels and a copy of each", np.concatenate([halves, halves], axis=-1)
    yield "16 independent channels", sixteen
    yield "the same, one 40 times as large", sixteen * np.where(np.arange(16) == 3, 40, 1)
    yield "the same, 4 dead", sixteen * (np.arange(16) >= 4)
    yield "64 independent channels, 64,000 samples", signals
    yield "the same, 64 samples", signals[:, :1, :1]
    skewed = np.maximum(signals[..., :8] @ mixing / 3 + 0.3 * signals, 0)
    yield "8 signals in 64 channels, a tenth noise, after a ReLU", skewed


def seen(model_file: str, data: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yields what each probe of a trained model sees of the test images."""
    import keras

    from models import probe_names, side_model
    from training.data import scale
    from training.images import read_splits

    model = keras.models.load_model(model_file)
    images = scale(read_splits(Path(data), model.input_shape[1:3]).test.images)
    for name in probe_names(model):
        activations = side_model(model, [name]).predict(images, verbose=0)[name]
        yield f"trained {model.name}, {name.removeprefix('probe_')}", activations


def main() -> None:
    cases = [*drawn(), *(seen(*sys.argv[1:]) if len(sys.argv) == 3 else ())]
    print("| activations | channels | Delve | saturation | in use | redundancy | verdict |")
    print("|---|---|---|---|---|---|---|")
    for name, activations in cases:
        record = measure(activations)
        dimension = delve_dimension(activations.reshape(-1, record.channels))
        half = (record.effective_rank_high - record.effective_rank_low) / 2
        print(
            f"| {name} | {record.channels} | {dimension} | {dimension / record.channels:.2f} "
            f"| {record.effective_rank:.1f} ± {half:.1f} | {record.redundancy_score:.3f} "
            f"| {record.verdict}{f', {record.dead_channels} dead' * (record.dead_channels > 0)} |"
        )


if __name__ == "__main__":
    main()
