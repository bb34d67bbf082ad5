"""Weights as small integers with scales, per tensor, channel or tile."""

import math
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from jaxkd import trees
from jaxkd._types import Params, Tree, Whole
from jaxkd.compress._formats import (
    INT8,
    Format,
    check_format,
    pack,
    round_to,
)
from jaxkd.compress._ranges import Range, scale_of, usual_range
from jaxkd.compress._records import QuantizedArray, check_uncompressed, spread


class Scheme(NamedTuple):
    """How an array is quantized.

    Attributes:
        format: the numbers it is rounded to: ``INT8``, ``INT4``, ``INT2`` (ternary),
            ``AFFINE8``, ``AFFINE4``, ``NF4``, ``BINARY``, or another.
        axis: the channel axis or axes, each with scales of its own; ``()`` for one
            scale. The last axis is the output of every Flax kernel.
        tile: how many weights in a row share a scale, along the last axis which is no
            channel axis (the input of a Flax kernel); ``None`` for all of them.
        range: which values are not clipped; by default :func:`minmax` for affine
            formats, :func:`mean_abs` for ``BINARY``, otherwise :func:`absmax`.
    """

    format: Format = INT8
    axis: Whole | tuple[Whole, ...] = -1
    tile: Whole | None = None
    range: Range | None = None


def quantize(
    params: Params,
    *,
    where: str = "kernel$",
    axis: Whole | tuple[Whole, ...] = -1,
    format: Format = INT8,
    tile: Whole | None = None,
    range: Range | None = None,
) -> Tree:
    r"""Rounds weights to small integers, by default to int8 with a scale per channel.

    .. math::
        \sigma = \max |x| / 127, \quad v = \mathrm{round}(x / \sigma)

    The maximum runs over all weights that share a scale; rounding is to nearest, ties
    to even. The error of a weight which is not clipped is at most :math:`\sigma / 2`,
    and zeros stay zeros. A channel of zeros has the scale 1. For other formats and
    ranges see :class:`Scheme` and :func:`scale_of`; for several schemes in one tree,
    :func:`quantize_by_rules`.

    Args:
        params: a tree of arrays.
        where: a regular expression for the paths of the leaves to quantize.
        axis: the channel axis or axes; the last is the output of every Flax kernel.
        format: the numbers that the weights are rounded to.
        tile: how many weights in a row share a scale; ``None`` for all of a channel.
        range: which values are not clipped.

    Returns:
        The tree with a :class:`QuantizedArray` in place of each of these leaves.

    Raises:
        ValueError: if no path matches, a leaf is quantized already or not finite, or
            the axis or the tile does not fit its shape.
        TypeError: if a leaf to quantize is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {"kernel": jnp.array([[0.5, 10.0], [-1.0, 0.0]])}
        >>> print(compress.quantize(params)["kernel"].values)
        [[  64  127]
         [-127    0]]

    References:
        Krishnamoorthi, `Quantizing deep convolutional networks for efficient inference
        <https://arxiv.org/abs/1806.08342>`_, 2018, section 2.2 and 3.1.1.
    """
    scheme = Scheme(format, axis, tile, range)
    return quantize_by_rules(params, [(where, scheme)])


def quantize_by_rules(params: Params, rules: trees.Rules) -> Tree:
    """Quantizes each leaf by the first rule that its path matches.

    Args:
        params: a tree of arrays.
        rules: pairs of a regular expression and a :class:`Scheme`, or ``None`` to leave
            the leaf as it is; what no rule matches is left too.

    Returns:
        The tree with a :class:`QuantizedArray` in place of each quantized leaf.

    Raises:
        ValueError: if a rule matches no path, or as :func:`quantize`.
        TypeError: if a leaf to quantize is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> kernel = {"kernel": jnp.ones((8, 4))}
        >>> params = {"body": kernel, "head": kernel}
        >>> int4 = compress.Scheme(compress.INT4, tile=4)
        >>> rules = [("^head/", compress.Scheme()), ("kernel$", int4)]
        >>> small = compress.quantize_by_rules(params, rules)
        >>> [small[name]["kernel"].scale.shape for name in ("body", "head")]
        [(2, 4), (1, 4)]
    """
    check_uncompressed(params)
    schemes = trees.assign(params, rules, default=None)

    def one(path: Any, x: Array, scheme: Scheme | None) -> Array | QuantizedArray:
        if scheme is None:
            return x
        return quantize_array(x, scheme, name=trees.path_string(path))

    return jax.tree.map_with_path(one, params, schemes)


def quantize_array(x: Array, scheme: Scheme, *, name: str = "x") -> QuantizedArray:
    """Quantizes one array.

    Args:
        x: an array of floating point numbers.
        scheme: how.
        name: what to call it in errors.

    Returns:
        The :class:`QuantizedArray`.

    Raises:
        ValueError: if it is not finite, or the axis or the tile does not fit its shape.
        TypeError: if it is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> x = jnp.array([[0.0, 1.0], [2.55, 0.5]])
        >>> small = compress.quantize_array(
        ...     x, compress.Scheme(compress.AFFINE8, axis=())
        ... )
        >>> print(small.values, small.zero_point)
        [[-128  -28]
         [ 127  -78]] [[-128]]
    """
    check_quantizable(x, name)
    scale, zero_point = scales(x, scheme, name=name)
    axis = channel_axes(x.ndim, scheme.axis, name)
    return quantize_with(x, scale, zero_point, scheme._replace(axis=axis))


