r"""Trees as files, each leaf in the smallest lossless coding.

``JKDT``, the version (2 bytes), the length of the head (4), the SHA-256 of all that
follows, the head (JSON), the parts of the leaves in a row. Numbers are little-endian.
Nothing in a file is run, and none makes the reader allocate more than its length allows
for; the checksum finds accidents, it is no signature.
"""

import hashlib
import json
import os
import pathlib
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from jaxkd import _names, trees
from jaxkd._types import Tree
from jaxkd.compress import _coding
from jaxkd.compress._coding import Coded
from jaxkd.compress._formats import Format, check_format, pack
from jaxkd.compress._huffman import CodingError
from jaxkd.compress._quantize import channel_axes, scale_shape
from jaxkd.compress._records import Palette, QuantizedArray, is_compressed

_MAGIC, _VERSION = b"JKDT", 1
_PREFIX = struct.Struct("<4sHI32s")


class Saved(NamedTuple):
    """What was written.

    Attributes:
        num_bytes: the size of the file.
        codings: ``{path: (coding, bytes)}`` of every array, as ``"gaps+huffman"``.
    """

    num_bytes: int
    codings: dict[str, tuple[str, int]]


def save_tree(params: Tree, file: str | pathlib.Path) -> Saved:
    """Writes a tree, each leaf in its smallest coding, to be read back bit for bit.

    Pruned leaves cost what is left of them, clustered ones their indices, and what is
    skewed is Huffman-coded. The file appears under its name when it is whole.

    Args:
        params: a tree of arrays, typed keys among them, :class:`QuantizedArray` and
            :class:`Palette`.
        file: where to; a file of this name is replaced.

    Returns:
        A :class:`Saved`.

    Raises:
        TypeError: if a leaf is of a dtype that cannot be stored, such as text.
        OSError: if the file cannot be written.

    Examples:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> from jaxkd import compress
        >>> params = {"kernel": jnp.zeros((100, 100)).at[::10, ::10].set(0.5)}
        >>> file = tempfile.mkdtemp() + "/params.jkd"
        >>> saved = compress.save_tree(params, file)
        >>> saved.codings["kernel"]
        ('gaps+packed', 162)
        >>> bool((compress.load_tree(file)["kernel"] == params["kernel"]).all())
        True

    References:
        Han et al., `Deep Compression <https://arxiv.org/abs/1510.00149>`_, 2016.
    """
    file = pathlib.Path(file)
    data, codings = _dump(params)
    staging = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        with staging.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        staging.replace(file)
    finally:
        staging.unlink(missing_ok=True)
    return Saved(file.stat().st_size, codings)


def load_tree(
    file: str | pathlib.Path, *, like: Tree | None = None, max_bytes: int = 2**32
) -> Tree:
    """Reads what :func:`save_tree` wrote, to the same bits.

    Args:
        file: the file.
        like: a tree of the structure, shapes and dtypes to give back, its leaves arrays
            or shapes; by default nested dicts come back, also for lists.
        max_bytes: the most memory that the arrays may take.

    Returns:
        The tree, of jax arrays; of NumPy arrays where jax would round them to 32 bits.

    Raises:
        FileNotFoundError: if there is no file.
        CodingError: if it is damaged, of another kind or version, or too large.
        ValueError: if it holds another tree than ``like``.
    """
    leaves = _parse(pathlib.Path(file).read_bytes(), max_bytes)
    return _nest(leaves) if like is None else _fill(like, leaves)


