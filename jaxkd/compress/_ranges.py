r"""Which range of values is quantized: what lies outside is clipped.

A range is a function ``(x, format) -> (low, high)`` of values ``[..., n]`` that share a
scale along their last axis. A wide range clips nothing and rounds coarsely; a narrow
one clips the largest values and rounds the others finely.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkd._types import Real
from jaxkd.compress import _histogram
from jaxkd.compress._formats import Format, round_to, value_of

Range: TypeAlias = Callable[
    [Float[Array, "*groups n"], Format],
    tuple[Float[Array, "*groups"], Float[Array, "*groups"]],
]


def absmax(
    x: Float[Array, "*groups n"], format: Format
) -> tuple[Float[Array, "*groups"], Float[Array, "*groups"]]:
    r"""The range that clips nothing and is symmetric, :math:`\pm \max |x|`.

    Args:
        x: values that share a scale along the last axis.
        format: not used.

    Returns:
        The low and the high end of each range.
    """
    largest = jnp.max(jnp.abs(x), axis=-1)
    return -largest, largest


def minmax(
    x: Float[Array, "*groups n"], format: Format
) -> tuple[Float[Array, "*groups"], Float[Array, "*groups"]]:
    r"""The smallest range of all values and 0, :math:`[\min(x, 0), \max(x, 0)]`.

    Zero is among them, so that padding and pruned weights stay exact.

    Args:
        x: values that share a scale along the last axis.
        format: not used.

    Returns:
        The low and the high end of each range.
    """
    return jnp.minimum(jnp.min(x, axis=-1), 0), jnp.maximum(jnp.max(x, axis=-1), 0)


def mean_abs(
    x: Float[Array, "*groups n"], format: Format
) -> tuple[Float[Array, "*groups"], Float[Array, "*groups"]]:
    r"""The scale of binary weights, :math:`\pm \mathrm{mean} |x|`.

    With two levels it gives the least squared error of all scales.

    Args:
        x: values that share a scale along the last axis.
        format: not used.

    Returns:
        The low and the high end of each range.

    References:
        Rastegari et al., `XNOR-Net <https://arxiv.org/abs/1603.05279>`_, 2016,
        section 3.1.
    """
    mean = jnp.mean(jnp.abs(x), axis=-1)
    return -mean, mean


def ternary(
    x: Float[Array, "*groups n"], format: Format
) -> tuple[Float[Array, "*groups"], Float[Array, "*groups"]]:
    r"""The scale of ternary weights: the mean magnitude of the larger ones.

    .. math::
        \Delta = 0.7\, \mathrm{mean} |x|, \quad
        \alpha = \mathrm{mean}_{|x_i| > \Delta} |x_i|

    The weights are then rounded to the nearest of :math:`-\alpha, 0, \alpha`, which for
    this scale is never worse than the threshold itself. Use it with ``INT2``.

    Args:
        x: values that share a scale along the last axis.
        format: not used.

    Returns:
        The low and the high end of each range.

    References:
        Li et al., `Ternary Weight Networks <https://arxiv.org/abs/1605.04711>`_, 2016,
        section 2.
    """
    size = jnp.abs(x)
    large = size > 0.7 * jnp.mean(size, axis=-1, keepdims=True)
    count = jnp.maximum(jnp.sum(large, axis=-1, dtype=x.dtype), 1)
    mean = jnp.sum(jnp.where(large, size, 0), axis=-1) / count
    return -mean, mean


def make_percentile(percentile: Real) -> Range:
    """A range that clips the largest magnitudes of each group.

    Args:
        percentile: how many percent of the magnitudes are inside, in ``(0, 100]``.

    Returns:
        The function ``(x, format) -> (low, high)``.

    Raises:
        ValueError: if the percentage is outside.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> low, high = compress.make_percentile(50)(jnp.arange(5.0), compress.INT8)
        >>> print(low, high)
        -2.0 2.0
    """
    _histogram.check_percentile(percentile)

    def percentile_range(
        x: Float[Array, "*groups n"], format: Format
    ) -> tuple[Float[Array, "*groups"], Float[Array, "*groups"]]:
        high = jnp.percentile(jnp.abs(x), percentile, axis=-1)
        return -high, high

    return percentile_range


def least_squares(
    x: Float[Array, "*groups n"], format: Format
) -> tuple[Float[Array, "*groups"], Float[Array, "*groups"]]:
    r"""The range of least squared error, of 100 fractions of the largest magnitude.

    .. math::
        \arg\min_{c} \sum_i (x_i - \hat{x}_i(c))^2, \quad
        c \in \{0.01, \dots, 1\} \cdot \max |x|

    Args:
        x: values that share a scale along the last axis.
        format: the format they are rounded to; a symmetric one.

    Returns:
        The low and the high end of each range.
    """
    _, largest = absmax(x, format)

    def error_at(fraction: Float[Array, ""]) -> Float[Array, "*groups"]:
        scale = jnp.where(largest > 0, largest * fraction / format.bound, 1)[..., None]
        rounded = value_of(round_to(x / scale, format), format) * scale
        return jnp.sum((x - rounded) ** 2, axis=-1)

    fractions = jnp.arange(1, 101, dtype=x.dtype) / 100
    errors = jax.lax.map(error_at, fractions)
    high = largest * fractions[jnp.argmin(errors, axis=0)]
    return -high, high


def least_divergence(
    x: Float[Array, "*groups n"], format: Format
) -> tuple[Float[Array, "*groups"], Float[Array, "*groups"]]:
    """The range whose histogram of magnitudes diverges least when it is coarsened.

    The histogram has 2048 bins; see :func:`histogram_entropy`.

    Args:
        x: values that share a scale along the last axis.
        format: the format they are rounded to; a symmetric one.

    Returns:
        The low and the high end of each range.
    """
    flat = x.reshape(-1, x.shape[-1])

    def high_of(row: Float[Array, " n"]) -> Float[Array, ""]:
        counts, limit = _histogram.count(jnp.abs(row), bins=2048)
        return _histogram.histogram_entropy(counts, limit, levels=_levels(format))

    high = jax.lax.map(high_of, flat).reshape(x.shape[:-1])
    return -high, high


def _levels(format: Format) -> int:
    """Of magnitudes: half of those of both signs."""
    return 2 ** (format.bits - 1)


def usual_range(format: Format) -> Range:
    """The range that a format is used with unless told otherwise.

    Args:
        format: the format.

    Returns:
        :func:`minmax` for affine formats, :func:`mean_abs` for one bit, otherwise
        :func:`absmax`.
    """
    if format.affine:
        return minmax
    return mean_abs if format.bits == 1 else absmax


def scale_of(
    low: Float[Array, "..."], high: Float[Array, "..."], format: Format
) -> tuple[Float[Array, "..."], Int[Array, "..."] | None]:
    r"""The scale and zero point that map a range on a format.

    Symmetric: :math:`\sigma = \max(|low|, |high|) / bound`. Affine, over
    :math:`[\min(low, 0), \max(high, 0)]`:

    .. math::
        \sigma = \frac{high - low}{upper - lower}, \quad
        z = \mathrm{round}(lower - low / \sigma)

    Args:
        low: the low end of the range.
        high: the high end.
        format: the format.

    Returns:
        The scale, 1 where the range is empty, and the zero point in
        ``[lower, upper]``, int32; ``None`` for a symmetric format.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> low, high = jnp.float32(-1.0), jnp.float32(1.55)
        >>> scale, zero_point = compress.scale_of(low, high, compress.AFFINE8)
        >>> print(scale, zero_point)
        0.01 -28
    """
    if not format.affine:
        size = jnp.maximum(jnp.abs(low), jnp.abs(high))
        # An empty range takes any scale if 0 is a level, and the least if it is not.
        empty = jnp.finfo(size.dtype).tiny if format.bits == 1 else 1
        return _positive(size / format.bound, empty), None
    low, high = jnp.minimum(low, 0), jnp.maximum(high, 0)
    scale = _positive((high - low) / (format.upper - format.lower))
    zero_point = jnp.clip(
        jnp.round(format.lower - low / scale), format.lower, format.upper
    )
    return scale, zero_point.astype(jnp.int32)


def _positive(scale: Float[Array, "..."], empty: Any = 1) -> Float[Array, "..."]:
    # Of a subnormal scale the quotient overflows, so it counts as an empty range.
    return jnp.where(scale >= jnp.finfo(scale.dtype).tiny, scale, empty)
