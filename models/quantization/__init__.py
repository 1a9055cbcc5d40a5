"""Training with the rounding of INT8, and folding it into the kernels for export."""

from .network import StartRounding, folded, is_quantization_aware, quantization_aware

__all__ = ["StartRounding", "folded", "is_quantization_aware", "quantization_aware"]
