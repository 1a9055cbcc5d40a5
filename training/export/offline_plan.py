"""Files whose outputs lie over inputs, checked by TensorFlow Lite Micro's own interpreter."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from training.export.arena import ArenaPlan, blocks_of, greedy_plan, plan_arena
from training.export.graph import Graph, read_graph
from training.litert import arena_bytes

PLAIN, OVERLAP = "plain", "overlap"  # kinds of plans
RANDOM_INPUTS = 1000  # on which a file must compute the same, beside the test split
RESTS = (
    "outputs lie over inputs, which is safe with the reference kernels of TensorFlow Lite Micro; "
    "optimised kernels (CMSIS-NN, ESP-NN) may read ahead, so check the network's outputs on the "
    "device"
)
METADATA = "OfflineMemoryAllocation"
VERSION, SUBGRAPHS = 1, 1
BUFFER_ALIGNMENT = 16  # of the data in a file
ONLINE = -1  # placed by the runtime

RUN = """
import sys
import numpy as np
from tflite_micro import runtime

content, inputs, outputs = sys.argv[1:]
interpreter = runtime.Interpreter.from_file(content, arena_size=2**26)
results = []
for image in np.load(inputs, allow_pickle=False):
    interpreter.set_input(image[None], 0)
    interpreter.invoke()
    results.append(interpreter.get_output(0)[0])