def _dump(params: Tree) -> tuple[bytes, dict[str, tuple[str, int]]]:
    entries, parts, codings = [], [], {}
    found = jax.tree_util.tree_leaves_with_path(params, is_leaf=is_compressed)
    for path, leaf in found:
        record, fields = _disassemble(leaf)
        name = trees.path_string(path)
        heads = {}
        for field, array in fields.items():
            coded = _encode(array, name)
            heads[field] = coded.head
            parts += coded.parts
            coding = f"{coded.head['positions']}+{coded.head['values']}"
            codings[f"{name}/{field}" if record else name] = (coding, coded.num_bytes)
        entries.append({"path": _keys(path), "record": record, "arrays": heads})
    head = json.dumps({"leaves": entries}, separators=(",", ":")).encode()
    body = head + b"".join(parts)
    digest = hashlib.sha256(body).digest()
    return _PREFIX.pack(_MAGIC, _VERSION, len(head), digest) + body, codings


def _keys(path: Any) -> list[str]:
    keys = [jax.tree_util.keystr((key,), simple=True) for key in path]
    dropped = bool(path) and path[-1] == jax.tree_util.GetAttrKey("value")
    return keys[:-1] if dropped else keys


def _encode(array: Any, name: str) -> Coded:
    try:
        return _coding.encode(np.asarray(array))
    except TypeError as error:
        raise TypeError(f"{name!r}: {error}") from error


def _disassemble(leaf: Any) -> tuple[list[Any], dict[str, Any]]:
    if isinstance(leaf, Palette):
        fields = {"indices": leaf.indices, "centroids": leaf.centroids}
        return ["palette", leaf.keeps_zero], fields
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        name = str(jax.random.key_impl(leaf))
        return ["key", name], {"words": jax.random.key_data(leaf)}
    if not isinstance(leaf, QuantizedArray):
        return [], {"array": leaf}
    fields = {"values": leaf.integers(), "scale": leaf.scale}
    if leaf.zero_point is not None:
        fields["zero_point"] = leaf.zero_point
    return ["quantized", [*leaf.format], leaf.axis, leaf.tile, leaf.dtype], fields


