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
from jaxkd.compress._structure.groups import (
    Group,
    Groups,
    Kept,
    Member,
    dependency_groups,
)
from jaxkd.compress._structure.importance import (
    l2_importance,
    median_importance,
    random_importance,
    scale_importance,
    taylor_importance,
)
from jaxkd.compress._structure.removal import take_units, take_units_along, zero_units
from jaxkd.compress._structure.shrink import Scores, ShrinkReport, shrink
from jaxkd.compress._structure.targets import (
    Target,
    Units,
    Widths,
    bytes,
    channels,
    flops,
    params,
)

__all__ = [
    "Group",
    "Groups",
    "KeepSparseState",
    "Kept",
    "Member",
    "QuantizedArray",
    "Schedule",
    "Scores",
    "ShrinkReport",
    "Target",
    "Units",
    "Widths",
    "apply_masks",
    "bytes",
    "channels",
    "check_masks",
    "cubic",
    "dependency_groups",
    "dequantize",
    "flops",
    "keep_sparse",
    "l2_importance",
    "magnitude_masks",
    "magnitude_prune",
    "median_importance",
    "params",
    "quantize",
    "random_importance",
    "scale_importance",
    "shrink",
    "take_units",
    "take_units_along",
    "taylor_importance",
    "zero_units",
]
