"""The one output of a model, whatever dict or list it lies in."""

from typing import Any

import keras


def single_output(model: keras.Model, outputs: Any) -> Any:
    """Returns the one tensor or array in what a model returns.

    Args:
        model: The model, for the error.
        outputs: What it returns: an array, or a dict or list of them.

    Raises:
        ValueError: There are several.

    Example:
        >>> single_output(keras.Sequential(), {"main": 1.5})
        1.5
    """
    parts = keras.tree.flatten(outputs)
    if len(parts) == 1:
        return parts[0]
    names: list[str] = getattr(model, "output_names", [])
    if isinstance(outputs, dict):
        names = list(outputs)
    named = f": {', '.join(names)}" if len(names) == len(parts) else ""
    advice = "a model that returns one of them"
    if getattr(model, "outputs", None):
        first = f"output[{names[0]!r}]" if isinstance(outputs, dict) else "outputs[0]"
        advice = f"one of them: keras.Model(model.inputs, model.{first})"
    raise ValueError(
        f"Expected a model with one output. Received: {len(parts)} outputs of model "
        f"'{model.name}'{named}. Use {advice}"
    )
