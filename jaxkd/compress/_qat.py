"""Training with the rounding in the loss: fake quantization, ``params -> params``.

The forward pass sees the rounded weights, the gradient passes straight through. Both
functions stand inside a loss, so every objective distils into the quantized student.
"""

from typing import Any

import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int

from jaxkd import trees
from jaxkd._types import Params, Tree
from jaxkd.compress._formats import Format, round_to, value_of
from jaxkd.compress._quantize import (
    QuantizedArray,
    Scheme,
    channel_axes,
    check_quantizable,
    quantize_with,
    scale_shape,
    scaled,
    scales,
)
from jaxkd.compress._records import Palette, is_compressed, spread


def fake_quantize_array(
    x: Float[Array, "..."],
    scale: Float[Array, "..."],
    zero_point: Int[Array, "..."] | None = None,
    *,
    format: Format,
) -> Float[Array, "..."]:
    r"""Rounds an array to what quantization makes of it, with a gradient.

    .. math::
        \hat{x} = \sigma\, (\mathrm{clip}(\mathrm{round}(x / \sigma) + z) - z), \quad
        \frac{\partial \hat{x}}{\partial x} = 1 \text{ inside the range, 0 outside}

    The scale gets no gradient; see :func:`learned_step` for one which does.

    Args:
        x: the weights or activations.
        scale: with the axes of ``x``, each of length 1, a divisor of its length or all;
            a scalar for all of them.
        zero_point: of the same shape, or ``None``.
        format: the numbers to round to.

    Returns:
        An array like ``x``.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import compress
        >>> fake = lambda x: compress.fake_quantize_array(
        ...     x, jnp.float32(0.5), format=compress.INT2
        ... )
        >>> print(fake(jnp.array([0.3, 2.0])))
        [0.5 0.5]
        >>> print(jax.grad(lambda x: fake(x).sum())(jnp.array([0.3, 2.0])))
        [1. 0.]

    References:
        Jacob et al., `Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference <https://arxiv.org/abs/1712.05877>`_, 2018,
        section 3.
    """
    scale, zero_point = _full(scale, x), _full(zero_point, x)
    inside, rounded = _rounded(jax.lax.stop_gradient(x), scale, zero_point, format)
    through = jnp.where(inside, x, jax.lax.stop_gradient(x))
    return through + jax.lax.stop_gradient(rounded.astype(x.dtype) - through)


def fake_quantize(params: Params, rules: trees.Rules) -> Params:
    """Rounds the weights of a tree to what quantizing it would make of them.

    The scales are those of the weights of the moment. Zeros stay zeros (but for
    ``BINARY``), so masks are kept; of a :class:`Palette` the centroids are rounded,
    with one scale, so it stays one: dequantize afterwards.

    Args:
        params: a tree of arrays and palettes.
        rules: pairs of a regular expression and a :class:`Scheme`, or ``None``; see
            :func:`quantize_by_rules`.

    Returns:
        A tree of the same structure, differentiable.

    Raises:
        ValueError: if a rule matches no path, or the axis or the tile does not fit.
        TypeError: if a leaf to round is not floating point.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {"kernel": jnp.array([[0.5, 10.0], [-1.0, 0.0]])}
        >>> rules = [("kernel$", compress.Scheme(compress.INT4))]
        >>> rounded = compress.fake_quantize(params, rules)["kernel"]
        >>> stored = compress.dequantize(compress.quantize_by_rules(params, rules))
        >>> bool((rounded == stored["kernel"]).all())
        True
    """
    schemes = _schemes(params, rules)

    def one(path: Any, x: Any, scheme: Scheme | None) -> Any:
        if scheme is None:
            return x
        if isinstance(x, Palette):
            flat = scheme._replace(axis=(), tile=None)
            return Palette(x.indices, _fake(x.centroids, flat, path), x.keeps_zero)
        return _fake(x, scheme, path)

    return jax.tree.map_with_path(one, params, schemes, is_leaf=is_compressed)


