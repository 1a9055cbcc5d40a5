"""Training with the rounding of INT8, and folding it into the kernels for export."""

from .network import (
    IMAGE_RANGE,
    StartRounding,
    folded,
    is_quantization_aware,
    quantization_aware,
)

__all__ = [
    "IMAGE_RANGE",
    "StartRounding",
    "folded",
    "is_quantization_aware",
    "quantization_aware",
]