def _parse(data: bytes, max_bytes: int) -> list[tuple[tuple[str, ...], Any]]:
    body, length = _verified(data)
    try:
        entries = json.loads(bytes(body[:length]))["leaves"]
        heads = [head for entry in entries for head in entry["arrays"].values()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CodingError(f"the head of the file is damaged: {error!r}.") from error
    needed = sum(_coding.check_head(head) for head in heads)
    if needed > max_bytes:
        raise CodingError(
            f"the arrays take {needed} bytes of memory, more than `max_bytes`, "
            f"{max_bytes}."
        )
    stored = sum(sum(head["lengths"]) for head in heads)
    if length + stored != len(body):
        raise CodingError("the file is shorter or longer than its head says.")
    return list(_assemble_all(entries, body[length:]))


def _verified(data: bytes) -> tuple[memoryview, int]:
    """What follows the prefix, and the length of the head."""
    if len(data) < _PREFIX.size or data[: len(_MAGIC)] != _MAGIC:
        raise CodingError("this is no file of save_tree, or it is cut off.")
    _, version, length, digest = _PREFIX.unpack_from(data)
    if version != _VERSION:
        raise CodingError(f"the file has version {version}; this reads {_VERSION}.")
    body = memoryview(data)[_PREFIX.size :]
    if hashlib.sha256(body).digest() != digest:
        raise CodingError("the file has changed since it was written (SHA-256).")
    return body, length


def _assemble_all(
    entries: list[Any], payload: memoryview
) -> Iterator[tuple[tuple[str, ...], Any]]:
    start = 0
    for entry in entries:
        arrays = {}
        for field, head in entry["arrays"].items():
            parts = []
            for length in head["lengths"]:
                parts.append(bytes(payload[start : start + length]))
                start += length
            first, second, third = parts
            arrays[field] = _coding.decode(Coded(head, (first, second, third)))
        path = entry.get("path")
        if not isinstance(path, list) or not all(isinstance(k, str) for k in path):
            raise CodingError("a path in the head of the file is no list of words.")
        try:
            leaf = _assemble(entry.get("record"), arrays)
        except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
            raise CodingError(f"{'/'.join(path)!r} is damaged: {error}.") from error
        yield tuple(path), leaf


def _assemble(record: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if record == []:
        (array,) = arrays.values()
        return _to_jax(array)
    kind, *rest = record
    if kind == "palette":
        return _palette(arrays["indices"], arrays["centroids"], *rest)
    if kind == "key":
        return _key(arrays["words"], *rest)
    if kind != "quantized":
        raise ValueError("it is a record of an unknown kind")
    return _quantized(arrays, *rest)


def _key(words: np.ndarray, name: Any) -> Any:
    if not isinstance(name, str):
        raise TypeError(f"it is a key of {name!r}")
    return jax.random.wrap_key_data(jnp.asarray(words), impl=name)


def _palette(indices: np.ndarray, centroids: np.ndarray, keeps_zero: Any) -> Palette:
    fits = indices.dtype == np.uint8 and centroids.ndim == 1
    if not fits or indices.max(initial=0) >= len(centroids):
        raise ValueError("its indices do not fit its centroids")
    return Palette(_to_jax(indices), _to_jax(centroids), bool(keeps_zero))


def _quantized(
    arrays: Mapping[str, np.ndarray], fields: Any, axis: Any, tile: Any, dtype: Any
) -> QuantizedArray:
    bits, lower, upper, bound, affine, levels = fields
    levels = None if levels is None else tuple(float(x) for x in levels)
    format = Format(
        int(bits), int(lower), int(upper), float(bound), bool(affine), levels
    )
    check_format(format)
    values, scale = arrays["values"], arrays["scale"]
    axis = channel_axes(values.ndim, tuple(axis))
    if scale.shape != scale_shape(values.shape, axis, tile):
        raise ValueError("its scales do not fit its shape")
    inside = values.dtype in (np.int8, np.uint8) and values.size
    if not inside or values.min() < lower or values.max() > upper:
        raise ValueError("its values are outside its format")
    zero_point = arrays.get("zero_point")
    if (zero_point is not None) != format.affine:
        raise ValueError("its zero points do not fit its format")
    return QuantizedArray(
        pack(jnp.asarray(values), format),
        _to_jax(scale),
        None if zero_point is None else _to_jax(zero_point),
        format,
        axis,
        tile,
        values.shape,
        _coding.DTYPES[dtype].name,
    )


def _to_jax(array: np.ndarray) -> Any:
    exact = jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype
    return jnp.asarray(array) if exact else array


def _nest(leaves: list[tuple[tuple[str, ...], Any]]) -> Tree:
    if len(leaves) == 1 and leaves[0][0] == ():
        return leaves[0][1]
    root: dict[str, Any] = {}
    for path, leaf in leaves:
        node: Any = root
        for key in path[:-1]:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise CodingError(f"{'/'.join(path)!r} lies below a leaf.")
        if not path or path[-1] in node:
            raise CodingError(f"two leaves of the file have the path {path}.")
        node[path[-1]] = leaf
    return root


def _fill(like: Tree, leaves: list[tuple[tuple[str, ...], Any]]) -> Tree:
    found = dict(leaves)
    wanted, treedef = jax.tree_util.tree_flatten_with_path(like, is_leaf=is_compressed)
    paths = [tuple(_keys(path)) for path, _ in wanted]
    for path in {*paths} ^ {*found}:
        side = "file" if path in paths else "tree of `like`"
        known = ["/".join(p) for p in (found if path in paths else paths)]
        name = "/".join(path)
        raise ValueError(f"the {side} has no {name!r}; {_names.nearest(name, known)}")
    for path, (_, want) in zip(paths, wanted, strict=True):
        have, name = found[path], "/".join(path)
        if is_compressed(want) or is_compressed(have):
            same = type(want) is type(have)
        else:
            same = have.shape == jnp.shape(want) and have.dtype == want.dtype
        if not same:
            raise ValueError(f"{name!r} in the file is not as in `like`.")
    return treedef.unflatten([found[path] for path in paths])
