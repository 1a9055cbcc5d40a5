"""What each rule says of a trained run's widths: the tables in docs/notes/width_rules.md.

python tests/rules_table.py RUN DATA; a run of train.py with probes.
"""

import sys
from collections.abc import Mapping

import checkout  # noqa: F401
import keras
import numpy as np
import tensorflow as tf

from monitoring.records.reading import read_run
from monitoring.statistics.grouped import GroupedCovariance
from monitoring.statistics.structure import channel_structure, effective_rank
from monitoring.taps.images_tap import ImagesTap
from monitoring.taps.watched import Watched
from training.data import draw_images, scale
from training.images import read_splits
from training.split import Split

IMAGES = 128  # of the training split


def participation(eigenvalues: np.ndarray) -> float:
    return float(eigenvalues.sum() ** 2 / np.square(eigenvalues).sum())


def explained(eigenvalues: np.ndarray, share: float = 0.99) -> int:
    falling = np.sort(eigenvalues)[::-1]
    return int(np.searchsorted(np.cumsum(falling) / falling.sum(), share) + 1)


def spectra(grouped: GroupedCovariance) -> tuple[np.ndarray, np.ndarray]:
    """Returns eigenvalues of the covariance and of the correlation."""
    total = grouped.total()
    correlation = channel_structure(total).correlation
    live = np.isfinite(np.diag(correlation))
    return (
        np.linalg.eigvalsh(total.covariance()),
        np.linalg.eigvalsh(correlation[np.ix_(live, live)]),
    )


def loss_weighted(
    model: keras.Model, probes: list[str], split: Split, covariances: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns eigenvalues of C^1/2 G C^1/2, G the second moment of the loss' gradient."""
    moments = {name: np.zeros_like(covariances[name]) for name in probes}
    outputs = [model.get_layer(name).output for name in probes]
    both = keras.Model(model.input, [*outputs, model.output])
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    chosen = np.random.default_rng(0).permutation(len(split.images))[:IMAGES]
    for part in np.split(chosen, range(16, len(chosen), 16)):
        images = tf.convert_to_tensor(scale(split.images[part]))
        with tf.GradientTape() as tape:
            tape.watch(images)
            *seen, logits = both(images, training=False)
            value = loss(split.masks[part].reshape(logits.shape), logits)
        for name, gradient in zip(probes, tape.gradient(value, seen), strict=True):
            rows = np.asarray(gradient, np.float64).reshape(-1, gradient.shape[-1])
            moments[name] += rows.T @ rows
    found = {}
    for name in probes:
        values, vectors = np.linalg.eigh(covariances[name])
        root = vectors @ np.diag(np.sqrt(np.clip(values, 0, None))) @ vectors.T
        found[name] = np.clip(np.linalg.eigvalsh(root @ moments[name] @ root), 0, None)
    return found


def main(folder: str, data: str) -> None:
    run = read_run(folder)
    probes = list(run.records)
    model = keras.saving.load_model(run.folder / "model.keras", compile=False)
    splits = read_splits(data, tuple(run.config["model"]["input_size"]))
    images = draw_images(splits.train, IMAGES, run.config["training"]["seed"])
    norms = {
        probe: model.get_layer(probe).input._keras_history.operation.input._keras_history[0].name
        for probe in probes
    }
    measured = ImagesTap(Watched(model, probes)).measure(images)
    before = ImagesTap(Watched(model, list(norms.values()))).measure(images)
    covariances = {name: grouped.total().covariance() for name, grouped in measured.items()}
    weighted = loss_weighted(model, probes, splits.train, covariances)
    for probe in probes:
        covariance, correlation = spectra(measured[probe])
        before_covariance, before_correlation = spectra(before[norms[probe]])
        said = {
            "channels": len(covariance),
            "effective rank": effective_rank(correlation),
            "participation ratio": participation(correlation),
            "99 % of variance": explained(covariance),
            "eigenvalues over 1": int((correlation > 1).sum()),
            "effective rank before the ReLU": effective_rank(before_correlation),
            "99 % of variance before it": explained(before_covariance),
            "effective rank weighted by the loss": effective_rank(weighted[probe]),
        }
        print(probe, *(f"{name}: {value:.4g}" for name, value in said.items()), sep="  ")


if __name__ == "__main__":
    main(*sys.argv[1:3])
