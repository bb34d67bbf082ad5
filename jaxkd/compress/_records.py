"""The records that stand in a tree for compressed arrays, and the way back."""

import dataclasses
import typing
from typing import Any

import jax
from jax import numpy as jnp
from jaxtyping import Array, Float, Int, Integer, UInt8

from jaxkd import trees
from jaxkd._types import Params, Tree
from jaxkd.compress._formats import INT8, Format, unpack, value_of

_META = {"static": True}


@typing.no_type_check  # as a node of a tree it holds masks, gradients, or nothing
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class QuantizedArray:
    r"""An array as small integers and their scales, :math:`x \approx \sigma (v - z)`.

    Invariants: the integers lie between the format's ``lower`` and ``upper``; packed,
    they are as :func:`jaxkd.compress.pack` puts them. ``scale`` is positive and has the
    axes of the original, each of length 1, of its own length (a channel axis), or of
    its length over ``tile`` (the last axis which is no channel axis). ``zero_point``
    has the shape of ``scale`` and lies in the range of the integers, so 0 stays
    exactly 0; a symmetric format has none.

    Attributes:
        values: the integers :math:`v`: 8 bits in the shape of the original, fewer
            packed in bytes.
        scale: the scales :math:`\sigma`, float32.
        zero_point: the zero points :math:`z`, int32, or ``None`` for 0.
        format: the numbers that the integers stand for.
        axis: the channel axes, not negative.
        tile: how many weights in a row share a scale; ``None`` for a whole axis.
        shape: the shape of the original.
        dtype: the dtype of the original, to which it is dequantized.
    """

    values: Integer[Array, "..."]
    scale: Float[Array, "..."]
    zero_point: Int[Array, "..."] | None = None
    format: Format = dataclasses.field(default=INT8, metadata=_META)
    axis: tuple[int, ...] = dataclasses.field(default=(), metadata=_META)
    tile: int | None = dataclasses.field(default=None, metadata=_META)
    shape: tuple[int, ...] = dataclasses.field(default=(), metadata=_META)
    dtype: str = dataclasses.field(default="float32", metadata=_META)

    def integers(self) -> Integer[Array, "..."]:
        """The integers, unpacked, in the shape of the original."""
        return unpack(self.values, self.format, self.shape)


@typing.no_type_check  # as a node of a tree it holds masks, gradients, or nothing
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Palette:
    """An array whose weights take few values, :math:`x_i = c_{v_i}`.

    Invariants: ``indices`` has the shape of the original and is below the number of
    centroids. With ``keeps_zero``, the first centroid counts as exactly 0 whatever it
    is trained to, and belongs to the weights that were 0.

    The centroids are the parameters: the gradient of each is the sum of those of its
    weights, so that a loss of :func:`jaxkd.compress.dequantize` trains them.

    Attributes:
        indices: which centroid each weight takes, uint8.
        centroids: the values, of the dtype of the original.
        keeps_zero: whether the first centroid stays 0.
    """

    indices: UInt8[Array, "..."]
    centroids: Float[Array, " k"]
    keeps_zero: bool = dataclasses.field(default=False, metadata=_META)

    def array(self) -> Float[Array, "..."]:
        """The weights in the shape of the original."""
        values = self.centroids
        if self.keeps_zero:
            values = values.at[0].set(0)
        return values[self.indices.astype(jnp.int32)]


def dequantize(params: Tree) -> Params:
    r"""Turns quantized leaves, :math:`\sigma (v - z)`, and palettes back into arrays.

    Args:
        params: a tree; leaves which are not quantized are left as they are.

    Returns:
        A tree of arrays, of the dtypes that they had.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {"kernel": jnp.array([[127.0], [-3.0]]), "bias": jnp.ones(1)}
        >>> restored = compress.dequantize(compress.quantize(params))
        >>> print(restored["kernel"].ravel(), restored["bias"])
        [127.  -3.] [1.]
    """

    def one(x: Any) -> Any:
        if isinstance(x, Palette):
            return x.array()
        return _dequantize_array(x) if isinstance(x, QuantizedArray) else x

    return jax.tree.map(one, params, is_leaf=is_compressed)


def spread(scale: Array, shape: tuple[int, ...]) -> Array:
    """Repeats each scale over the weights that share it.

    Args:
        scale: with as many axes as ``shape``; each length divides the one of ``shape``.
        shape: the shape of the weights.

    Returns:
        An array that broadcasts against the weights.
    """
    for i, (have, want) in enumerate(zip(scale.shape, shape, strict=True)):
        if 1 < have < want:
            scale = jnp.repeat(scale, want // have, axis=i)
    return jnp.broadcast_to(scale, shape)


def is_compressed(x: Any) -> bool:
    """Whether this is a record of a compressed array, which is a leaf here.

    Args:
        x: a leaf or a subtree.

    Returns:
        True for a :class:`QuantizedArray` or a :class:`Palette`.
    """
    return isinstance(x, QuantizedArray | Palette)


def check_uncompressed(params: Params) -> None:
    """Raises if a leaf of the tree is compressed already.

    Args:
        params: a tree.

    Raises:
        ValueError: naming the first such leaf.
    """
    found = jax.tree_util.tree_leaves_with_path(params, is_leaf=is_compressed)
    for path, leaf in found:
        if is_compressed(leaf):
            name = trees.path_string(path)
            raise ValueError(f"{name!r} is quantized already: dequantize it first.")


def _dequantize_array(x: QuantizedArray) -> Array:
    value = value_of(x.integers(), x.format)
    if x.zero_point is not None:
        value = value - spread(x.zero_point, x.shape).astype(jnp.float32)
    return (value * spread(x.scale, x.shape)).astype(x.dtype)
