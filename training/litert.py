"""INT8 LiteRT files: converted from a network, run and inspected."""

import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from models.quantization import folded, is_quantization_aware
from monitoring.command_line import quiet_start

# Operators of MicroFlow, the runtime of the published Nano_U; a fused ReLU or ReLU6 is free.
MICROCONTROLLER_OPERATORS = frozenset(
    {
        "FULLY_CONNECTED",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "AVERAGE_POOL_2D",
        "MAX_POOL_2D",
        "SOFTMAX",
        "RESHAPE",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
    }
)
ARENA = """
import sys
from tflite_micro import runtime
runtime.Interpreter.from_bytes(sys.stdin.buffer.read(), arena_size=2**26).print_allocations()
"""


class Quantisation(NamedTuple):
    """real = scale * (int8 - zero_point)."""

    scale: float
    zero_point: int


def convert(model: keras.Model, images: np.ndarray | None = None) -> bytes:
    """Converts to an INT8 LiteRT file: integers in and out, one image at a time.

    The network is copied, and upsampling replaced by a resize, which microcontroller runtimes
    support.

    Args:
        model: A model from images in -1..1 to logits.
        images: Images for calibration, (images, height, width, channels), preprocessed.
            Ignored if the network comes from quantisation-aware training and knows its ranges.
            Defaults to None.

    Returns:
        The file.

    Raises:
        ValueError: There are no images, or the network's input has no fixed size.
    """
    shape = model.input_shape[1:]
    if None in shape:
        raise ValueError(f"Expected an input of fixed size. Received: {shape}")
    if is_quantization_aware(model):
        return _exported(resized(folded(model)), shape)
    if images is None or not len(images):
        raise ValueError("Calibration needs images of the training split. Received: none")
    return _exported(resized(model), shape, images)


def resized(model: keras.Model) -> keras.Model:
    """Returns a copy with each nearest `UpSampling2D` replaced by `Resizing`.

    The outputs are bit-identical, unless the network computes in half precision: the copy
    computes in float32, as exporters require. It cannot be trained under XLA.
    """

    def cloned(layer: keras.layers.Layer) -> keras.layers.Layer:
        nearest = isinstance(layer, keras.layers.UpSampling2D) and layer.interpolation == "nearest"
        if nearest and layer.data_format == "channels_last":
            height, width = layer.output.shape[1:3]
            return keras.layers.Resizing(
                height, width, interpolation="nearest", name=layer.name, dtype="float32"
            )
        return layer.__class__.from_config(layer.get_config() | {"dtype": "float32"})

    copy = keras.models.clone_model(model, clone_function=cloned)
    copy.set_weights(model.get_weights())
    return copy


class LiteRtFile:
    """A LiteRT file of one input and one output, which runs on one image at a time.

    Args:
        content: The file's bytes.

    Raises:
        ValueError: ai-edge-litert is not installed, or cannot run it.
    """

    def __init__(self, content: bytes):
        self._interpreter = interpreter_of(content)
        before, after = self._interpreter.get_input_details(), self._output_details()
        if before[0]["dtype"] == np.float32 and after[0]["dtype"] == np.float32:
            with quiet_start():  # it announces its kernels
                self._interpreter = interpreter_of(content, reference=False)
        self.inputs = [_shape(details) for details in self._interpreter.get_input_details()]
        self.outputs = [_shape(details) for details in self._output_details()]

    def _output_details(self) -> list[dict]:
        details: list[dict] = self._interpreter.get_output_details()
        return details

    def __call__(self, images: np.ndarray, step: Callable[[], object] | None = None) -> np.ndarray:
        """Returns outputs as real numbers, (images, height, width, channels), float32.

        Args:
            images: Inputs as real numbers, (images, height, width, channels).
            step: Called after each image. Defaults to None.
        """
        interpreter = self._interpreter
        before, after = interpreter.get_input_details()[0], self._output_details()[0]
        incoming, outgoing = (Quantisation(*details["quantization"]) for details in (before, after))
        values = []
        for image in images:
            tensor = image[None].astype(np.float32)
            if before["dtype"] != np.float32:
                tensor = quantised(image[None], incoming, before["dtype"])
            interpreter.set_tensor(before["index"], tensor)
            interpreter.invoke()
            output = interpreter.get_tensor(after["index"])[0].astype(np.float32)
            if after["dtype"] != np.float32:
                output = (output - outgoing.zero_point) * np.float32(outgoing.scale)
            values.append(output)
            if step is not None:
                step()
        return np.stack(values)


