"""An INT8 file of a network, run on the test split before it is accepted."""

from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np

from models.cost import model_cost
from models.quantization import is_quantization_aware
from monitoring.records.files import whole_file
from monitoring.records.run_files import (
    EXPORT,
    INT8,
    INT8_HEADER,
    INT8_PARAMS,
    INT8_REFUSED,
    MARKER,
    is_marked,
    mark_folder,
    remove_file,
    run_file_in,
)
from training.data import draw_images
from training.evaluate import spread, write_values
from training.export.exported import Exported
from training.export.firmware import c_header, quant_params
from training.export.offline_plan import OVERLAP, PLAIN, overlapping, plain_use
from training.export.vela import vela_report
from training.litert import (
    MICROCONTROLLER_OPERATORS,
    Quantisation,
    arena_bytes,
    convert,
    interpreter_of,
    operators,
    quantised,
    run,
)
from training.outputs import FOREGROUND, Outputs
from training.split import PART, Split, Splits
from training.split_scores import Scores

FOR_MICROCONTROLLERS = ("nano_u",)
CALIBRATION_IMAGES = 128
TOLERANCE = 1.0  # points of mIoU


def export(
    model: keras.Model,
    splits: Splits,
    folder: Path,
    *,
    name: str,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    header: bool = False,
    outputs: Outputs = FOREGROUND,
    arena_plan: str = PLAIN,
    vela: str | None = None,
) -> Exported:
    """Writes model_int8.tflite into a folder, after running it on the test split.

    A file that loses too much, or uses an operator that its network must do without, becomes
    model_int8.refused.tflite instead.

    Args:
        model: A trained model from images in -1..1.
        splits: Training images for calibration, test images for the check.
        folder: Where to write.
        name: A key of `models.MODELS`.
        seed: Determines which training images are used. Defaults to 0.
        tolerance: Points of mIoU that may be lost. Defaults to 1.
        header: Whether to write model_int8.h as well. Defaults to False.
        outputs: What the model puts out. Defaults to logits of foreground.
        arena_plan: "overlap" to let outputs lie over inputs in the arena, if TensorFlow Lite
            Micro's interpreter computes the same bytes. Defaults to "plain".
        vela: Arm NPU for which Arm's compiler estimates time and memory, such as
            "ethos-u55-128". Defaults to None: not estimated.

    Returns:
        What running the file has shown; export.json holds the same.

    Raises:
        ValueError: An earlier file would have to be removed from a folder that is not marked
            as this project's; or `vela` cannot be estimated.
    """
    if run_file_in(folder) is None:
        mark_folder(folder)
    images = None
    if not is_quantization_aware(model):
        images = draw_images(splits.train, CALIBRATION_IMAGES, seed)
    content = convert(model, images)
    exported = check_file(
        model, content, splits.test, name=name, tolerance=tolerance, outputs=outputs
    )
    if vela is not None:
        exported = replace(exported, vela=vela_report(content, vela))
    if arena_plan == OVERLAP and not exported.refused:
        parts = (splits.test[n : n + PART].inputs for n in range(0, len(splits.test), PART))
        inputs = np.concatenate([quantised(part, exported.input) for part in parts])
        content, arena = overlapping(content, inputs, seed=seed)
        exported = replace(
            exported, arena=arena, arena_bytes=arena_bytes(content), file_bytes=len(content)
        )
    stale = (INT8, INT8_PARAMS) if exported.refused else (INT8_REFUSED,)
    _remove_stale(folder, *stale, INT8_HEADER)
    with whole_file(folder / exported.file) as draft:
        draft.write_bytes(content)
    if not exported.refused:
        shape = (1, *model.input_shape[1:])
        write_values(
            folder / INT8_PARAMS,
            quant_params(exported.input, exported.output, shape, splits.train.scaling),
        )
    if header and not exported.refused:
        steps = exported.input, exported.output
        note = exported.arena.rests_on
        text = c_header(
            content,
            Path(INT8_HEADER).stem,
            *steps,
            outputs=outputs,
            scaling=splits.train.scaling,
            note=note,
        )
        with whole_file(folder / INT8_HEADER) as draft:
            draft.write_text(text, encoding="ascii")
    write_values(folder / EXPORT, asdict(exported))
    return exported


def _remove_stale(folder: Path, *names: str) -> None:
    """Removes files of an earlier export, which would contradict the new one."""
    stale = [name for name in names if (folder / name).exists()]
    if stale and not is_marked(folder):
        raise ValueError(
            f"{folder / stale[0]} would contradict the new file, but {folder} holds no "
            f"{MARKER}, which proves that it is ours: move {stale[0]} elsewhere."
        )
    for name in stale:
        remove_file(folder / name)


def check_file(
    model: keras.Model,
    content: bytes,
    test: Split,
    *,
    name: str,
    tolerance: float,
    outputs: Outputs = FOREGROUND,
) -> Exported:
    """Runs an INT8 file beside the network that it was made from.

    Args:
        model: That network.
        content: The file's bytes.
        test: Images and masks.
        name: A key of `models.MODELS`.
        tolerance: Points of mIoU that may be lost.
        outputs: What both put out. Defaults to logits of foreground.
    """
    interpreter = interpreter_of(content)
    incoming, outgoing = (
        Quantisation(float(details["quantization"][0]), int(details["quantization"][1]))
        for details in (interpreter.get_input_details()[0], interpreter.get_output_details()[0])
    )
    low, high = (outgoing.scale * (end - outgoing.zero_point) for end in (-128, 127))
    exact_scores, scores = Scores(outputs), Scores(outputs)
    agreeing, near, pixels, values = 0, 0, 0, 0
    for first in range(0, len(test), PART):
        part = test[first : first + PART]
        exact = model.predict(part.inputs, batch_size=16, verbose=0)
        rounded, masks = run(content, part.inputs), np.asarray(part.masks)
        same = exact_scores.add(exact, masks) == scores.add(rounded, masks)
        close = np.abs(np.clip(exact, low, high) - rounded) <= outgoing.scale * (1 + 1e-6)
        agreeing, near = agreeing + int(same.sum()), near + int(close.sum())
        pixels, values = pixels + same.size, values + close.size
    float_scores, int8_scores = exact_scores.evaluation, scores.evaluation
    used, cost = operators(content), model_cost(model)
    outside = sorted(used.keys() - MICROCONTROLLER_OPERATORS)
    arena = plain_use(content)
    lost = 100 * (float_scores.miou - int8_scores.miou)
    refused, note = "", ""
    if lost > tolerance:
        refused = f"it loses {lost:.2f} points of mIoU, more than {tolerance:g}"
    if outside:
        reason = f"MicroFlow lacks {', '.join(outside)}"
        if name in FOR_MICROCONTROLLERS:
            refused = "; ".join(part for part in (refused, reason) if part)
        else:
            note = f"not for MicroFlow: it lacks {', '.join(outside)}"
    return Exported(
        file=INT8_REFUSED if refused else INT8,
        refused=refused,
        note=note,
        quantization="quantization-aware" if is_quantization_aware(model) else "post-training",
        operators=dict(used.most_common()),
        file_bytes=len(content),
        parameters=cost.parameters,
        macs=cost.macs,
        arena_bytes=arena.plain_bytes,
        arena=arena,
        arena_estimate=cost.peak_activation_bytes,
        vela=None,
        input=incoming,
        output=outgoing,
        images=len(test),
        float_scores=float_scores,
        int8_scores=int8_scores,
        per_image_iou=spread(scores.image_ious),
        sweep=scores.sweep,
        agreement=agreeing / pixels,
        within_a_step=near / values,
    )
