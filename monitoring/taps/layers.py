"""Layers of any Keras model by name or path."""

from collections.abc import Iterable

import keras


def layer_paths(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Returns {path: layer} of every layer below `model`, each once.

    The cell of a recurrent layer is left out: it is called inside a loop.
    """
    paths: dict[str, keras.layers.Layer] = {}
    visited: set[int] = set()

    def visit(layer: keras.layers.Layer, prefix: str) -> None:
        if isinstance(layer, keras.layers.RNN):
            return
        # Unless a layer is a model, Keras lists its sublayers only in a private attribute.
        children = layer.layers if isinstance(layer, keras.Model) else layer._layers
        for child in children:
            if id(child) not in visited and not isinstance(child, keras.layers.InputLayer):
                visited.add(id(child))
                paths[f"{prefix}{child.name}"] = child
                visit(child, f"{prefix}{child.name}/")

    visit(model, "")
    return paths


def matching_paths(name: str, paths: Iterable[str]) -> list[str]:
    """Returns the paths that `name`, bare or with some of its path, stands for.

    Example:
        >>> matching_paths("conv", ["conv", "block/conv"]), matching_paths("b/c", ["a/b/c"])
        (['conv'], ['a/b/c'])
    """
    matches = [path for path in paths if path == name or path.endswith(f"/{name}")]
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
