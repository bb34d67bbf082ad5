"""Compression: pure functions from parameter trees to parameter trees."""

from jaxkd.compress._allocation import erk_sparsities, owl_sparsities
from jaxkd.compress._dynamic import (
    DynamicState,
    regrow_masks,
    rigl,
    sparse_evolution,
)
from jaxkd.compress._forget import ForgetState, forget_pruned
from jaxkd.compress._keep_sparse import Draw, KeepSparseState, keep_sparse
from jaxkd.compress._masks import (
    Sparsity,
    apply_masks,
    check_masks,
    magnitude_masks,
    magnitude_prune,
    straight_through_prune,
    top_masks,
)
from jaxkd.compress._patterns import (
    block_masks,
    channel_masks,
    n_of_m_masks,
    output_masks,
)
from jaxkd.compress._quantize import QuantizedArray, dequantize, quantize
from jaxkd.compress._schedules import (
    Schedule,
    alternating,
    cubic,
    iterative,
    one_shot,
    polynomial,
)
from jaxkd.compress._scores import (
    grasp_scores,
    lamp_scores,
    magnitude_scores,
    movement_scores,
    normalized_scores,
    random_scores,
    snip_scores,
    taylor_scores,
    wanda_scores,
)
from jaxkd.compress._sparse_gpt import input_hessian, sparse_gpt
from jaxkd.compress._structure.activations import activation_importance
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
    flops,
    params,
    units,
)

__all__ = [
    "Draw",
    "DynamicState",
    "ForgetState",
    "Group",
    "Groups",
    "KeepSparseState",
    "Kept",
    "Member",
    "QuantizedArray",
    "Schedule",
    "Scores",
    "ShrinkReport",
    "Sparsity",
    "Target",
    "Units",
    "Widths",
    "activation_importance",
    "alternating",
    "apply_masks",
    "block_masks",
    "bytes",
    "channel_masks",
    "check_masks",
    "cubic",
    "dependency_groups",
    "dequantize",
    "erk_sparsities",
    "flops",
    "forget_pruned",
    "grasp_scores",
    "input_hessian",
    "iterative",
    "keep_sparse",
    "l2_importance",
    "lamp_scores",
    "magnitude_masks",
    "magnitude_prune",
    "magnitude_scores",
    "median_importance",
    "movement_scores",
    "n_of_m_masks",
    "normalized_scores",
    "one_shot",
    "output_masks",
    "owl_sparsities",
    "params",
    "polynomial",
    "quantize",
    "random_importance",
    "random_scores",
    "regrow_masks",
    "rigl",
    "scale_importance",
    "shrink",
    "snip_scores",
    "sparse_evolution",
    "sparse_gpt",
    "straight_through_prune",
    "take_units",
    "take_units_along",
    "taylor_importance",
    "taylor_scores",
    "top_masks",
    "units",
    "wanda_scores",
    "zero_units",
]
