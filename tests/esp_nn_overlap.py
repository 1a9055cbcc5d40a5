"""Whether ESP-NN's C kernels may write over their input: `python tests/esp_nn_overlap.py FOLDER`.

FOLDER is a checkout of https://github.com/espressif/esp-nn. Its C kernels are compiled here: those
of "ANSI C", and the generic ones that "Optimized versions" takes for chips without assembly of
their own (ESP32, ESP32-C3). Each runs on random shapes, once into memory of its own and once over
its input, at the distance that training/export/overlap.py allows; and a byte nearer, where the
results have to differ now and then, or the test shows nothing. The assembly for the ESP32-S3 and
the kernels of the ESP32-P4 are not run.
"""

import ctypes
import subprocess
import sys
import tempfile
from collections import Counter
from ctypes import c_int32 as Int
from ctypes import c_uint16 as Short
from ctypes import c_void_p as Pointer
from pathlib import Path
from typing import Any, NamedTuple

import checkout  # noqa: F401
import numpy as np

from training.export.graph import Operator
from training.export.overlap import distances

SOURCES = (
    "convolution/esp_nn_conv_ansi.c",
    "convolution/esp_nn_conv_opt.c",
    "convolution/esp_nn_depthwise_conv_ansi.c",
    "convolution/esp_nn_depthwise_conv_opt.c",
    "pooling/esp_nn_max_pool_ansi.c",
    "pooling/esp_nn_avg_pool_ansi.c",
)
KERNELS = {
    "conv_s8_ansi": "CONV_2D",
    "conv_s8_opt": "CONV_2D",
    "depthwise_conv_s8_ansi": "DEPTHWISE_CONV_2D",
    "depthwise_conv_s8_opt": "DEPTHWISE_CONV_2D",
    "max_pool_s8_ansi": "MAX_POOL_2D",
    "avg_pool_s8_ansi": "AVERAGE_POOL_2D",
}
TRIALS = 500  # per kernel


def compiled(folder: Path, target: Path) -> ctypes.CDLL:
    """Compiles the kernels into a library."""
    sources = [str(folder / "src" / name) for name in SOURCES]
    includes = [f"-I{folder / 'include'}", f"-I{folder / 'src' / 'common'}"]
    subprocess.run(
        ["cc", "-O2", "-shared", "-fPIC", *includes, "-o", str(target), *sources], check=True
    )
    return ctypes.CDLL(str(target))


class Trial(NamedTuple):
    """A kernel's call on random numbers."""

    operator: Operator
    size: tuple[int, int]
    outputs: tuple[int, int]
    channels: int
    filters: int
    kernel: int
    stride: int
    padding: tuple[int, int]


def drawn(kind: str, rng: np.random.Generator) -> Trial:
    """Returns a call of random shape."""
    size = int(rng.integers(3, 14)), int(rng.integers(3, 14))
    channels, kernel = int(rng.integers(1, 14)), int(rng.integers(1, 4))
    stride = int(rng.integers(1, 3 if "CONV" in kind else 4))
    filters = int(rng.integers(1, 14)) if kind == "CONV_2D" else channels
    same = bool(rng.integers(2))
    outputs = tuple(-(-(n if same else n - kernel + 1) // stride) for n in size)
    padding = tuple(
        max((m - 1) * stride + kernel - n, 0) // 2 if same else 0
        for m, n in zip(outputs, size, strict=True)
    )
    inputs = [(1, *size, channels)]
    if "CONV" in kind:
        inputs.append((filters if kind == "CONV_2D" else 1, kernel, kernel, channels))
    options = {"stride": (stride, stride), "padding": "SAME" if same else "VALID"}
    if "POOL" in kind:
        options["filter"] = (kernel, kernel)
    operator = Operator(kind, inputs, (1, *outputs, filters), options)
    return Trial(operator, size, outputs, channels, filters, kernel, stride, padding)


def caller(library: ctypes.CDLL, name: str, trial: Trial, rng: np.random.Generator) -> Any:
    """Returns a function of the addresses of input and output that runs a kernel."""
    (height, width), (rows, columns) = trial.size, trial.outputs
    k, s, (top, left) = trial.kernel, trial.stride, trial.padding
    function = getattr(library, f"esp_nn_{name}")
    if "pool" in name:
        sides = map(Short, (columns, rows, s, s, k, k, left, top))
        ends = *sides, Int(-128), Int(127), Short(trial.channels)
        return lambda read, write: function(
            Pointer(read), Short(width), Short(height), Pointer(write), *ends
        )
    depthwise = "depthwise" in name
    weights = k * k * trial.channels * (1 if depthwise else trial.filters)
    kernel = rng.integers(-127, 128, weights).astype(np.int8)
    bias = rng.integers(-500, 500, trial.filters).astype(np.int32)
    multiplier = rng.integers(2**30, 2**31 - 1, trial.filters).astype(np.int32)
    shift = rng.integers(-9, -5, trial.filters).astype(np.int32)
    # The structures of esp_nn_defs.h hold 32-bit integers alone, but for the two pointers.
    read_size = (Int * 4)(width, height, trial.channels, 1)
    written_size = (Int * 4)(columns, rows, trial.filters, 1)
    kernel_size = (Int * 4)(k, k, trial.channels, 0)
    numbers = (3, -5, *((1,) if depthwise else ()), s, s, left, top, 0, 0, -128, 127)
    parameters = (Int * len(numbers))(*numbers)
    steps = (ctypes.c_void_p * 2)(shift.ctypes.data, multiplier.ctypes.data)
    alive = kernel, bias, multiplier, shift

    def call(read: int, write: int, alive: Any = alive) -> None:
        pointers = [Pointer(array.ctypes.data) for array in alive[:2]]
        function(
            read_size, Pointer(read), kernel_size, *pointers, written_size, Pointer(write),
            parameters, steps,
        )  # fmt: skip

    return call


def main(folder: str) -> None:
    """Prints how often each kernel's results differ."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as place:
        library = compiled(Path(folder), Path(place) / "esp_nn.so")
    print("| kernel | shapes | differ | differ one byte nearer |\n|---|---|---|---|")
    for name, kind in KERNELS.items():
        counts: Counter = Counter()
        for _ in range(TRIALS):
            trial = drawn(kind, rng)
            apart = distances(trial.operator)[0]
            call = caller(library, name, trial, rng)
            image = rng.integers(-128, 128, np.prod(trial.operator.inputs[0])).astype(np.int8)
            alone = np.zeros(np.prod(trial.operator.output), np.int8)
            call(image.ctypes.data, alone.ctypes.data)
            for nearer in (0, 1) if apart else (0,):
                arena = np.zeros(apart + image.size + alone.size, np.int8)
                at = apart - nearer
                arena[at : at + image.size] = image
                call(arena.ctypes.data + at, arena.ctypes.data)
                counts[nearer] += not np.array_equal(arena[: alone.size], alone)
        print(f"| {name} | {TRIALS} | {counts[0]} | {counts[1]} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
