"""Compression: pure functions from parameter trees to parameter trees."""

from jaxkd.compress._allocation import erk_sparsities, owl_sparsities
from jaxkd.compress._calibrate import (
    Calibration,
    calibrate,
    stream_absmax,
    stream_average,
    stream_entropy,
    stream_minmax,
    stream_mse,
    stream_percentile,
)
from jaxkd.compress._dynamic import DynamicState, regrow_masks, rigl, sparse_evolution
from jaxkd.compress._forget import ForgetState, forget_pruned
from jaxkd.compress._formats import (
    AFFINE4,
    AFFINE8,
    BINARY,
    INT2,
    INT4,
    INT8,
    NF4,
    Format,
)
from jaxkd.compress._gptq import gptq, gram
from jaxkd.compress._histogram import (
    histogram_entropy,
    histogram_mse,
    histogram_percentile,
)
from jaxkd.compress._huffman import CodingError
from jaxkd.compress._keep_sparse import Draw, KeepSparseState, keep_sparse
from jaxkd.compress._low_rank import (
    Factors,
    break_even_rank,
    factorize,
    factorize_kernel,
    multiply_factors,
)
from jaxkd.compress._masks import (
    Sparsity,
    apply_masks,
    check_masks,
    magnitude_masks,
    magnitude_prune,
    straight_through_prune,
    top_masks,
)
from jaxkd.compress._palette import cluster, density_start, linear_start
from jaxkd.compress._patterns import (
    block_masks,
    channel_masks,
    n_of_m_masks,
    output_masks,
)
from jaxkd.compress._qat import (
    fake_quantize,
    fake_quantize_array,
    init_steps,
    learned_step,
    learned_steps,
    quantize_steps,
)
from jaxkd.compress._quantize import (
    Scheme,
    quantize,
    quantize_array,
    quantize_by_rules,
)
from jaxkd.compress._qwix import from_qwix, to_qwix
from jaxkd.compress._ranges import (
    absmax,
    least_divergence,
    least_squares,
    make_percentile,
    mean_abs,
    minmax,
    scale_of,
    ternary,
)
from jaxkd.compress._records import Palette, QuantizedArray, dequantize
from jaxkd.compress._saver import Saved, load_tree, save_tree
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
from jaxkd.compress._sensitivity import Sensitivity, sensitivity
from jaxkd.compress._smooth import check_same_outputs, smooth, smooth_scales
from jaxkd.compress._sparse import sparse_matmul, to_sparse
from jaxkd.compress._sparse_gpt import input_hessian, sparse_gpt
from jaxkd.compress._structure.activations import activation_importance
from jaxkd.compress._structure.depth import layer_importance, take_layers
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
from jaxkd.compress._structure.latency import latency
from jaxkd.compress._structure.removal import take_units, take_units_along, zero_units
from jaxkd.compress._structure.sensitivity import search_units, unit_sensitivity
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
    "AFFINE4",
    "AFFINE8",
    "BINARY",
    "INT2",
    "INT4",
    "INT8",
    "NF4",
    "Calibration",
    "CodingError",
    "Draw",
    "DynamicState",
    "Factors",
    "ForgetState",
    "Format",
    "Group",
    "Groups",
    "KeepSparseState",
    "Kept",
    "Member",
    "Palette",
    "QuantizedArray",
    "Saved",
    "Schedule",
    "Scheme",
    "Scores",
    "Sensitivity",
    "ShrinkReport",
    "Sparsity",
    "Target",
    "Units",
    "Widths",
    "absmax",
    "activation_importance",
    "alternating",
    "apply_masks",
    "block_masks",
    "break_even_rank",
    "bytes",
    "calibrate",
    "channel_masks",
    "check_masks",
    "check_same_outputs",
    "cluster",
    "cubic",
    "density_start",
    "dependency_groups",
    "dequantize",
    "erk_sparsities",
    "factorize",
    "factorize_kernel",
    "fake_quantize",
    "fake_quantize_array",
    "flops",
    "forget_pruned",
    "from_qwix",
    "gptq",
    "gram",
    "grasp_scores",
    "histogram_entropy",
    "histogram_mse",
    "histogram_percentile",
    "init_steps",
    "input_hessian",
    "iterative",
    "keep_sparse",
    "l2_importance",
    "lamp_scores",
    "latency",
    "layer_importance",
    "learned_step",
    "learned_steps",
    "least_divergence",
    "least_squares",
    "linear_start",
    "load_tree",
    "magnitude_masks",
    "magnitude_prune",
    "magnitude_scores",
    "make_percentile",
    "mean_abs",
    "median_importance",
    "minmax",
    "movement_scores",
    "multiply_factors",
    "n_of_m_masks",
    "normalized_scores",
    "one_shot",
    "output_masks",
    "owl_sparsities",
    "params",
    "polynomial",
    "quantize",
    "quantize_array",
    "quantize_by_rules",
    "quantize_steps",
    "random_importance",
    "random_scores",
    "regrow_masks",
    "rigl",
    "save_tree",
    "scale_importance",
    "scale_of",
    "search_units",
    "sensitivity",
    "shrink",
    "smooth",
    "smooth_scales",
    "snip_scores",
    "sparse_evolution",
    "sparse_gpt",
    "sparse_matmul",
    "straight_through_prune",
    "stream_absmax",
    "stream_average",
    "stream_entropy",
    "stream_minmax",
    "stream_mse",
    "stream_percentile",
    "take_layers",
    "take_units",
    "take_units_along",
    "taylor_importance",
    "taylor_scores",
    "ternary",
    "to_qwix",
    "to_sparse",
    "top_masks",
    "unit_sensitivity",
    "units",
    "wanda_scores",
    "zero_units",
]
