"""The smallest of several lossless codings of an array, on the host.

Two choices: which positions are stored (all of them, or those that are not zero, as a
bitmask or as Huffman-coded gaps), and how the values there are (as they are, as indices
of a table of those that occur, or as a Huffman code of these indices). Zero means all
bits zero, and values are compared by their bits, so NaN and -0.0 come back as well.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jax import numpy as jnp

from jaxkd.compress import _huffman
from jaxkd.compress._huffman import CodingError

#: Elements that each coded byte may stand for at most: a bound for hostile files.
EXPANSION = 256
_ESCAPE = 255

_NAMES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
)
DTYPES = {name: np.dtype(getattr(jnp, name)) for name in _NAMES}


class Coded(NamedTuple):
    """An array as bytes.

    Attributes:
        head: plain values: dtype, shape, the two choices, and the lengths of the parts.
        parts: positions, table of values, values.
    """

    head: dict[str, Any]
    parts: tuple[bytes, bytes, bytes]

    @property
    def num_bytes(self) -> int:
        """Bytes of the parts."""
        return sum(map(len, self.parts))


def encode(array: np.ndarray) -> Coded:
    """Codes an array in the smallest way.

    Args:
        array: of a dtype in ``DTYPES``.

    Returns:
        The :class:`Coded` array.

    Raises:
        TypeError: if it is of another dtype.
    """
    name = array.dtype.name
    if name not in DTYPES:
        raise TypeError(f"an array of {name} cannot be stored; there are: {[*DTYPES]}.")
    bits = _bits(array)
    nonzero = np.flatnonzero(bits)
    options = [("all", b"", *_encode_values(bits))]
    if len(nonzero) < len(bits):
        values = _encode_values(bits[nonzero])
        options.append(("mask", np.packbits(bits != 0).tobytes(), *values))
        options.append(("gaps", _huffman.encode(_gaps(nonzero)), *values))
    best = min(
        (o for o in options if _expands_little(len(bits), o)),
        key=lambda o: sum(map(len, o[1:2] + o[3:])),
    )
    positions, where, values, table, codes = best
    head = {
        "dtype": name,
        "shape": list(array.shape),
        "positions": positions,
        "values": values,
        "lengths": [len(where), len(table), len(codes)],
    }
    return Coded(head, (where, table, codes))


def check_head(head: Any) -> int:
    """Raises unless a head makes sense, before anything is allocated for it.

    Args:
        head: what a file says.

    Returns:
        How many bytes the array takes in memory.

    Raises:
        CodingError: if it makes none.
    """
    fields = {"dtype", "shape", "positions", "values", "lengths"}
    if not isinstance(head, Mapping) or set(head) != fields:
        raise CodingError("the head of an array lacks a field or has another.")
    shape, lengths = head["shape"], head["lengths"]
    if not all(_naturals(x) for x in (shape, lengths)) or len(lengths) != 3:
        raise CodingError("the shape or the lengths of an array are no numbers.")
    names = [head[field] for field in ("dtype", "positions", "values")]
    known = (
        all(isinstance(name, str) for name in names)
        and head["dtype"] in DTYPES
        and head["positions"] in ("all", "mask", "gaps")
        and head["values"] in ("raw", "packed", "huffman")
    )
    if not known or len(shape) > 32:
        raise CodingError("an array is of an unknown dtype or coding.")
    size = math.prod(shape)
    if size > EXPANSION * (sum(lengths) + 1) or max(shape, default=0) > 2**40:
        raise CodingError(
            f"an array of shape {shape} cannot come from {sum(lengths)} bytes."
        )
    return size * DTYPES[head["dtype"]].itemsize


def decode(coded: Coded) -> np.ndarray:
    """Undoes :func:`encode`.

    Args:
        coded: what it returned, or what a file says.

    Returns:
        The array.

    Raises:
        CodingError: if the parts do not give such an array.
    """
    check_head(coded.head)
    head, (where, table, codes) = coded
    dtype, size = DTYPES[head["dtype"]], math.prod(head["shape"])
    unsigned = np.dtype(f"<u{dtype.itemsize}")
    positions = _decode_positions(head["positions"], where, size)
    count = size if positions is None else len(positions)
    values = _decode_values(head["values"], table, codes, unsigned, count)
    if positions is not None:
        sparse = values
        values = np.zeros(size, unsigned)
        values[positions] = sparse
    if dtype == np.bool_ and size and values.max() > 1:
        raise CodingError("a boolean is neither 0 nor 1.")
    values = values.astype(unsigned.newbyteorder("="))
    return values.view(dtype).reshape(head["shape"])


def _naturals(numbers: Any) -> bool:
    return isinstance(numbers, list) and all(
        isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers
    )


def _expands_little(size: int, option: tuple[Any, ...]) -> bool:
    return size <= EXPANSION * (sum(map(len, option[1:2] + option[3:])) + 1)


def _bits(array: np.ndarray) -> np.ndarray:
    """The elements in a row as unsigned integers of their bits, little-endian."""
    flat = np.ascontiguousarray(array).reshape(-1)
    size = array.dtype.itemsize
    return flat.view(f"u{size}").astype(f"<u{size}", copy=False)


def _encode_values(bits: np.ndarray) -> tuple[str, bytes, bytes]:
    options = [("raw", b"", bits.tobytes())]
    found, index = np.unique(bits, return_inverse=True)
    if 0 < len(found) <= _huffman.MAX_SYMBOLS:
        table = found.tobytes()
        options.append(("packed", table, _pack(index, _width(len(found)))))
        options.append(("huffman", table, _huffman.encode(index)))
    # One value takes no bits, which for a long array is less than the bound allows.
    options = [o for o in options if _expands_little(len(bits), ("", b"", *o))]
    return min(options, key=lambda o: len(o[1]) + len(o[2]))


def _decode_values(
    coding: str, table: bytes, codes: bytes, dtype: np.dtype, count: int
) -> np.ndarray:
    if coding == "raw":
        if table or len(codes) != count * dtype.itemsize:
            raise CodingError("the values of an array are cut off.")
        return np.frombuffer(codes, dtype).copy()
    if len(table) % dtype.itemsize:
        raise CodingError("the table of an array is cut off.")
    found = np.frombuffer(table, dtype)
    if coding == "packed":
        index = _unpack(codes, _width(len(found)), count)
    else:
        index = _huffman.decode(codes)
    if len(index) != count or (count and index.max() >= len(found)):
        raise CodingError("the indices of an array do not fit its table or its shape.")
    return found[index]


def _decode_positions(coding: str, where: bytes, size: int) -> np.ndarray | None:
    if coding == "all":
        return None
    if coding == "mask":
        if len(where) != -(-size // 8):
            raise CodingError("the mask of an array is cut off.")
        return np.flatnonzero(np.unpackbits(np.frombuffer(where, np.uint8), count=size))
    symbols = _huffman.decode(where)
    if symbols.max(initial=0) > _ESCAPE:
        raise CodingError("a gap of an array makes no sense.")
    steps = np.where(symbols == _ESCAPE, _ESCAPE, symbols + 1)
    positions = (np.cumsum(steps) - 1)[symbols != _ESCAPE]
    if len(positions) and positions[-1] >= size:
        raise CodingError("a gap leads outside an array.")
    return positions


def _gaps(positions: np.ndarray) -> np.ndarray:
    """Zeros before each position; 255 of them at a time by a symbol of their own."""
    gaps = np.diff(positions, prepend=-1) - 1
    escapes = gaps // _ESCAPE
    symbols = np.full(len(gaps) + int(escapes.sum()), _ESCAPE, np.int64)
    symbols[np.cumsum(escapes + 1) - 1] = gaps % _ESCAPE
    return symbols


def _width(values: int) -> int:
    return max(values - 1, 0).bit_length()


def _pack(symbols: np.ndarray, width: int) -> bytes:
    shifts = np.arange(width, dtype=np.uint16)
    bits = (symbols.astype(np.uint16)[:, None] >> shifts) & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()


def _unpack(packed: bytes, width: int, count: int) -> np.ndarray:
    if len(packed) != -(-count * width // 8):
        raise CodingError("the indices of an array are cut off.")
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=count * width)
    shifts = np.arange(width, dtype=np.uint16)
    weighted = bits.reshape(count, width).astype(np.uint16) << shifts
    return weighted.sum(axis=1, dtype=np.int64)
