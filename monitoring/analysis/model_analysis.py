"""What the channels of any loaded model do on given images, without training."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from ..loggers.console import print_table
from ..records.measurement import Measurement, summarise
from ..records.record import ProbeRecord, ProbeSnapshot
from ..taps.images_tap import ImagesTap
from ..taps.watched import Watched
from .advice import DEFAULT_RULE, WidthAdvice, advise_widths
from .check import TOLERANCE, Check, checked_points, enforce_tolerance
from .projection import projection_check
from .single_output import single_output
from .tables import advice_table, check_table


@dataclass(frozen=True)
class Analysis:
    """Measurements of a model, and advice on it. `str(analysis)` is the text of all of it.

    Attributes:
        measurements: (record, snapshot) of each layer.
        images: Number of images measured.
        rule: The rule that the advice follows.
        multiple: What widths were rounded up to.
        advice: A width for each layer.
        check: Its projection check.
        output: The folder that was written; None: none.
    """

    measurements: Sequence[tuple[ProbeRecord, ProbeSnapshot]]
    images: int
    rule: str
    multiple: int
    advice: Sequence[WidthAdvice]
    check: Check
    output: Path | None = None

    @property
    def records(self) -> list[ProbeRecord]:
        """Each layer's record."""
        return [record for record, _ in self.measurements]

    def __str__(self) -> str:
        """Returns the table of measurements, the advice and the check."""
        text = io.StringIO()
        print_table(self.records, text)
        return f"{text.getvalue()}\n{advice_table(self.advice)}\n{check_table(self.check)}"


def halves(count: int) -> tuple[slice, slice]:
    """Splits images into two halves: one for the directions, one to score.

    Every second image gives the principal directions, the others are scored; a single image
    does both.

    Example:
        >>> directions, scored = halves(5)
        >>> list(range(5))[directions], list(range(5))[scored]
        ([0, 2, 4], [1, 3])
    """
    return slice(0, None, 2), slice(1 if count > 1 else 0, None, 2)


def analyze_model(
    model: keras.Model,
    images: np.ndarray,
    layers: Sequence[str] | None = None,
    *,
    rule: str = DEFAULT_RULE,
    multiple: int = 4,
    tolerance: float = TOLERANCE,
    evaluate: Callable[[keras.Model], float] | None = None,
    score: str = "agreement",
    data_format: str | None = None,
    max_positions: int | None = 400,
) -> Analysis:
    """Measures a model, advises and checks, and writes nothing; see `monitoring.analyze`."""
    points = checked_points(tolerance)
    watched = Watched(model, layers, data_format, max_positions)
    directions, scored = halves(len(images))
    evaluate = evaluate or agreement(model, images[scored])
    measured = ImagesTap(watched).measure(images)
    measurements = [
        summarise(Measurement(grouped, name, "images", epoch=0, step=0))
        for name, grouped in measured.items()
    ]
    advice: Sequence[WidthAdvice] = advise_widths(
        {record.probe: [record] for record, _ in measurements}, multiple=multiple, rule=rule
    )
    widths = {width.probe: width.suggested for width in advice if not width.keep}
    covariances = ImagesTap(watched).measure(images[directions]) if widths else {}

    def run_check(widths: Mapping[str, int]) -> Check:
        narrowed = Watched(model, list(widths), data_format, max_positions)
        return projection_check(
            narrowed, {name: covariances[name] for name in widths}, evaluate, widths, score=score
        )

    if widths:
        advice, check = enforce_tolerance(advice, run_check(widths), points, run_check)
    else:
        check = Check(score, evaluate(model), [])
    return Analysis(measurements, len(images), rule, multiple, advice, check)


def agreement(model: keras.Model, images: np.ndarray) -> Callable[[keras.Model], float]:
    """Returns a function that scores how close another model's outputs are to this model's.

    1: equal outputs. 0: as far off as the mean output. Negative: further off.

    Raises:
        ValueError: The model has several outputs.
    """
    outputs = single_output(model, model.predict(images, verbose=0))
    spread = np.linalg.norm(outputs - outputs.mean(axis=0))

    def score(other: keras.Model) -> float:
        others = single_output(other, other.predict(images, verbose=0))
        distance = np.linalg.norm(others - outputs)
        return float(1 - distance / spread) if spread else float(distance == 0)

    return score
