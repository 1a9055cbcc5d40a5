"""A .tflite file as a network that segments images, or the reason why it is none."""

from pathlib import Path

from training.export.graph import read_graph
from training.litert import LiteRtFile
from training.mask_options import class_names
from training.output_kind import KINDS, LOGITS, PROBABILITIES
from training.outputs import Outputs
from training.trained_network import Shape, TrainedNetwork, other_task

KEEPING = {"QUANTIZE", "DEQUANTIZE", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"}
LAST_OPERATORS = {
    **dict.fromkeys(("LOGISTIC", "SOFTMAX"), PROBABILITIES),
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"), LOGITS),
}


def litert_network(
    path: Path, classes: tuple[str, ...] | None = None, declared: str | None = None
) -> TrainedNetwork:
    """Loads a .tflite file, of integers or of floats.

    Args:
        path: The file.
        classes: Names of several classes, none for foreground. Defaults to None: its number of
            output channels tells.
        declared: "logits" or "probabilities". Defaults to None: its last operator tells.

    Raises:
        ValueError: It cannot be run, or is for another task; or nothing tells what it puts out.
    """
    if declared not in (None, *KINDS):
        raise ValueError(f"Expected --outputs {' or '.join(KINDS)}. Received: {declared!r}")
    content = path.read_bytes()
    try:
        file = LiteRtFile(content)
    except (ValueError, RuntimeError) as error:  # LiteRT's own
        raise ValueError(f"{path} cannot be run: {str(error)[:300]}") from None
    shape, returned = _shapes(path, file)
    names = class_names(returned[2]) if classes is None else classes
    outputs = Outputs(declared or _last_kind(path, content), names)
    if outputs.channels != returned[2]:
        raise ValueError(
            f"Expected as many output channels as classes (--classes): {outputs.channels}. "
            f"Received: {path} has {returned[2]}"
        )
    return TrainedNetwork(path, shape, returned, outputs, file)


def _shapes(path: Path, file: LiteRtFile) -> tuple[Shape, Shape]:
    """Returns the shapes of an image and of what comes of it.

    Raises:
        ValueError: The file is for another task.
    """
    if len(file.inputs) != 1 or len(file.outputs) != 1:
        raise ValueError(
            "Expected a file with one input, images, and one output, masks. Received: "
            f"{path}, with {len(file.inputs)} inputs and {len(file.outputs)} outputs"
        )
    taken, returned = file.inputs[0], file.outputs[0]
    if len(taken) != 4 or len(returned) != 4:
        raise ValueError(other_task(path, taken, returned))
    if None in (*taken[1:], *returned[1:]) or taken[0] not in (None, 1):
        raise ValueError(
            f"Expected a file of single images of one size. Received: {path}, which takes {taken}"
        )
    height, width, channels = (int(side or 0) for side in taken[1:])
    rows, columns, classes = (int(side or 0) for side in returned[1:])
    return (height, width, channels), (rows, columns, classes)


def _last_kind(path: Path, content: bytes) -> str:
    """Returns what a file puts out, by the last operator that computes."""
    name, wanted = "nothing", None
    for operator in reversed(read_graph(content).operators):
        if wanted in (None, operator.writes):
            name, wanted = operator.name, operator.reads[0] if operator.reads else -1
            if name not in KEEPING:
                break
    if name not in LAST_OPERATORS:
        raise ValueError(
            f"{path} may put out logits or probabilities (it ends in {name}): give "
            f"--outputs {LOGITS} or --outputs {PROBABILITIES}"
        )
    return LAST_OPERATORS[name]
