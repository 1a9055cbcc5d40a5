"""Layers of any Keras model by name or path."""

import re
from collections import Counter
from collections.abc import Iterable

import keras

NUMBER = re.compile(r"#\d+(?=/|$)")  # of layers that have one name in one place


def layer_paths(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Returns {path: layer} of every layer below `model`, each once.

    Layers of one name in one place are numbered: "block#1", "block#2". The cell of a recurrent
    layer is left out: it is called inside a loop.

    Example:
        >>> twins = [keras.layers.Dense(2, name="mix") for _ in range(2)]
        >>> class Net(keras.Model):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.twins = twins
        >>> list(layer_paths(Net()))
        ['mix#1', 'mix#2']
    """
    paths: dict[str, keras.layers.Layer] = {}
    visited: set[int] = set()

    def visit(layer: keras.layers.Layer, prefix: str) -> None:
        if isinstance(layer, keras.layers.RNN):
            return
        # Unless a layer is a model, Keras lists its sublayers only in a private attribute.
        children = layer.layers if isinstance(layer, keras.Model) else layer._layers
        new = {id(child): child for child in children if id(child) not in visited}
        visited.update(new)
        here = [c for c in new.values() if not isinstance(c, keras.layers.InputLayer)]
        total, number = Counter(child.name for child in here), Counter[str]()
        for child in here:
            number[child.name] += 1
            twin = f"#{number[child.name]}" if total[child.name] > 1 else ""
            path = f"{prefix}{child.name}{twin}"
            paths[path] = child
            visit(child, f"{path}/")

    visit(model, "")
    return paths


def matching_paths(name: str, paths: Iterable[str]) -> list[str]:
    """Returns the paths that `name`, bare or with some of its path, stands for.

    A name without numbers stands for layers of every number.

    Example:
        >>> matching_paths("conv", ["conv", "block/conv"]), matching_paths("b/c", ["a/b/c"])
        (['conv'], ['a/b/c'])
        >>> matching_paths("block/conv", ["block#1/conv", "block#2/conv"])
        ['block#1/conv', 'block#2/conv']
    """
    matches = [
        path
        for path in paths
        if any(f"/{form}".endswith(f"/{name}") for form in (path, NUMBER.sub("", path)))
    ]
    return [name] if name in matches else matches


def short_name(path: str, paths: Iterable[str]) -> str:
    """Returns the bare name of a layer, or its path if another layer has that name.

    Example:
        >>> paths = ["conv", "block/conv", "block/relu"]
        >>> [short_name(path, paths) for path in paths]
        ['conv', 'block/conv', 'relu']
    """
    bare = path.rsplit("/", 1)[-1]
    return bare if sum(other.rsplit("/", 1)[-1] == bare for other in paths) == 1 else path


def is_probe(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer is a probe: an `Identity` whose name begins with `probe_`.

    Example:
        >>> is_probe(keras.layers.Identity(name="probe_encoder_1"))
        True
        >>> is_probe(keras.layers.Identity(name="shortcut"))
        False
    """
    return isinstance(layer, keras.layers.Identity) and layer.name.startswith("probe_")