np.save(outputs, np.stack(results))
"""


@dataclass(frozen=True)
class ArenaUse:
    """How a file uses the arena.

    Attributes:
        plan: "plain" where the runtime places tensors, "overlap" where the file does.
        refused: Why it does not, though it should; else empty.
        rests_on: What an overlapping plan rests on; empty for a plain one.
        plain_bytes: Bytes of the arena where the runtime places tensors; None if unknown.
        is_least: Whether no plan of this kind can be smaller.
        operators: Names, in running order.
        tensors: Of each tensor "name", "shape", "bytes", "first" and "last" operator, and its
            first byte: "plain", as the runtime places it, and "overlap", None if it is not used.
    """

    plan: str
    refused: str
    rests_on: str
    plain_bytes: int | None
    is_least: bool
    operators: Sequence[str]
    tensors: Sequence[Mapping[str, Any]]


def plain_use(content: bytes) -> ArenaUse:
    """Returns how a file uses the arena where it places nothing itself.

    A file of several subgraphs has no tensors here.
    """
    try:
        graph = read_graph(content)
    except ValueError:
        return ArenaUse(PLAIN, "", "", arena_bytes(content), False, [], [])
    plan = greedy_plan(blocks_of(graph, overlap=False))
    return ArenaUse(
        plan=PLAIN,
        refused="",
        rests_on="",
        plain_bytes=arena_bytes(content),
        is_least=plan.is_least,
        operators=[operator.name for operator in graph.operators],
        tensors=_rows(graph, plan, None),
    )


def overlapping(content: bytes, images: np.ndarray, *, seed: int = 0) -> tuple[bytes, ArenaUse]:
    """Lets a file's outputs lie over inputs that nothing reads any more.

    Args:
        content: An INT8 LiteRT file.
        images: Inputs on which it must compute the same, (images, height, width, channels),
            int8; `RANDOM_INPUTS` random ones are added.
        seed: Of these. Defaults to 0.

    Returns:
        The file, and how it uses the arena. It is the given file if TensorFlow Lite Micro's
        interpreter does not compute the same bytes with both, or is not installed.
    """
    plain = plain_use(content)
    rng = np.random.default_rng(seed)
    random = rng.integers(-128, 128, (RANDOM_INPUTS, *images.shape[1:])).astype(np.int8)
    try:
        graph = read_graph(content)
        plan = plan_arena(blocks_of(graph))
        planned = with_offsets(content, plan.offsets, graph.count)
        refused = _difference(content, planned, np.concatenate([images, random]))
    except ValueError as error:
        refused = str(error)
    if refused:
        return content, replace(plain, refused=refused)
    rows = _rows(graph, greedy_plan(blocks_of(graph, overlap=False)), plan)
    return planned, replace(
        plain, plan=OVERLAP, rests_on=RESTS, is_least=plan.is_least, tensors=rows
    )


def _difference(content: bytes, planned: bytes, inputs: np.ndarray) -> str:
    """Returns how two files differ in what they compute; empty if they do not."""
    outputs = [run_on_micro(each, inputs) for each in (content, planned)]
    same = [np.array_equal(*pair) for pair in zip(*outputs, strict=True)]
    if all(same):
        return ""
    return f"{same.count(False):,} of {len(same):,} inputs give other outputs with it"


def _rows(graph: Graph, plain: ArenaPlan, overlap: ArenaPlan | None) -> list[dict[str, Any]]:
    return [
        {
            "name": tensor.name,
            "shape": list(tensor.shape),
            "bytes": tensor.size,
            "first": tensor.first,
            "last": tensor.last,
            PLAIN: plain.offsets[tensor.number],
            OVERLAP: None if overlap is None else overlap.offsets[tensor.number],
        }
        for tensor in graph.tensors
    ]


def with_offsets(content: bytes, offsets: Mapping[int, int], count: int) -> bytes:
    """Returns a file that places its tensors, and is the same otherwise.

    Args:
        content: A LiteRT file.
        offsets: {number of a tensor: its first byte in the arena}.
        count: Number of all tensors of the file.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    class Aligned(schema.BufferT):
        """A buffer whose data is aligned in the file, as 32-bit numbers are read from it."""

        def Pack(self, builder: Any) -> Any:
            data = None if self.data is None else np.asarray(self.data, np.uint8)
            place = None
            if data is not None:
                builder.StartVector(1, len(data), BUFFER_ALIGNMENT)
                builder.head -= len(data)
                builder.Bytes[builder.head : builder.head + len(data)] = data.tobytes()
                place = builder.EndVector()
            schema.BufferStart(builder)
            if place is not None:
                schema.BufferAddData(builder, place)
            schema.BufferAddOffset(builder, self.offset)
            schema.BufferAddSize(builder, self.size)
            return schema.BufferEnd(builder)

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    numbers = [offsets.get(number, ONLINE) for number in range(count)]
    plan = schema.BufferT()
    plan.data = np.array([VERSION, SUBGRAPHS, count, *numbers], "<i4").view(np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = METADATA, len(model.buffers)
    model.metadata = [*(model.metadata or []), entry]
    model.buffers = [*model.buffers, plan]
    for buffer in model.buffers:
        buffer.__class__ = Aligned
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def offsets_of(content: bytes) -> list[int] | None:
    """Returns where a file places each of its tensors, -1 for those that it does not place.

    None if it holds no plan.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    for entry in model.metadata or []:
        if (entry.name or b"").decode() == METADATA:
            data = np.asarray(model.buffers[entry.buffer].data, np.uint8)
            return [int(offset) for offset in np.frombuffer(data.tobytes(), "<i4")[3:]]
    return None


def run_on_micro(content: bytes, images: np.ndarray) -> np.ndarray:
    """Runs a file with TensorFlow Lite Micro's interpreter, in a process of its own.

    Args:
        content: A LiteRT file with INT8 in and out.
        images: (images, height, width, channels), int8.

    Returns:
        (images, ...), int8.

    Raises:
        ValueError: The interpreter is not installed, or cannot run the file.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("model.tflite", "in.npy", "out.npy")]
        paths[0].write_bytes(content)
        np.save(paths[1], images)
        command = [sys.executable, "-c", RUN, *map(str, paths)]
        result = subprocess.run(command, capture_output=True, text=True)
        if "No module named 'tflite_micro'" in result.stderr:
            raise ValueError("to check it needs tflite-micro: pip install --pre tflite-micro")
        if result.returncode:
            lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
            raise ValueError(f"TensorFlow Lite Micro cannot run the file: {lines[-1]}")
        outputs: np.ndarray = np.load(paths[2], allow_pickle=False)
    return outputs
