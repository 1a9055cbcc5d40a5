"""Random INT8 LiteRT files of the operators that microcontrollers run: chains, and with skips."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

SCALE = 0.05
OPTIONS = {
    "CONV_2D": schema.Conv2DOptionsT,
    "DEPTHWISE_CONV_2D": schema.DepthwiseConv2DOptionsT,
    "MAX_POOL_2D": schema.Pool2DOptionsT,
    "AVERAGE_POOL_2D": schema.Pool2DOptionsT,
    "RESIZE_NEAREST_NEIGHBOR": schema.ResizeNearestNeighborOptionsT,
    "FULLY_CONNECTED": schema.FullyConnectedOptionsT,
    "ADD": schema.AddOptionsT,
    "CONCATENATION": schema.ConcatenationOptionsT,
}


class File:
    """A file that is written operator by operator.

    Attributes:
        shapes: Shape of each tensor.
    """

    def __init__(self, shape):
        self.shapes, self._tensors, self._operators, self._codes = [], [], [], []
        self._buffers = [schema.BufferT()]
        self.input = self._add(shape, zero=3)

    def _add(self, shape, *, kind="INT8", scales=(SCALE,), zero=0, data=None, axis=0):
        tensor, how = schema.TensorT(), schema.QuantizationParametersT()
        tensor.shape, tensor.type = list(shape), getattr(schema.TensorType, kind)
        tensor.name = f"tensor{len(self._tensors)}"
        how.scale, how.zeroPoint = list(map(float, scales)), [zero] * len(scales)
        how.quantizedDimension = axis
        tensor.quantization = how
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            self._buffers.append(buffer)
            tensor.buffer = len(self._buffers) - 1
        self._tensors.append(tensor)
        self.shapes.append(tuple(shape))
        return len(self._tensors) - 1

    def call(self, name, reads, shape, zero=3, **options):
        """Adds an operator; returns its output's tensor."""
        operator, chosen = schema.OperatorT(), OPTIONS[name]()
        for key, value in options.items():
            setattr(chosen, key, value)
        code = getattr(schema.BuiltinOperator, name)
        if code not in self._codes:
            self._codes.append(code)
        operator.opcodeIndex = self._codes.index(code)
        operator.inputs, operator.outputs = list(reads), [self._add(shape, zero=zero)]
        operator.builtinOptions = chosen
        operator.builtinOptionsType = getattr(
            schema.BuiltinOptions, type(chosen).__name__.removesuffix("T")
        )
        self._operators.append(operator)
        return operator.outputs[0]

    def weights(self, rng, shape, outputs, axis):
        """Adds int8 weights with a bias; returns both tensors."""
        taps = np.prod(shape) / outputs
        scales = rng.uniform(0.5, 2, outputs if axis is not None else 1) / (127 * taps**0.5)
        values = rng.integers(-127, 128, shape).astype(np.int8)
        kernel = self._add(shape, scales=scales, data=values, axis=axis or 0)
        offsets = rng.integers(-20, 20, outputs).astype(np.int32)
        bias = self._add((outputs,), kind="INT32", scales=scales * SCALE, data=offsets)
        return kernel, bias

    def constant(self, values):
        """Adds an int32 constant; returns its tensor."""
        return self._add(values.shape, kind="INT32", data=values.astype(np.int32))

    def content(self, output):
        """Returns the file, which ends with a tensor."""
        model, graph = schema.ModelT(), schema.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs, graph.name = [self.input], [output], "main"
        model.version, model.subgraphs, model.buffers = 3, [graph], self._buffers
        model.description, model.operatorCodes = "random", []
        for number in self._codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = number, number, 1
            model.operatorCodes.append(code)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def _outputs(size, kernel, stride, dilation, same):
    reach = (kernel - 1) * dilation + 1
    return -(-size // stride) if same else (size - reach) // stride + 1


def _convolved(file, rng, tensor, depthwise):
    _, *size, channels = file.shapes[tensor]
    same = bool(rng.integers(2))
    kernel = [int(rng.choice([k for k in (1, 2, 3, 5) if same or k <= s])) for s in size]
    strides = [int(rng.choice([1, 1, 2, 3])) for _ in size]
    dilations = [1, 1]
    if strides == [1, 1] and rng.random() < 0.3:
        dilations = [2 if same or 2 * (k - 1) < s else 1 for k, s in zip(kernel, size, strict=True)]
    spatial = [_outputs(*each, same) for each in zip(size, kernel, strides, dilations, strict=True)]
    options = {"padding": int(not same), "strideH": strides[0], "strideW": strides[1]}
    options |= {"dilationHFactor": dilations[0], "dilationWFactor": dilations[1]}
    if depthwise:
        multiplier = int(rng.choice([1, 1, 1, 2]))
        filters = channels * multiplier
        shape, axis = (1, *kernel, filters), 3
        options["depthMultiplier"] = multiplier
    else:
        filters = int(rng.integers(1, 12))
        shape, axis = (filters, *kernel, channels), 0
    kernel, bias = file.weights(rng, shape, filters, axis)
    name = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    return file.call(name, (tensor, kernel, bias), (1, *spatial, filters), -5, **options)


def _pooled(file, rng, tensor):
    _, *size, channels = file.shapes[tensor]
    same = bool(rng.integers(2))
    extents = [int(rng.integers(1, min(4, s) + 1)) for s in size]
    strides = [int(rng.integers(1, 4)) for _ in size]
    spatial = [_outputs(s, k, n, 1, same) for s, k, n in zip(size, extents, strides, strict=True)]
    name = ("MAX_POOL_2D", "AVERAGE_POOL_2D")[rng.integers(2)]
    options = {"filterHeight": extents[0], "filterWidth": extents[1]}
    options |= {"strideH": strides[0], "strideW": strides[1], "padding": int(not same)}
    zero = file._tensors[tensor].quantization.zeroPoint[0]
    return file.call(name, (tensor,), (1, *spatial, channels), zero, **options)


def _resized(file, rng, tensor):
    _, *size, channels = file.shapes[tensor]
    spatial = [int(rng.integers(1, 2 * s + 3)) for s in size]
    if rng.random() < 0.5:
        spatial = [2 * s for s in size]
    target = file.constant(np.array(spatial))
    form = {"halfPixelCenters": True} if rng.random() < 0.5 else {}
    if not form and rng.random() < 0.3:
        form = {"alignCorners": True}
    zero = file._tensors[tensor].quantization.zeroPoint[0]
    shape = (1, *spatial, channels)
    return file.call("RESIZE_NEAREST_NEIGHBOR", (tensor, target), shape, zero, **form)


def _drawn(file, rng, tensor):
    size = np.prod(file.shapes[tensor][1:3])
    choice = rng.random()
    if choice < 0.35:
        return _convolved(file, rng, tensor, False)
    if choice < 0.65:
        return _convolved(file, rng, tensor, True)
    if choice < 0.8 or size > 2000:
        return _pooled(file, rng, tensor)
    return _resized(file, rng, tensor)


def draw_file(seed, *, skips=False):
    """Draws a file of 2 to 8 operators; returns its bytes and the shape of its input."""
    rng = np.random.default_rng(seed)
    file = File((1, int(rng.integers(3, 20)), int(rng.integers(3, 20)), int(rng.integers(1, 9))))
    tensor, before = file.input, []
    for _ in range(int(rng.integers(2, 9))):
        before.append(tensor)
        tensor = _drawn(file, rng, tensor)
        same = [t for t in before if file.shapes[t][1:3] == file.shapes[tensor][1:3]]
        if skips and same and rng.random() < 0.6:
            other = same[rng.integers(len(same))]
            tensor = _joined(file, rng, tensor, other)
    if not skips and rng.random() < 0.2:
        count, outputs = int(np.prod(file.shapes[tensor])), int(rng.integers(1, 30))
        kernel, bias = file.weights(rng, (outputs, count), outputs, None)
        tensor = file.call("FULLY_CONNECTED", (tensor, kernel, bias), (1, outputs))
    return file.content(tensor), file.shapes[file.input]


def _joined(file, rng, first, second):
    shapes = file.shapes[first], file.shapes[second]
    if shapes[0] == shapes[1] and rng.random() < 0.5:
        return file.call("ADD", (first, second), shapes[0])
    zeros = [file._tensors[t].quantization.zeroPoint[0] for t in (first, second)]
    if zeros[0] != zeros[1]:  # they are joined as they are
        _, *size, channels = shapes[1]
        kernel, bias = file.weights(rng, (channels, 1, 1, channels), channels, 0)
        options = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
        second = file.call(
            "CONV_2D", (second, kernel, bias), (1, *size, channels), zeros[0], **options
        )
    pair = (first, second) if rng.random() < 0.5 else (second, first)
    shape = (*shapes[0][:3], shapes[0][3] + shapes[1][3])
    return file.call("CONCATENATION", pair, shape, zeros[0], axis=(3, -1)[rng.integers(2)])
