"""`monitoring.analyze`: what the channels of any loaded model do, written into a folder."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np

from ..analysis.advice import DEFAULT_RULE
from ..analysis.advice_file import SavedAdvice, write_json
from ..analysis.ladder import Ladder, ladder_values
from ..analysis.model_analysis import Analysis, analyze_model
from ..loggers.measurements import write_measurements
from ..records.reading import read_run
from ..records.run_files import ANALYSIS, REPORT, claim_folder, run_file_in
from .page import write_text
from .run_page import RunPage


def analyze(
    model: keras.Model,
    images: np.ndarray,
    layers: Sequence[str] | None = None,
    *,
    rule: str = DEFAULT_RULE,
    multiple: int = 4,
    data_format: str | None = None,
    max_positions: int | None = 400,
    ladder: Callable[[], Ladder] | None = None,
    output: str | Path | None = None,
    source: str | None = None,
) -> Analysis:
    """Measures any Keras model, and advises a width for each layer.

    Args:
        model: Any Keras model, built. It is not changed.
        images: What it takes, already preprocessed, (images, ...).
        layers: Names, "outer/inner/layer" where a bare name is not unique. Defaults to
            None: the model's probes or, if it has none, its output.
        rule: "effective_rank", "participation_ratio" or "variance". Defaults to
            "effective_rank".
        multiple: Widths are rounded up to a multiple of this. Defaults to 4.
        data_format: "channels_last" or "channels_first". Defaults to None: channels last.
        max_positions: Most positions of an image to measure; None: all. Defaults to 400.
        ladder: Measures what cutting the model costs. Defaults to None: it is not measured.
        output: Folder for monitor.csv, monitor.jsonl, arrays/, analysis.json and
            report.html. Defaults to None: nothing is written.
        source: Where the model came from, for analysis.json. Defaults to None: its name.

    Returns:
        The analysis; `str` of it is the tables as text.

    Raises:
        ValueError: A layer does not exist or cannot be watched, an argument is impossible, or
            `output` holds a run or another analysis.
        OSError: The folder cannot be written.
        MissingPackageError: A package is not installed; see `write_report`.

    Example:
        >>> inputs = keras.Input((4,))
        >>> mix = keras.layers.Dense(8, name="mix")(inputs)
        >>> model = keras.Model(inputs, keras.layers.Dense(2)(mix))
        >>> images = np.random.default_rng(0).normal(size=(200, 4)).astype("float32")
        >>> analyze(model, images, ["mix"]).advice[0].suggested
        4
    """
    folder = None if output is None else Path(output)
    if folder is not None and (name := run_file_in(folder)):
        raise ValueError(
            f"Output folder {folder} holds a run or another analysis ({name}). "
            "Choose another (--output)."
        )
    analysis = analyze_model(
        model,
        images,
        layers,
        rule=rule,
        multiple=multiple,
        data_format=data_format,
        max_positions=max_positions,
        ladder=ladder,
    )
    if folder is None:
        return analysis
    claim_folder(folder)
    write_measurements(analysis.measurements, folder)
    values = {
        "model": source or model.name,
        "images": analysis.images,
        "rule": rule,
        "multiple": multiple,
        "advice": [asdict(width) for width in analysis.advice],
    }
    if analysis.ladder is not None:
        values["ladder"] = ladder_values(analysis.ladder)
    write_json(folder / ANALYSIS, values)
    saved = SavedAdvice(analysis.advice, analysis.ladder, None)
    write_text(folder / REPORT, RunPage(folder).compose(read_run(folder), saved))
    return replace(analysis, output=folder)
