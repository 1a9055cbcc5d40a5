"""The operators and tensors of a LiteRT file, as far as its memory is concerned."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Shape = tuple[int, ...]

BYTES = {"INT8": 1, "UINT8": 1, "BOOL": 1, "INT16": 2, "FLOAT16": 2, "INT64": 8, "FLOAT64": 8}


@dataclass(frozen=True)
class Operator:
    """One call of a kernel.

    Attributes:
        name: Such as "CONV_2D".
        inputs: Shape of each input, constants included.
        output: Shape of the output.
        options: "stride", "dilation" and "filter" as (rows, columns), "padding", "axis",
            "half_pixel_centers", "align_corners", where the operator has them.
        reads: Number of each input's tensor.
        writes: Number of the (first) output's tensor.
    """

    name: str
    inputs: Sequence[Shape]
    output: Shape
    options: Mapping[str, Any] = field(default_factory=dict)
    reads: Sequence[int] = ()
    writes: int = -1


@dataclass(frozen=True)
class Tensor:
    """A tensor that lies in the arena.

    Attributes:
        number: Its number in the file.
        name: Its name there.
        shape: Its shape.
        kind: Its type, such as "INT8".
        first: Number of the operator that writes it; the model's inputs have that of the first.
        last: Number of the last operator that reads it; for outputs, the last of all.
    """

    number: int
    name: str
    shape: Shape
    kind: str
    first: int
    last: int

    @property
    def size(self) -> int:
        """Its bytes."""
        return math.prod(self.shape) * BYTES.get(self.kind, 4)


@dataclass(frozen=True)
class Graph:
    """What a file computes.

    Attributes:
        operators: In running order.
        tensors: Those that lie in the arena.
        count: Number of all tensors, constants included.
    """

    operators: Sequence[Operator]
    tensors: Sequence[Tensor]
    count: int


def read_graph(content: bytes) -> Graph:
    """Reads a LiteRT file.

    Raises:
        ValueError: It has several subgraphs.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(content, 0))
    if len(model.subgraphs) != 1:
        raise ValueError(f"Expected a file of one subgraph. Received: {len(model.subgraphs)}")
    graph = model.subgraphs[0]
    names = {number: name for name, number in vars(schema.BuiltinOperator).items()}
    kinds = {number: name for name, number in vars(schema.TensorType).items()}
    shapes = [tuple(map(int, tensor.shape)) for tensor in graph.tensors]
    codes = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    operators = []
    for operator in graph.operators:
        reads = [int(number) for number in operator.inputs if number >= 0]
        writes = int(operator.outputs[0])
        name, options = names[codes[operator.opcodeIndex]], _options(operator.builtinOptions)
        inputs = [shapes[number] for number in reads]
        operators.append(Operator(name, inputs, shapes[writes], options, reads, writes))
    first = {int(number): 0 for number in graph.inputs}
    last = dict(first)
    for number, operator in enumerate(graph.operators):
        for output in map(int, operator.outputs):
            first[output] = last[output] = number
        for read in map(int, operator.inputs):
            if read in last:  # else a constant
                last[read] = number
    last |= {int(number): len(operators) - 1 for number in graph.outputs}
    tensors = [
        Tensor(
            number,
            (graph.tensors[number].name or b"").decode(),
            shapes[number],
            kinds[graph.tensors[number].type],
            first[number],
            last[number],
        )
        for number in sorted(first)
    ]
    return Graph(operators, tensors, len(shapes))


def _options(found: Any) -> dict[str, Any]:
    """Returns the options of an operator that say where it reads."""
    options: dict[str, Any] = {}
    for name, rows, columns in (
        ("stride", "strideH", "strideW"),
        ("dilation", "dilationHFactor", "dilationWFactor"),
        ("filter", "filterHeight", "filterWidth"),
    ):
        if hasattr(found, rows):
            options[name] = (getattr(found, rows), getattr(found, columns))
    if hasattr(found, "padding"):
        options["padding"] = "SAME" if found.padding == 0 else "VALID"
    for name, attribute in (
        ("axis", "axis"),
        ("half_pixel_centers", "halfPixelCenters"),
        ("align_corners", "alignCorners"),
    ):
        if hasattr(found, attribute):
            options[name] = getattr(found, attribute)
    return options
