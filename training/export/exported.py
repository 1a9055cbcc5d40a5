"""What an INT8 file is, and what running it has shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from training.class_scores import ClassEvaluation
from training.evaluate import Evaluation
from training.export.offline_plan import ArenaUse
from training.export.vela import VelaReport
from training.litert import Quantisation


@dataclass(frozen=True)
class Exported:
    """An INT8 file, and what running it has shown.

    Attributes:
        file: Its name.
        refused: Why it must not be used; empty where it may be.
        note: Anything else to know about it.
        quantization: "post-training", calibrated on images, or "quantization-aware".
        operators: {name: number of uses}.
        file_bytes: Its size.
        parameters: Parameters of the float network.
        macs: Multiply-adds per image.
        arena_bytes: Working memory as TensorFlow Lite Micro counts it; None where that is not
            installed, or lacks an operator.
        arena: How it uses that memory.
        arena_estimate: Most bytes of tensors alive at one time, without alignment and
            scratch memory.
        vela: What it would take on an Arm NPU; None if that was not asked for.
        input: Quantisation of the images.
        output: Quantisation of the outputs.
        images: Number of images in the test split, on which both were run.
        float_scores: Scores of the network that it was made from, with that network's
            rounding if it is quantisation-aware.
        int8_scores: Scores of the file.
        per_image_iou: As `training.evaluate.spread` returns it, for the file.
        sweep: As `training.evaluate.sweep` returns it, for the file.
        agreement: Fraction of pixels of the same class in both.
        within_a_step: Fraction of pixels whose outputs differ by no more than one step of their
            quantisation; those of the float network are clipped to its range.
    """

    file: str
    refused: str
    note: str
    quantization: str
    operators: Mapping[str, int]
    file_bytes: int
    parameters: int
    macs: int
    arena_bytes: int | None
    arena: ArenaUse
    arena_estimate: int
    vela: VelaReport | None
    input: Quantisation
    output: Quantisation
    images: int
    float_scores: Evaluation | ClassEvaluation
    int8_scores: Evaluation | ClassEvaluation
    per_image_iou: Mapping[str, float]
    sweep: Sequence[Mapping[str, float]]
    agreement: float
    within_a_step: float