def learned_step(
    x: Float[Array, "..."], scale: Float[Array, "..."], *, format: Format
) -> Float[Array, "..."]:
    r"""Rounds an array with a scale that is trained: LSQ.

    With :math:`v = x / \sigma`, of ``n`` values and the largest integer :math:`Q`:

    .. math::
        \frac{\partial \hat{x}}{\partial \sigma} = \frac{1}{\sqrt{n Q}}
        \begin{cases} \mathrm{round}(v) - v & \text{inside} \\
        lower \text{ or } upper & \text{outside} \end{cases}

    summed over the values that share the scale, ``n`` of them. The gradient of ``x``
    passes inside the range only. A scale that training made negative is taken by its
    magnitude.

    Args:
        x: the weights or activations.
        scale: with the axes of ``x``, each of length 1, a divisor of its length or all;
            a scalar for all of them.
        format: the numbers to round to; integers, and symmetric.

    Returns:
        An array like ``x``.

    Raises:
        ValueError: if the format has a zero point or levels.

    References:
        Esser et al., `Learned Step Size Quantization
        <https://arxiv.org/abs/1902.08153>`_, 2020, section 2.
    """
    _check_learnable(format)
    shared = x.size / max(scale.size, 1)
    damping = 1.0 / (shared * max(abs(format.upper), 1)) ** 0.5
    # The value of the scale, with its gradient times the damping.
    scale = scale * damping + jax.lax.stop_gradient(scale * (1 - damping))
    full = jnp.broadcast_to(_full(jnp.abs(scale), x), x.shape)
    safe = jnp.where(full > 0, full, 1)
    units = x.astype(jnp.float32) / safe
    rounded = units + jax.lax.stop_gradient(jnp.round(units) - units)
    inside = (jnp.round(units) >= format.lower) & (jnp.round(units) <= format.upper)
    edges = jnp.clip(jnp.round(units), format.lower, format.upper)
    units = jnp.where(inside, rounded, jax.lax.stop_gradient(edges))
    return (units * safe).astype(x.dtype)


def init_steps(params: Params, rules: trees.Rules) -> Tree:
    r"""The scales that training starts from, :math:`2\, \mathrm{mean}|x| / \sqrt{Q}`.

    Args:
        params: a tree of arrays.
        rules: pairs of a regular expression and a :class:`Scheme`, or ``None``.

    Returns:
        A tree of the structure of ``params`` with the scales of each leaf, ``None``
        where it is not quantized.

    Raises:
        ValueError: if a rule matches no path, a format has a zero point or levels, or
            the axis or the tile does not fit.
        TypeError: if a leaf to round is not floating point.

    References:
        Esser et al., `Learned Step Size Quantization
        <https://arxiv.org/abs/1902.08153>`_, 2020, section 2.1.
    """

    def one(path: Any, x: Array, scheme: Scheme | None) -> Array | None:
        if scheme is None:
            return None
        name = trees.path_string(path)
        _check_learnable(scheme.format)
        check_quantizable(x, name)
        lengths = scale_shape(
            x.shape, channel_axes(x.ndim, scheme.axis, name), scheme.tile, name
        )
        # 2 mean|x| / sqrt(Q), as the end of a range which is mapped on `bound`.
        factor = 2.0 * scheme.format.bound / scheme.format.upper**0.5
        mean = scheme._replace(range=lambda g, _: _both(factor * jnp.mean(abs(g), -1)))
        return scales(x, mean, name=name)[0].reshape(lengths)

    return jax.tree.map_with_path(one, params, _schemes(params, rules))


