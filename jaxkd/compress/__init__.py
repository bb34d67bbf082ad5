"""Compression: pure functions from parameter trees to parameter trees."""

from jaxkd.compress._keep_sparse import KeepSparseState, keep_sparse
from jaxkd.compress._masks import (
    apply_masks,
    check_masks,
    magnitude_masks,
    magnitude_prune,
)
from jaxkd.compress._quantize import QuantizedArray, dequantize, quantize
from jaxkd.compress._schedules import Schedule, cubic

__all__ = [
    "KeepSparseState",
    "QuantizedArray",
    "Schedule",
    "apply_masks",
    "check_masks",
    "cubic",
    "dequantize",
    "keep_sparse",
    "magnitude_masks",
    "magnitude_prune",
    "quantize",
]
