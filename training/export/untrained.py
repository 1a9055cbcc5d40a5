"""The arena of a network before it is trained: its weights make no difference to it."""

import importlib.util
from typing import NamedTuple

import keras
import numpy as np

from training.export.arena import blocks_of, plan_arena
from training.export.graph import read_graph
from training.export.offline_plan import OVERLAP, with_offsets
from training.litert import arena_bytes, convert

PACKAGES = {"tflite_micro": "tflite-micro", "ai_edge_litert": "ai-edge-litert"}


class ArenaSizes(NamedTuple):
    """Bytes of working memory, as TensorFlow Lite Micro counts them.

    Attributes:
        plain: Where the runtime places tensors.
        overlap: With outputs over inputs; an export checks whether the file then still
            computes the same.
        rest: What of either is not for tensors, but for the runtime itself.
    """

    plain: int
    overlap: int
    rest: int

    def of(self, plan: str) -> int:
        """Returns the size with a plan, "plain" or "overlap"."""
        return self.overlap if plan == OVERLAP else self.plain


def arena_sizes(model: keras.Model) -> ArenaSizes:
    """Converts a network to INT8, and returns the size of its arena.

    Args:
        model: A network of fixed input size, with one input and one output.

    Raises:
        ValueError: A package is missing, Keras runs on another backend than TensorFlow, or
            TensorFlow Lite Micro cannot run the network.

    Example:
        >>> from models import Nano_U
        >>> arena_sizes(Nano_U())  # doctest: +SKIP
        ArenaSizes(plain=87776, overlap=50064, rest=10976)
    """
    for module, package in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise ValueError(f"it needs {package}: pip install --pre {package}")
    if keras.config.backend() != "tensorflow":
        raise ValueError("it needs Keras on TensorFlow")
    shape = (1, *model.input_shape[1:])
    content = convert(model, np.random.default_rng(0).uniform(-1, 1, shape).astype("float32"))
    graph = read_graph(content)
    plan = plan_arena(blocks_of(graph))
    planned = with_offsets(content, plan.offsets, graph.count)
    plain, overlap = arena_bytes(content), arena_bytes(planned)
    if plain is None or overlap is None:
        raise ValueError("TensorFlow Lite Micro cannot run the network")
    return ArenaSizes(plain, overlap, overlap - plan.size)
