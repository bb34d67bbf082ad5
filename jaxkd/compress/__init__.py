"""Compression: pure functions from parameter trees to parameter trees."""

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
from jaxkd.compress._keep_sparse import KeepSparseState, keep_sparse
from jaxkd.compress._low_rank import (
    Factors,
    break_even_rank,
    factorize,
    factorize_kernel,
    multiply_factors,
)
from jaxkd.compress._masks import (
    apply_masks,
    check_masks,
    magnitude_masks,
    magnitude_prune,
)
from jaxkd.compress._palette import cluster, density_start, linear_start
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
from jaxkd.compress._schedules import Schedule, cubic
from jaxkd.compress._smooth import check_same_outputs, smooth, smooth_scales
from jaxkd.compress._sparse import sparse_matmul, to_sparse

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
    "Factors",
    "Format",
    "KeepSparseState",
    "Palette",
    "QuantizedArray",
    "Saved",
    "Schedule",
    "Scheme",
    "absmax",
    "apply_masks",
    "break_even_rank",
    "calibrate",
    "check_masks",
    "check_same_outputs",
    "cluster",
    "cubic",
    "density_start",
    "dequantize",
    "factorize",
    "factorize_kernel",
    "fake_quantize",
    "fake_quantize_array",
    "from_qwix",
    "gptq",
    "gram",
    "histogram_entropy",
    "histogram_mse",
    "histogram_percentile",
    "init_steps",
    "keep_sparse",
    "learned_step",
    "learned_steps",
    "least_divergence",
    "least_squares",
    "linear_start",
    "load_tree",
    "magnitude_masks",
    "magnitude_prune",
    "make_percentile",
    "mean_abs",
    "minmax",
    "multiply_factors",
    "quantize",
    "quantize_array",
    "quantize_by_rules",
    "quantize_steps",
    "save_tree",
    "scale_of",
    "smooth",
    "smooth_scales",
    "sparse_matmul",
    "stream_absmax",
    "stream_average",
    "stream_entropy",
    "stream_minmax",
    "stream_mse",
    "stream_percentile",
    "ternary",
    "to_qwix",
    "to_sparse",
]
