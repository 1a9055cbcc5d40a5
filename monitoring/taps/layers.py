"""Layers of any Keras model by name or path."""

from collections.abc import Iterable, Mapping

import keras


def layer_paths(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """Returns {path: layer} of every layer below `model`, each once.

    The cell of a recurrent layer is left out: it is called inside a loop.
    """
    paths: dict[str, keras.layers.Layer] = {}
    known = set()

    def visit(layer, prefix):
        if isinstance(layer, keras.layers.RNN):
            return
        # Keras lists the sublayers of a layer that is no model only in a private attribute.
        children = layer.layers if isinstance(layer, keras.Model) else layer._layers
        for child in children:
            if id(child) not in known and not isinstance(child, keras.layers.InputLayer):
                known.add(id(child))
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


def short_name(path: str, paths: Mapping) -> str:
    """Returns the bare name where no other layer has it."""
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