def quantize_with(
    x: Float[Array, "..."],
    scale: Float[Array, "..."],
    zero_point: Int[Array, "..."] | None,
    scheme: Scheme,
) -> QuantizedArray:
    """Quantizes one array with scales that are known.

    Args:
        x: an array of floating point numbers.
        scale: with the axes of ``x``, each of length 1, a divisor of its length or all.
        zero_point: of the same shape, or ``None``.
        scheme: its format, its channel axes and tile.

    Returns:
        The :class:`QuantizedArray`.
    """
    integers = round_to(scaled(x, scale, zero_point), scheme.format)
    axis = channel_axes(x.ndim, scheme.axis, "x")
    return QuantizedArray(
        pack(integers, scheme.format),
        scale.astype(jnp.float32),
        zero_point,
        scheme.format,
        axis,
        None if scheme.tile is None else int(scheme.tile),
        tuple(x.shape),
        str(x.dtype),
    )


def scales(
    x: Float[Array, "..."], scheme: Scheme, *, name: str = "x"
) -> tuple[Float[Array, "..."], Int[Array, "..."] | None]:
    """The scales and zero points that a scheme gives an array.

    Args:
        x: an array of floating point numbers.
        scheme: how.
        name: what to call it in errors.

    Returns:
        The scales, with the axes of ``x``, and the zero points or ``None``.

    Raises:
        ValueError: if the axis or the tile does not fit its shape.
    """
    check_format(scheme.format)
    axis = channel_axes(x.ndim, scheme.axis, name)
    lengths = scale_shape(x.shape, axis, scheme.tile, name)
    grouped = _grouped(x.astype(jnp.float32), lengths)
    fit = scheme.range or usual_range(scheme.format)
    scale, zero_point = scale_of(*fit(grouped, scheme.format), scheme.format)
    return scale, zero_point


def scaled(
    x: Float[Array, "..."],
    scale: Float[Array, "..."],
    zero_point: Int[Array, "..."] | None,
) -> Float[Array, "..."]:
    r"""Values in units of the scale, :math:`x / \sigma + z`.

    Args:
        x: an array.
        scale: its scales.
        zero_point: its zero points, or ``None``.

    Returns:
        float32, in the shape of ``x``.
    """
    quotient = x.astype(jnp.float32) / spread(scale, x.shape)
    if zero_point is None:
        return quotient
    # Rounded before the zero point is added, as for its own: else 0 may be missed.
    return jnp.round(quotient) + spread(zero_point, x.shape).astype(jnp.float32)


def channel_axes(
    ndim: int, axis: Whole | tuple[Whole, ...], name: str = "x"
) -> tuple[int, ...]:
    """The channel axes in order, not negative; a scalar has none.

    Args:
        ndim: the number of axes of the array.
        axis: one axis or several.
        name: what to call the array in errors.

    Returns:
        The axes.

    Raises:
        ValueError: if the array has no such axis, or it is named twice.
    """
    given = tuple(map(int, axis if isinstance(axis, tuple) else (axis,)))
    if ndim == 0:
        return ()
    if any(not -ndim <= i < ndim for i in given):
        raise ValueError(f"{name!r} has {ndim} axes, so no channel axes {given}.")
    axes = tuple(sorted(i % ndim for i in given))
    if len(set(axes)) != len(axes):
        raise ValueError(f"the channel axes {given} of {name!r} name an axis twice.")
    return axes


def scale_shape(
    shape: tuple[int, ...], axis: tuple[int, ...], tile: Whole | None, name: str = "x"
) -> tuple[int, ...]:
    """The shape of the scales.

    Args:
        shape: the shape of the array.
        axis: the channel axes, not negative.
        tile: how many weights in a row share a scale, or ``None``.
        name: what to call the array in errors.

    Returns:
        A shape of as many axes.

    Raises:
        ValueError: if the tile does not divide its axis.
    """
    lengths = [n if i in axis else 1 for i, n in enumerate(shape)]
    if tile is None:
        return tuple(lengths)
    others = [i for i in range(len(shape)) if i not in axis]
    if not others or tile < 1 or shape[others[-1]] % tile:
        along = f"axis {others[-1]}" if others else "an axis besides the channels"
        raise ValueError(
            f"`tile` is {tile}, but must divide {along} of {name!r}, of shape {shape}."
        )
    lengths[others[-1]] = shape[others[-1]] // int(tile)
    return tuple(lengths)


def check_quantizable(x: Array, name: str) -> None:
    """Raises unless an array can be quantized; the values of a traced one pass unseen.

    Args:
        x: the array.
        name: what to call it.

    Raises:
        ValueError: if it is not finite or empty.
        TypeError: if it is not floating point.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        masks = "; masks? pruning gives (params, masks)" if x.dtype == bool else ""
        raise TypeError(
            f"{name!r} must be floating point to quantize, got {x.dtype}{masks}."
        )
    if x.size == 0:
        raise ValueError(f"{name!r} is empty, so it cannot be quantized.")
    if not isinstance(x, Tracer) and not bool(jnp.isfinite(x).all()):
        raise ValueError(f"{name!r} is not finite, so it cannot be quantized.")


def _grouped(x: Float[Array, "..."], lengths: tuple[int, ...]) -> Float[Array, "..."]:
    """Moves the weights that share a scale to a last axis."""
    split: list[int] = []
    for have, want in zip(lengths, x.shape, strict=True):
        split += [have, want // have]
    inner = tuple(range(1, 2 * x.ndim, 2))
    moved = jnp.moveaxis(x.reshape(split), inner, tuple(range(x.ndim, 2 * x.ndim)))
    return moved.reshape(*lengths, math.prod(x.shape) // max(math.prod(lengths), 1))
