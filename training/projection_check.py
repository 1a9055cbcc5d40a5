"""The projection check of a run: its advice, tried on the trained network's own images."""

from collections.abc import Callable, Mapping
from pathlib import Path

import keras

from monitoring.analysis.check import Check
from monitoring.analysis.projection import projection_check
from monitoring.records.files import read_values
from monitoring.records.run_files import CONFIG, MODEL, expanded
from monitoring.statistics.grouped import GroupedCovariance
from monitoring.taps.images_tap import ImagesTap
from monitoring.taps.watched import Watched
from training.config import validate
from training.data import draw_images
from training.evaluate import evaluate, predict
from training.images import Split
from training.model_files import load_model
from training.output_kind import LOGITS, output_kind
from training.splits import read_config_splits

CHECK_IMAGES = 128  # images of the training split that give the principal directions


def run_check(run: Path, data: str = "") -> Callable[[Mapping[str, int]], Check]:
    """Returns a function that checks {probe: width} of a finished run.

    Args:
        run: The run's folder.
        data: A folder of images. Defaults to "": the run's own data.

    Raises:
        ValueError: The run has not finished, or was not made by train.py.
    """
    settings = run / CONFIG
    if not settings.is_file() or not (run / MODEL).is_file():
        raise ValueError(f"--check needs a finished run of train.py: {MODEL} and {CONFIG} in {run}")
    config, model = validate(read_values(settings), source=str(settings)), load_model(run / MODEL)
    splits = read_config_splits(config, expanded(data) if data else None)
    images = draw_images(splits.train, CHECK_IMAGES, config.training.seed)
    score = evaluator(splits.val, output_kind(model, config.narrow.outputs, images))
    measured: dict[str, GroupedCovariance] = {}

    def check(widths: Mapping[str, int]) -> Check:
        if not widths:
            return Check("mIoU", score(model), [])
        new = [probe for probe in widths if probe not in measured]
        if new:
            measured.update(ImagesTap(Watched(model, new)).measure(images))
        spread = {probe: measured[probe] for probe in widths}
        return projection_check(Watched(model, list(widths)), spread, score, widths)

    return check


def evaluator(split: Split, outputs: str = LOGITS) -> Callable[[keras.Model], float]:
    """Returns a function from a model to its mIoU on a split.

    Args:
        split: Images and masks.
        outputs: What the model puts out, "logits" or "probabilities". Defaults to "logits".
    """
    return lambda model: evaluate(predict(model, split, outputs=outputs), split.masks).miou
