"""Prints how often the jackknife's intervals hold the truth: `python tests/jackknife_table.py`.

Each row is a kind of activations whose redundancy is known, drawn anew 200 times, and measured
as the monitor measures images. docs/accuracy.md quotes it.
"""

import sys
from collections.abc import Callable

import checkout  # noqa: F401
import numpy as np
from scipy.ndimage import gaussian_filter

from monitoring.records.measurement import Measurement, summarise
from monitoring.statistics.covariance import measure_batch, to_host
from monitoring.statistics.grouped import GroupedCovariance
from monitoring.statistics.structure import effective_rank, redundancy_score


def mixing(channels: int) -> np.ndarray:
    """Returns a fixed matrix: the correlation that it makes is known without drawing any."""
    rotation, _ = np.linalg.qr(np.random.default_rng(9).normal(size=(channels, channels)))
    return np.sqrt(np.linspace(3, 0.05, channels))[:, None] * rotation


MIXING, MIXING_128 = mixing(16), mixing(128)
Draw = Callable[[np.random.Generator], np.ndarray]


def independent(images: int, height: int, width: int, channels: int) -> Draw:
    return lambda rng: rng.normal(size=(images, height, width, channels))


def smoothed(images: int, height: int, width: int, channels: int) -> Draw:
    """Neighbouring positions are alike, as in any image."""
    return lambda rng: gaussian_filter(
        rng.normal(size=(images, height, width, channels)), (0, 1.5, 1.5, 0), mode="wrap"
    )


def with_offset(draw: Draw, images: int, channels: int) -> Draw:
    """Half of the variance lies between images: an offset each, or one for all channels."""
    return lambda rng: draw(rng) + rng.normal(size=(images, 1, 1, channels))


def mixed(draw: Draw, matrix: np.ndarray = MIXING) -> Draw:
    return lambda rng: draw(rng) @ matrix


def truth(covariance: np.ndarray) -> tuple[float, float]:
    """Returns redundancy and effective rank of a covariance that is known."""
    deviations = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(deviations, deviations)
    return redundancy_score(correlation), effective_rank(np.linalg.eigvalsh(correlation))


plain, smooth = independent(64, 5, 10, 16), smoothed(64, 15, 20, 16)
ALONE, MIXED = truth(np.eye(16)), truth(MIXING.T @ MIXING)
CASES: dict[str, tuple[Draw, tuple[float, float]]] = {
    "independent, 64 images of 5x10x16": (plain, ALONE),
    "independent, 64 of 1x2x16": (independent(64, 1, 2, 16), ALONE),
    "smoothed, 64 of 15x20x16": (smooth, ALONE),
    "own offset, 64 of 5x10x16": (with_offset(plain, 64, 16), ALONE),
    "one offset for all channels, 64 of 5x10x16": (
        with_offset(plain, 64, 1),
        truth(np.eye(16) + np.ones((16, 16))),
    ),
    "independent, 64 of 5x10x64": (independent(64, 5, 10, 64), truth(np.eye(64))),
    "independent, 64 of 5x10x128": (independent(64, 5, 10, 128), truth(np.eye(128))),
    "mixed, 64 of 5x10x128": (
        mixed(independent(64, 5, 10, 128), MIXING_128),
        truth(MIXING_128.T @ MIXING_128),
    ),
    "independent, 8 of 5x10x16": (independent(8, 5, 10, 16), ALONE),
    "mixed, 64 of 5x10x16": (mixed(plain), MIXED),
    "mixed, 64 of 1x2x16": (mixed(independent(64, 1, 2, 16)), MIXED),
    "mixed and smoothed, 64 of 15x20x16": (mixed(smooth), MIXED),
    "mixed, own offset, 64 of 5x10x16": (mixed(with_offset(plain, 64, 16)), MIXED),
    "mixed, 16 of 5x10x16": (mixed(independent(16, 5, 10, 16)), MIXED),
    "mixed, 8 of 5x10x16": (mixed(independent(8, 5, 10, 16)), MIXED),
    **{
        f"mixed, own offset, {images} of 5x10x16": (
            mixed(with_offset(independent(images, 5, 10, 16), images, 16)),
            MIXED,
        )
        for images in (16, 32)
    },
    **{
        f"own offset, {images} of 3x4x64": (
            with_offset(independent(images, 3, 4, 64), images, 64),
            truth(np.eye(64)),
        )
        for images in (64, 256, 1024)
    },
}


def measure(images: np.ndarray):
    """Returns the record of activations (images, height, width, channels)."""
    samples = images.reshape(len(images), -1, images.shape[-1])
    grouped = GroupedCovariance(images.shape[-1])
    grouped.add_units(to_host(measure_batch(samples)))
    return summarise(Measurement(grouped, "probe", "images", epoch=0, step=0))[0]


def row(draw: Draw, redundancy: float, rank: float, draws: int) -> list[float]:
    """Measures `draws` draws; returns the columns of the table."""
    values = []
    for seed in range(draws):
        record = measure(draw(np.random.default_rng(seed)))
        values.append(
            (
                record.redundancy_plugin,
                record.redundancy_score,
                record.redundancy_low <= redundancy <= record.redundancy_high,
                record.redundancy_high - record.redundancy_low,
                record.effective_rank,
                record.effective_rank_low <= rank <= record.effective_rank_high,
                record.verdict != "ok",
            )
        )
    return [redundancy, *np.mean(values, axis=0)[:4], rank, *np.mean(values, axis=0)[4:]]


def main() -> None:
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(
        "| activations | redundancy | plug-in | corrected | held | width "
        "| rank | corrected | held | too few |"
    )
    print("|---|" + "---|" * 9)
    forms = (
        "{:.3f}",
        "{:.3f}",
        "{:.3f}",
        "{:.3f}",
        "{:.3f}",
        "{:.2f}",
        "{:.2f}",
        "{:.3f}",
        "{:.3f}",
    )
    for name, (draw, known) in CASES.items():
        cells = [form.format(v) for form, v in zip(forms, row(draw, *known, draws), strict=True)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