def learned_steps(params: Params, steps: Tree, rules: trees.Rules) -> Params:
    """Rounds the weights of a tree with scales that are trained: LSQ.

    Differentiate a loss of it with respect to both trees, and round the trained weights
    for good with :func:`quantize_steps`.

    Args:
        params: a tree of arrays.
        steps: the scales, from :func:`init_steps`.
        rules: the same rules.

    Returns:
        A tree like ``params``, differentiable in both.

    Raises:
        ValueError: if a rule matches no path.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {"kernel": jnp.array([[0.5, 1.0], [-1.0, 0.0]])}
        >>> rules = [("kernel$", compress.Scheme(compress.INT4))]
        >>> steps = compress.init_steps(params, rules)
        >>> loss = lambda p, s: (
        ...     compress.learned_steps(p, s, rules)["kernel"] ** 2
        ... ).sum()
        >>> jax.grad(loss, argnums=1)(params, steps)["kernel"].shape
        (1, 2)
    """

    def one(x: Array, scheme: Scheme | None, step: Array | None) -> Array:
        if scheme is None or step is None:
            return x
        return learned_step(x, step, format=scheme.format)

    leaves, treedef = jax.tree.flatten(params)
    schemes = treedef.flatten_up_to(_schemes(params, rules))
    found = treedef.flatten_up_to(steps)
    return treedef.unflatten(map(one, leaves, schemes, found))


def quantize_steps(params: Params, steps: Tree, rules: trees.Rules) -> Tree:
    """Quantizes a tree with the scales that were trained.

    Args:
        params: a tree of arrays.
        steps: the scales, from :func:`init_steps`, trained.
        rules: the same rules.

    Returns:
        The tree with a :class:`QuantizedArray` where a rule has a scheme.

    Raises:
        ValueError: if a rule matches no path.
    """

    def one(x: Array, scheme: Scheme | None, step: Array | None) -> Any:
        if scheme is None or step is None:
            return x
        size = jnp.abs(step)
        return quantize_with(x, jnp.where(size > 0, size, 1), None, scheme)

    leaves, treedef = jax.tree.flatten(params)
    schemes = treedef.flatten_up_to(_schemes(params, rules))
    found = treedef.flatten_up_to(steps)
    return treedef.unflatten(map(one, leaves, schemes, found))


def _schemes(params: Params, rules: trees.Rules) -> Tree:
    """Of each leaf, a palette being one."""
    paths = jax.tree.map(lambda _: 0, params, is_leaf=is_compressed)
    schemes = trees.assign(paths, rules, default=None)

    def check(path: Any, x: Any, scheme: Scheme | None) -> None:
        if scheme is not None and isinstance(x, QuantizedArray):
            name = trees.path_string(path)
            raise ValueError(f"{name!r} is quantized already: dequantize it first.")

    jax.tree.map_with_path(check, params, schemes, is_leaf=is_compressed)
    return schemes


def _fake(x: Array, scheme: Scheme, path: Any) -> Array:
    name = trees.path_string(path)
    check_quantizable(x, name)
    scale, zero_point = scales(jax.lax.stop_gradient(x), scheme, name=name)
    return fake_quantize_array(x, scale, zero_point, format=scheme.format)


def _rounded(
    x: Array, scale: Array, zero_point: Array | None, format: Format
) -> tuple[Array, Array]:
    """Which values are not clipped, and all of them rounded."""
    units = scaled(x, scale, zero_point)
    value = value_of(round_to(units, format), format)
    if zero_point is not None:
        value = value - spread(zero_point, x.shape).astype(jnp.float32)
    low, high = format.lower, format.upper
    if format.levels is not None:
        low, high = format.levels[0], format.levels[-1]
        inside = (units >= low) & (units <= high)
    else:
        inside = (jnp.round(units) >= low) & (jnp.round(units) <= high)
    return inside, value * spread(scale, x.shape)


def _full(scale: Any, x: Array) -> Any:
    """A scalar, with the axes of ``x``; spread over the weights that share it."""
    if scale is None:
        return None
    scale = jnp.reshape(scale, (1,) * x.ndim) if jnp.ndim(scale) == 0 else scale
    return spread(scale, x.shape)


def _both(high: Array) -> tuple[Array, Array]:
    return -high, high


def _check_learnable(format: Format) -> None:
    if format.affine or format.levels is not None:
        raise ValueError("a learned scale needs a symmetric format of integers.")
