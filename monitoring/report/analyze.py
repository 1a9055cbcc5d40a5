"""`monitoring.analyze`: what the channels of any loaded model do, written into a folder."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np

from ..analysis.advice import DEFAULT_RULE
from ..analysis.advice_file import SavedAdvice, check_values, write_json
from ..analysis.check import TOLERANCE
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
    tolerance: float = TOLERANCE,
    evaluate: Callable[[keras.Model], float] | None = None,
    score: str = "agreement",
    data_format: str | None = None,
    max_positions: int | None = 400,
    output: str | Path | None = None,
    source: str | None = None,
) -> Analysis:
    """Measures any Keras model, advises a width for each layer, and checks the advice.

    The layers are measured on all images. The check takes principal directions from one
    half of the images and scores the projected model on the other; `halves(len(images))`
    returns both halves as slices.

    Args:
        model: Any Keras model, built. It is not changed.
        images: What it takes, already preprocessed, (images, ...).
        layers: Names, "outer/inner/layer" where a bare name is not unique. Defaults to
            None: the model's probes or, if it has none, its output.
        rule: "effective_rank", "participation_ratio" or "variance". Defaults to
            "effective_rank".
        multiple: Widths are rounded up to a multiple of this. Defaults to 4.
        tolerance: Points of the score that an advised width may cost. Defaults to 1.
        evaluate: Returns the score of a model that takes the same images and gives the same
            outputs, higher is better; it should use the scored half of the images. Defaults
            to None: agreement with the outputs of `model`, 1 if they are the same.
        score: Name of what `evaluate` returns. Defaults to "agreement".
        data_format: "channels_last" or "channels_first". Defaults to None: channels last.
        max_positions: Most positions of an image to measure; None: all. Defaults to 400.
        output: Folder for monitor.csv, monitor.jsonl, arrays/, analysis.json and
            report.html. Defaults to None: nothing is written.
        source: Where the model came from, for analysis.json. Defaults to None: its name.

    Returns:
        The analysis; `str` of it is the tables as text.

    Raises:
        ValueError: A layer does not exist or cannot be watched, an argument is impossible,
            the model has several outputs and `evaluate` is None, or `output` holds a run or
            another analysis.
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
        tolerance=tolerance,
        evaluate=evaluate,
        score=score,
        data_format=data_format,
        max_positions=max_positions,
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
        "check": check_values(analysis.check),
    }
    write_json(folder / ANALYSIS, values)
    saved = SavedAdvice(analysis.advice, analysis.check, None)
    write_text(folder / REPORT, RunPage(folder).compose(read_run(folder), saved))
    return replace(analysis, output=folder)
