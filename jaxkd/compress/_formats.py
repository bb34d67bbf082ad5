"""The small sets of numbers to which weights are rounded, and their bits in bytes."""

from typing import NamedTuple

from jax import numpy as jnp
from jaxtyping import Array, Float, Int, Integer, UInt8


class Format(NamedTuple):
    r"""A small set of numbers, the grid that values are rounded to.

    Without ``levels`` these are the integers from ``lower`` to ``upper``. A symmetric
    format has no zero point, and its scale maps the end of the range on ``bound``; an
    affine one maps the whole range from its low to its high end on the integers.

    Attributes:
        bits: bits of each number, 1 to 8; 3 take 4 in memory, 5 to 7 take 8.
        lower: the smallest integer; with ``levels``, 0.
        upper: the largest.
        bound: what the end of a symmetric range is mapped on. The narrow ``127`` of
            int8 is used by TFLite and ONNX Runtime; ``127.5`` is that of qwix and AQT.
        affine: whether there is a zero point.
        levels: the numbers themselves in ascending order, where they are no integers.
    """

    bits: int
    lower: int
    upper: int
    bound: float
    affine: bool = False
    levels: tuple[float, ...] | None = None


# Quantiles of the normal distribution, scaled to [-1, 1]; QLoRA, appendix E.
_NORMAL_FLOAT = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634),
    *(0.33791524171829224, 0.44070982933044434, 0.5626170039176941),
    *(0.7229568362236023, 1.0),
)

INT8 = Format(8, -127, 127, 127.0)
INT4 = Format(4, -7, 7, 7.0)
INT2 = Format(2, -1, 1, 1.0)
AFFINE8 = Format(8, -128, 127, 127.0, affine=True)
AFFINE4 = Format(4, -8, 7, 7.0, affine=True)
NF4 = Format(4, 0, 15, 1.0, levels=_NORMAL_FLOAT)
BINARY = Format(1, 0, 1, 1.0, levels=(-1.0, 1.0))


def check_format(format: Format) -> None:
    """Raises unless the numbers of a format fit its bits.

    Args:
        format: the format.

    Raises:
        ValueError: if they do not.
    """
    bits, lower, upper = format.bits, format.lower, format.upper
    if not 1 <= bits <= 8 or not lower < upper or upper - lower >= 2**bits:
        raise ValueError(
            f"a format of {bits} bits cannot hold the integers from {lower} to {upper};"
            " 1 to 8 bits are possible."
        )
    if bits == 8 and not (-128 <= lower <= upper <= 127 or 0 <= lower <= upper <= 255):
        raise ValueError(f"{lower} to {upper} is neither int8 nor uint8.")
    if format.levels is not None and (lower or len(format.levels) != upper + 1):
        raise ValueError(
            f"a format of {len(format.levels)} levels must go from 0 to "
            f"{len(format.levels) - 1}, not from {lower} to {upper}."
        )


def storage_bits(format: Format) -> int:
    """Bits that each number takes in memory: 1, 2, 4 or 8.

    Args:
        format: the format.

    Returns:
        A power of two.
    """
    return next(width for width in (1, 2, 4, 8) if width >= format.bits)


def round_to(x: Float[Array, "..."], format: Format) -> Int[Array, "..."]:
    """The nearest number of a format, as its integer or the index of its level.

    Args:
        x: values in units of the scale, the zero point added.
        format: the format.

    Returns:
        Integers in ``[lower, upper]``, int32; ties go to the even one.
    """
    if format.levels is None:
        rounded = jnp.clip(jnp.round(x), format.lower, format.upper)
        return rounded.astype(jnp.int32)
    levels = jnp.asarray(format.levels, x.dtype)
    return jnp.searchsorted((levels[1:] + levels[:-1]) / 2, x).astype(jnp.int32)


def value_of(integers: Integer[Array, "..."], format: Format) -> Float[Array, "..."]:
    """The numbers that integers of a format stand for, in units of the scale.

    Args:
        integers: from :func:`round_to`.
        format: the format.

    Returns:
        float32, of the same shape.
    """
    if format.levels is None:
        return integers.astype(jnp.float32)
    return jnp.asarray(format.levels, jnp.float32)[integers.astype(jnp.int32)]


def pack(integers: Integer[Array, "..."], format: Format) -> Integer[Array, "..."]:
    """Puts integers in as few bytes as whole fractions of bytes allow.

    Args:
        integers: in ``[lower, upper]``, of any shape.
        format: the format.

    Returns:
        int8 or uint8 of the same shape for 8 bits; below, uint8 in a row, the first
        number in the lowest bits, ``n * bits / 8`` of them, rounded up.
    """
    width = storage_bits(format)
    if width == 8:
        return integers.astype(jnp.int8 if format.lower < 0 else jnp.uint8)
    codes = (integers.astype(jnp.int32) - format.lower).astype(jnp.uint8).reshape(-1)
    codes = jnp.pad(codes, (0, -codes.size % (8 // width)))
    shifts = jnp.arange(0, 8, width, dtype=jnp.uint8)
    return jnp.sum(
        codes.reshape(-1, 8 // width) << shifts[None], axis=1, dtype=jnp.uint8
    )


def unpack(
    packed: Integer[Array, "..."] | UInt8[Array, " bytes"],
    format: Format,
    shape: tuple[int, ...],
) -> Integer[Array, "..."]:
    """Undoes :func:`pack`.

    Args:
        packed: what it returned.
        format: the format.
        shape: the shape of the integers.

    Returns:
        The integers, int8 or uint8.
    """
    width = storage_bits(format)
    if width == 8:
        return packed.reshape(shape)
    size = 1
    for length in shape:
        size *= length
    shifts = jnp.arange(0, 8, width, dtype=jnp.uint8)
    codes = (packed[:, None] >> shifts[None]) & jnp.uint8(2**width - 1)
    codes = codes.reshape(-1)[:size].reshape(shape)
    return (codes.astype(jnp.int8) + jnp.int8(format.lower)).astype(jnp.int8)
