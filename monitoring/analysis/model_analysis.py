"""What the channels of any loaded model do on given images, without training."""

import io
from collections.abc import Callable, Sequence
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
from .ladder import Ladder
from .tables import advice_table, ladder_table


@dataclass(frozen=True)
class Analysis:
    """Measurements of a model, and advice on it. `str(analysis)` is the text of all of it.

    Attributes:
        measurements: (record, snapshot) of each layer.
        images: Number of images measured.
        rule: The rule that the advice follows.
        multiple: What widths were rounded up to.
        advice: A width for each layer.
        ladder: What cutting the model costs; None where it was not measured.
        output: The folder that was written; None: none.
    """

    measurements: Sequence[tuple[ProbeRecord, ProbeSnapshot]]
    images: int
    rule: str
    multiple: int
    advice: Sequence[WidthAdvice]
    ladder: Ladder | None = None
    output: Path | None = None

    @property
    def records(self) -> list[ProbeRecord]:
        """Each layer's record."""
        return [record for record, _ in self.measurements]

    def __str__(self) -> str:
        """Returns the table of measurements, the advice and the ladder."""
        text = io.StringIO()
        print_table(self.records, text)
        parts = [text.getvalue(), advice_table(self.advice)]
        if self.ladder is not None:
            in_use = {record.probe: record.effective_rank for record in self.records}
            parts.append(ladder_table(self.ladder, in_use))
        return "\n".join(parts)


def analyze_model(
    model: keras.Model,
    images: np.ndarray,
    layers: Sequence[str] | None = None,
    *,
    rule: str = DEFAULT_RULE,
    multiple: int = 4,
    data_format: str | None = None,
    max_positions: int | None = 400,
    ladder: Callable[[], Ladder] | None = None,
) -> Analysis:
    """Measures a model and advises, and writes nothing; see `monitoring.analyze`."""
    watched = Watched(model, layers, data_format, max_positions)
    measured = ImagesTap(watched).measure(images)
    measurements = [
        summarise(Measurement(grouped, name, "images", epoch=0, step=0))
        for name, grouped in measured.items()
    ]
    advice = advise_widths(
        {record.probe: [record] for record, _ in measurements}, multiple=multiple, rule=rule
    )
    cuts = None if ladder is None else ladder()
    return Analysis(measurements, len(images), rule, multiple, advice, cuts)
