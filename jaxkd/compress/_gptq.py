"""GPTQ: rounding one input after the other, each correcting the errors before it."""

from typing import Any

import jax
from jax import numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from jaxkd import _checks
from jaxkd._types import Real, Whole
from jaxkd.compress._formats import INT4, Format, round_to, value_of
from jaxkd.compress._quantize import Scheme, check_quantizable, quantize_with
from jaxkd.compress._ranges import Range, scale_of, usual_range
from jaxkd.compress._records import QuantizedArray


def gram(
    inputs: Float[Array, "*batch features"],
    total: Float[Array, "features features"] | None = None,
) -> Float[Array, "features features"]:
    r"""The sum of products of inputs, :math:`\sum_b x_b x_b^\top`, to be added up.

    Args:
        inputs: what a layer is given.
        total: the sum over the batches before.

    Returns:
        The sum with this batch, float32.
    """
    flat = inputs.reshape(-1, inputs.shape[-1]).astype(jnp.float32)
    product = jnp.matmul(flat.T, flat, precision="highest")
    return product if total is None else total + product


def gptq(
    kernel: Float[Array, "features outputs"],
    inputs_gram: Float[Array, "features features"],
    *,
    format: Format = INT4,
    tile: Whole | None = None,
    range: Range | None = None,
    damping: Real = 0.01,
) -> QuantizedArray:
    r"""Quantizes a layer so that its outputs, not its weights, change least.

    With :math:`H = X^\top X + \lambda\, \overline{\mathrm{diag}}\, I` and the upper
    Cholesky factor :math:`U` of its inverse, the rows :math:`w_i` of the kernel are
    rounded in order, and the error of each is taken out of those still to come:

    .. math::
        e_i = \frac{w_i - \hat{w}_i}{U_{ii}}, \quad
        w_j \leftarrow w_j - U_{ij}\, e_i \quad (j > i)

    The scales of a tile are those of its weights when the first of them is rounded.
    An input that is always 0 has its weights set to 0.

    Args:
        kernel: the weights, one column for each output.
        inputs_gram: the sum :math:`X^\top X` over calibration inputs, of :func:`gram`.
        format: the numbers that the weights are rounded to; without a zero point.
        tile: how many weights in a column share a scale; ``None`` for all.
        range: which values are not clipped.
        damping: :math:`\lambda`, positive; more makes the outcome more like rounding.

    Returns:
        A :class:`QuantizedArray`, as of :func:`quantize` with scales per output.

    Raises:
        ValueError: if the shapes do not fit, the format has a zero point, or the sum is
            not finite or not positive semidefinite, so that the errors are not.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import compress
        >>> x, w = jax.random.normal(jax.random.key(0), (2, 64, 8))
        >>> x = x.at[:, 1:].add(3 * x[:, :1])
        >>> rounded = compress.quantize({"kernel": w.T}, format=compress.INT2)
        >>> plain = compress.dequantize(rounded)["kernel"]
        >>> small = compress.gptq(w.T, compress.gram(x), format=compress.INT2)
        >>> error = lambda v: float(jnp.mean((x @ (v - w.T)) ** 2))
        >>> error(compress.dequantize(small)) < error(plain)
        True

    References:
        Frantar et al., `GPTQ: Accurate Post-Training Quantization for Generative
        Pre-trained Transformers <https://arxiv.org/abs/2210.17323>`_, 2023, section 3.
    """
    check_quantizable(kernel, "kernel")
    _checks.check_positive(damping=damping)
    _check_gram(kernel, inputs_gram)
    if format.affine:
        raise ValueError("`format` must be symmetric for GPTQ.")
    length = kernel.shape[0] if tile is None else int(tile)
    if length < 1 or kernel.shape[0] % length:
        raise ValueError(
            f"`tile` is {tile}, but must divide the {kernel.shape[0]} inputs."
        )
    weights, factor = _prepare(kernel, inputs_gram, damping)
    if not isinstance(factor, Tracer) and not bool(jnp.isfinite(factor).all()):
        raise ValueError(
            "the sum of the inputs' products is not positive semidefinite in float32; "
            "use more `damping`, or other inputs."
        )
    rounded, scale = _round_rows(
        weights, factor, length, format, range or usual_range(format)
    )
    return quantize_with(
        rounded.astype(kernel.dtype), scale, None, Scheme(format, 1, tile)
    )


def _check_gram(kernel: Array, inputs_gram: Array) -> None:
    if kernel.ndim != 2 or inputs_gram.shape != (kernel.shape[0],) * 2:
        raise ValueError(
            f"`kernel` has shape {kernel.shape} and `inputs_gram` "
            f"{inputs_gram.shape}; they must be (inputs, outputs) and (inputs, inputs)."
        )
    if not isinstance(inputs_gram, Tracer) and not bool(
        jnp.isfinite(inputs_gram).all()
    ):
        raise ValueError("`inputs_gram` is not finite.")


def _prepare(
    kernel: Array, inputs_gram: Array, damping: Real
) -> tuple[Float[Array, "i o"], Float[Array, "i i"]]:
    """The weights, and the upper Cholesky factor of the inverse of the damped sum."""
    gram = inputs_gram.astype(jnp.float32)
    diagonal = jnp.diagonal(gram)
    dead = diagonal == 0
    weights = jnp.where(dead[:, None], 0, kernel.astype(jnp.float32))
    diagonal = jnp.where(dead, 1.0, 0.0) + damping * jnp.mean(
        jnp.where(dead, 1.0, diagonal)
    )
    lower = jnp.linalg.cholesky(gram + jnp.diag(diagonal))
    eye = jnp.eye(len(gram))
    inverse = jax.scipy.linalg.cho_solve((lower, True), eye)
    return weights, jnp.linalg.cholesky((inverse + inverse.T) / 2).T


def _round_rows(
    weights: Float[Array, "i o"],
    factor: Float[Array, "i i"],
    tile: int,
    format: Format,
    fit: Range,
) -> tuple[Float[Array, "i o"], Float[Array, "tiles o"]]:
    """The rounded weights, and the scale of each tile."""
    inputs, outputs = weights.shape

    def step(i: Int[Array, ""], carry: Any) -> Any:
        left, rounded, scales = carry
        group = i // tile
        scale = jax.lax.cond(
            i % tile == 0,
            lambda: _tile_scale(left, group * tile, tile, format, fit),
            lambda: scales[group],
        )
        row = value_of(round_to(left[i] / scale, format), format) * scale
        error = (left[i] - row) / factor[i, i]
        later = jnp.where(jnp.arange(inputs) > i, factor[i], 0)
        left = left - later[:, None] * error[None, :]
        return left, rounded.at[i].set(row), scales.at[group].set(scale)

    start = (weights, jnp.zeros_like(weights), jnp.ones((inputs // tile, outputs)))
    _, rounded, scales = jax.lax.fori_loop(0, inputs, step, start)
    return rounded, scales


def _tile_scale(
    left: Array, first: Array, tile: int, format: Format, fit: Range
) -> Float[Array, " o"]:
    rows = jax.lax.dynamic_slice_in_dim(left, first, tile)
    return scale_of(*fit(rows.T, format), format)[0]
