"""Files that say where their tensors lie, checked by TensorFlow Lite Micro's own interpreter."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

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
for image in np.load(inputs):
    interpreter.set_input(image[None], 0)
    interpreter.invoke()
    results.append(interpreter.get_output(0)[0])
np.save(outputs, np.stack(results))
"""


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
            return data.tobytes() and data.view("<i4")[3:].tolist()
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
        if result.returncode:
            lines = result.stderr.strip().splitlines() or [f"exit code {result.returncode}"]
            raise ValueError(f"TensorFlow Lite Micro cannot run the file: {lines[-1]}")
        outputs: np.ndarray = np.load(paths[2])
    return outputs