def run(content: bytes, images: np.ndarray) -> np.ndarray:
    """Runs an INT8 file on images in -1..1, and returns logits, (images, height, width, 1)."""
    return LiteRtFile(content)(images)


def quantised(values: np.ndarray, how: Quantisation, kind: type = np.int8) -> np.ndarray:
    """Returns each value as the nearest integer, clipped to the range of its kind.

    Example:
        >>> quantised(np.array([-1.0, 0.5, 9.0]), Quantisation(0.5, 0)).tolist()
        [-2, 1, 18]
    """
    limits = np.iinfo(kind)
    return np.clip(np.round(values / how.scale + how.zero_point), limits.min, limits.max).astype(
        kind
    )


def operators(content: bytes) -> Counter:
    """Returns {operator: number of uses} of a LiteRT file."""
    from ai_edge_litert import schema_py_generated as schema

    names = {
        number: name for name, number in vars(schema.BuiltinOperator).items() if name.isupper()
    }
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    return Counter(
        names[codes[operator.opcodeIndex]]
        for graph in model.subgraphs
        for operator in graph.operators
    )


def arena_bytes(content: bytes) -> int | None:
    """Returns the bytes of working memory that TensorFlow Lite Micro needs for a file.

    None if tflite-micro is not installed, or cannot run the file. It runs in its own process,
    because it crashes on some files, and prints the number from C++.
    """
    result = subprocess.run([sys.executable, "-c", ARENA], input=content, capture_output=True)
    match = re.search(rb"Arena allocation total (\d+)", result.stdout + result.stderr)
    return int(match.group(1)) if match and result.returncode == 0 else None


def interpreter_of(content: bytes, *, reference: bool = True):
    """Returns LiteRT's interpreter for a file, ready to run.

    Args:
        content: The file's bytes.
        reference: Whether to compute with the reference kernels, which round as TensorFlow Lite
            Micro does, to the bit; others are faster. Defaults to True.

    Raises:
        ValueError: ai-edge-litert is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError:
        raise ValueError(
            "Running an INT8 file needs ai-edge-litert: pip install ai-edge-litert"
        ) from None
    kernels = OpResolverType.BUILTIN_REF if reference else OpResolverType.AUTO
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=kernels)
    interpreter.allocate_tensors()
    return interpreter


def _shape(details: dict) -> tuple[int | None, ...]:
    """Returns the shape of an input or output; None where the file leaves it open."""
    signature = details.get("shape_signature", details["shape"])
    return tuple(None if side < 0 else int(side) for side in signature)


def _exported(model: keras.Model, shape: Sequence[int], images: np.ndarray | None = None) -> bytes:
    """Returns a network's INT8 file, calibrated on images unless the network knows its ranges."""
    import tensorflow as tf

    options: dict = {}
    if images is not None:
        options["representative_dataset"] = lambda: ([image[None]] for image in images)
        options["target_spec"] = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        with quiet_start():  # the converter's own log
            model.export(
                path,
                format="litert",
                verbose=False,
                input_signature=[keras.InputSpec(shape=(1, *shape), dtype="float32")],
                optimizations=[tf.lite.Optimize.DEFAULT],
                inference_input_type=tf.int8,
                inference_output_type=tf.int8,
                **options,
            )
        return path.read_bytes()
