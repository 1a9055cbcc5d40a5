"""Advice, tried on the trained network before anybody trains another."""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import keras

from monitoring.analysis.advice import WidthAdvice
from monitoring.analysis.projection import Check, Projected, projection_check
from monitoring.records.reading import RunFolder
from monitoring.taps.images_tap import ImagesTap
from monitoring.taps.watched import Watched
from training.data import draw_images
from training.evaluate import evaluate, predict
from training.images import Split, read_splits
from training.stages import Stages
from training.synthetic import synthetic_splits

TOLERANCE = 1.0  # points
CHECK_IMAGES = 128  # of the training split, whose principal directions are taken


def withheld(
    advice: Sequence[WidthAdvice],
    rows: Sequence[Projected],
    tolerance: float,
    score: str = "mIoU",
) -> list[WidthAdvice]:
    """Takes back what costs more than the tolerance in the projection check.

    Args:
        advice: What was advised.
        rows: Of the check.
        tolerance: The most that may be lost, in the unit of the score.
        score: Its name. Defaults to "mIoU".

    Returns:
        The advice; the width as it is, and why, where it costs too much.
    """
    kept = []
    for one in advice:
        lost = [r.lost for r in rows if r.probe == one.probe and r.level == "advised"]
        if lost and lost[0] > tolerance:
            reason = (
                f"{one.suggested} directions cost {100 * lost[0]:.1f} points of {score}, "
                f"more than {100 * tolerance:g}; {one.reason}"
            )
            one = replace(one, suggested=one.channels, reason=reason)
        kept.append(one)
    return kept


def load(path: Path) -> keras.Model:
    """Loads a .keras file in safe mode.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is no model that loads safely.
    """
    if not path.is_file():
        raise FileNotFoundError(f"Model file {path} is not there.")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no .keras file, or a damaged one.")
    try:
        return keras.saving.load_model(path, safe_mode=True, compile=False)
    except (ValueError, TypeError, OSError, KeyError) as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"{path} cannot be loaded in safe mode; classes of your own come with --import "
            f"MODULE: {said[:300]}"
        ) from None


def tried(
    run: RunFolder,
    stages: Stages | None,
    advice: Sequence[WidthAdvice],
    data: str,
    tolerance: float,
) -> tuple[Sequence[WidthAdvice], Check]:
    """Runs the projection check on the trained model, and takes back what costs too much."""
    path = run.folder / "model.keras"
    if stages is None or not path.is_file():
        raise ValueError(
            f"--check needs a finished run of train.py: model.keras and config.yaml in {run.folder}"
        )
    model = load(path)
    config = stages.config
    root = data or config.data.root
    size, ignored = config.model.input_size, config.data.ignore_value
    splits = read_splits(root, size, ignored) if root else synthetic_splits()
    score = evaluator(splits.val)
    widths = {one.probe: one.suggested for one in advice if not one.keep}
    if not widths:
        return advice, Check("mIoU", score(model), [])
    images = draw_images(splits.train, CHECK_IMAGES, config.training.seed)
    measured = ImagesTap(Watched(model, list(widths))).measure(images)

    def check(widths: Mapping[str, int]) -> Check:
        kept = {name: measured[name] for name in widths}
        return projection_check(Watched(model, list(widths)), kept, score, widths)

    return settled(advice, check(widths), tolerance, check)


def settled(
    advice: Sequence[WidthAdvice],
    found: Check,
    tolerance: float,
    check: Callable[[Mapping[str, int]], Check],
) -> tuple[Sequence[WidthAdvice], Check]:
    """Takes back what costs more than the tolerance, alone or all together.

    Where each piece of advice is harmless and all of them together are not, the costliest
    are taken back until the rest is.

    Args:
        advice: What was advised.
        found: The check of it.
        tolerance: The most that may be lost, in the unit of the score.
        check: Makes the check of other {probe: width}.

    Returns:
        The advice that is left, and a check whose joint rows are of it, or of all of it
        where each piece costs too much alone.
    """
    alone = {row.probe: row.lost for row in found.rows if row.level == "advised"}
    advice = withheld(advice, found.rows, tolerance, found.score)
    left = {one.probe: one.suggested for one in advice if not one.keep}
    joint = _joint(found.rows)
    if left and len(left) < len({row.probe for row in found.rows} - {"all"}):
        joint = _joint(check(left).rows)
    while left and joint[1].lost > tolerance:
        costliest = max(left, key=alone.__getitem__)
        del left[costliest]
        advice = [_kept(one, joint[1].lost) if one.probe == costliest else one for one in advice]
        joint = _joint(check(left).rows) if left else []
    rows = [row for row in found.rows if row.probe != "all"]
    return advice, found._replace(rows=[*rows, *joint])


def _joint(rows: Sequence[Projected]) -> list[Projected]:
    """Returns the rows of all layers together: at half, as advised, in between."""
    return [row for row in rows if row.probe == "all"]


def _kept(one: WidthAdvice, lost: float) -> WidthAdvice:
    reason = f"costs too much together with the others, {100 * lost:.1f} points; {one.reason}"
    return replace(one, suggested=one.channels, reason=reason)


def evaluator(split: Split) -> Callable[[keras.Model], float]:
    """Returns a function from a model to its mIoU on the split."""
    return lambda model: evaluate(predict(model, split), split.masks).miou
