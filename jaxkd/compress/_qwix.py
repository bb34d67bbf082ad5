"""Quantized arrays to and from those of qwix, to the bit."""

from typing import Any

from jax import numpy as jnp

from jaxkd._extras import require
from jaxkd.compress._formats import AFFINE4, AFFINE8, NF4, Format, pack
from jaxkd.compress._records import QuantizedArray

# How qwix names its types, and what their numbers are.
_SYMMETRIC = {
    "int8": Format(8, -128, 127, 127.5),
    "int4": Format(4, -8, 7, 7.5),
    "int3": Format(3, -4, 3, 3.5),
    "int2": Format(2, -2, 1, 1.5),
    "nf4": NF4,
}
_AFFINE = {"int8": AFFINE8, "int4": AFFINE4}
_DTYPES = ("int8", "int4")


def to_qwix(small: QuantizedArray) -> Any:
    """Makes a ``qwix.QArray`` of the same integers and scales.

    Args:
        small: of 8 or 4 bits, 3 or 2 symmetric ones, or ``NF4``.

    Returns:
        The ``qwix.QArray``.

    Raises:
        ModuleNotFoundError: if qwix is not installed.
        ValueError: if qwix has no such format.
    """
    qwix = require("qwix", "qwix", "making qwix arrays")
    kinds = _AFFINE if small.format.affine else _SYMMETRIC
    kind = next((k for k, f in kinds.items() if _fits(small.format, f)), None)
    if kind is None:
        raise ValueError(f"qwix has no format for {small.format}.")
    integers = small.integers()
    if kind in _DTYPES:
        integers = integers.astype(kind)
    qtype = jnp.dtype(kind) if kind in _DTYPES else kind
    zero_point = small.zero_point
    if zero_point is not None:
        zero_point = zero_point.astype(integers.dtype)
    return qwix.QArray(integers, small.scale, zero_point, qtype=qtype)


def from_qwix(array: Any, *, dtype: str = "float32") -> QuantizedArray:
    """Makes a :class:`QuantizedArray` of a ``qwix.QArray``.

    Args:
        array: the ``qwix.QArray``, of int8, int4, int3, int2 or nf4.
        dtype: the dtype to which it is dequantized.

    Returns:
        The :class:`QuantizedArray`, of the same integers and scales.

    Raises:
        ValueError: if it is of another type, or tiled along more than one axis.
    """
    kind = array.qtype if isinstance(array.qtype, str) else None
    kind = kind or jnp.dtype(array.qtype or array.qvalue.dtype).name
    kinds = _SYMMETRIC if array.zero_point is None else _AFFINE
    if kind not in kinds:
        raise ValueError(f"a qwix array of {kind} has no format here.")
    format, shape = kinds[kind], tuple(array.qvalue.shape)
    axis, tile = _granularity(shape, array.scale.shape)
    zero_point = array.zero_point
    return QuantizedArray(
        pack(array.qvalue.astype(jnp.int8), format),
        array.scale.astype(jnp.float32),
        None if zero_point is None else zero_point.astype(jnp.int32),
        format,
        axis,
        tile,
        shape,
        dtype,
    )


def _fits(format: Format, known: Format) -> bool:
    """Whether the integers of a format are among those of another, and mean that."""
    inside = known.lower <= format.lower and format.upper <= known.upper
    return inside and (format.bits, format.levels) == (known.bits, known.levels)


def _granularity(
    shape: tuple[int, ...], scales: tuple[int, ...]
) -> tuple[tuple[int, ...], int | None]:
    """Channel axes and tile, as they follow from the shape of the scales."""
    pairs = list(enumerate(zip(shape, scales, strict=True)))
    axis = tuple(i for i, (n, s) in pairs if s == n and n > 1)
    tiled = [i for i, (n, s) in pairs if 1 < s < n]
    if not tiled:
        return axis, None
    if tiled != [i for i in range(len(shape)) if i not in axis][-1:]:
        raise ValueError(
            f"scales of shape {scales} tile {shape} along an axis which is not the "
            "last besides the channels."
        )
    return axis, shape[tiled[0]] // scales[tiled[0]]
