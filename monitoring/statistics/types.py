"""Names for arguments and results whose type only the Keras backend knows."""

from typing import Any

Tensor = Any
"""A tensor of the Keras backend, or a NumPy array."""

Images = Any
"""Whatever `model.predict` takes: arrays, also in lists, tuples or dicts, or a dataset."""
