"""Weights as 8-bit integers with one scale per output channel."""

import dataclasses
from typing import Any

import jax
from jax import numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from jaxkd import trees
from jaxkd._types import Params, Tree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class QuantizedArray:
    r"""An array as small integers and their scales, :math:`x \approx v \, \sigma`.

    Invariants: ``values`` has the shape of the original and lies in ``[-127, 127]``, so
    the range is symmetric and there is no zero point: 0 stays exactly 0. ``scale`` is
    positive and has the same number of axes, of length 1 but for the channel axis.

    Attributes:
        values: the integers :math:`v`, int8.
        scale: the scales :math:`\sigma`, float32.
    """

    values: Int[Array, "..."]
    scale: Float[Array, "..."]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the original."""
        return self.values.shape


def quantize(params: Params, *, where: str = "kernel$", axis: int = -1) -> Tree:
    r"""Rounds weights to int8, with one scale per channel.

    .. math::
        \sigma = \max |x| / 127, \quad v = \mathrm{round}(x / \sigma)

    The maximum runs over all axes but the channel's; rounding is to nearest, ties to
    even. The error of each weight is at most :math:`\sigma / 2`, and zeros stay zeros.
    A channel of zeros has the scale 1.

    Args:
        params: a tree of arrays.
        where: a regular expression for the paths of the leaves to quantize.
        axis: the channel axis; the last is the output of every Flax kernel.

    Returns:
        The tree with a :class:`QuantizedArray` in place of each of these leaves.

    Raises:
        ValueError: if no path matches, or a leaf is quantized already or not finite.
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
    for path, leaf in _leaves(params).items():
        if _is_quantized(leaf):
            raise ValueError(f"{path!r} is quantized already: dequantize it first.")
    chosen = trees.mask(params, where)

    def one(path: Any, x: Array, pick: bool) -> Array | QuantizedArray:
        return _quantize_array(x, axis, trees.path_string(path)) if pick else x

    return jax.tree.map_with_path(one, params, chosen)


def dequantize(params: Tree) -> Params:
    r"""Turns the quantized leaves back into float32 arrays, :math:`v \, \sigma`.

    Args:
        params: a tree; leaves which are not quantized are left as they are.

    Returns:
        A tree of arrays.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {"kernel": jnp.array([[127.0], [-3.0]]), "bias": jnp.ones(1)}
        >>> restored = compress.dequantize(compress.quantize(params))
        >>> print(restored["kernel"].ravel(), restored["bias"])
        [127.  -3.] [1.]
    """
    return jax.tree.map(
        lambda x: x.values.astype(x.scale.dtype) * x.scale if _is_quantized(x) else x,
        params,
        is_leaf=_is_quantized,
    )


def _is_quantized(x: Any) -> bool:
    return isinstance(x, QuantizedArray)


def _leaves(params: Tree) -> dict[str, Any]:
    found = jax.tree_util.tree_leaves_with_path(params, is_leaf=_is_quantized)
    return {trees.path_string(path): leaf for path, leaf in found}


def _quantize_array(x: Array, axis: int, path: str) -> QuantizedArray:
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"{path!r} must be floating point to quantize, got {x.dtype}.")
    others = tuple(i for i in range(x.ndim) if i != axis % x.ndim) if x.ndim else ()
    x = x.astype(jnp.float32)
    if not isinstance(x, Tracer) and not bool(jnp.isfinite(x).all()):
        raise ValueError(f"{path!r} is not finite, so it cannot be quantized.")
    largest = jnp.max(jnp.abs(x), axis=others, keepdims=True)
    scale = jnp.where(largest > 0, largest / 127, 1.0)
    values = jnp.clip(jnp.round(x / scale), -127, 127).astype(jnp.int8)
    return QuantizedArray(values, scale)
