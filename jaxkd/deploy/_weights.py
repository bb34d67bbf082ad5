"""Weights by path names, in a safetensors file whose head is not trusted."""

import json
import math
import pathlib
import struct
from collections.abc import Mapping
from typing import Any

import jax
import ml_dtypes
import numpy as np

from jaxkd import _names, trees
from jaxkd._extras import require
from jaxkd._types import Tree
from jaxkd.deploy._folder import (
    FILES,
    WEIGHTS,
    ArtefactError,
    check_files,
    read_manifest,
)

_MAX_HEAD = 2**24
_DTYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "U32": np.uint32,
    "I32": np.int32,
    "F32": np.float32,
    "U64": np.uint64,
    "I64": np.int64,
    "F64": np.float64,
}


def load_weights(
    directory: str | pathlib.Path,
    *,
    like: Tree | None = None,
    max_bytes: int = 2**32,
) -> Tree:
    """The weights of an artefact of kind StableHLO or safetensors.

    Args:
        directory: the folder.
        like: a tree to fill, such as the :class:`~jaxkd.models.Variables` of
            ``model.init``, quantized leaves among them if the file's are. Its typed
            keys (the random streams of NNX), which evaluation does not need, stay.
        max_bytes: the most that the artefact's files may take.

    Returns:
        ``{path: array}``; with ``like``, a tree of its structure.

    Raises:
        FileNotFoundError: if there is no artefact.
        ArtefactError: if it is damaged, or holds no weights by name.
        ValueError: if it holds other weights than ``like``.

    Examples:
        >>> import tempfile
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import deploy, models
        >>> model = models.from_linen(models.MLP(hidden=(8,), classes=3))
        >>> inputs = {"image": jnp.ones((2, 4))}
        >>> variables = model.init(jax.random.key(0), inputs)
        >>> folder = tempfile.mkdtemp() + "/weights"
        >>> _ = deploy.export_safetensors(model, variables, inputs, folder)
        >>> sorted(deploy.load_weights(folder))[:2]
        ['params/dense1/bias', 'params/dense1/kernel']
    """
    directory = pathlib.Path(directory)
    manifest = read_manifest(directory)
    if WEIGHTS not in FILES[manifest["kind"]]:
        raise ArtefactError(
            f"{directory} is of kind {manifest['kind']}, whose weights have no names."
        )
    check_files(directory, manifest, max_bytes)
    found = read_arrays(directory / WEIGHTS)
    return found if like is None else _fill(like, found)


def _fill(like: Tree, found: Mapping[str, np.ndarray]) -> Tree:
    every = trees.flatten(like)
    wanted = {path: x for path, x in every.items() if not is_key(x)}
    for path in sorted({*wanted} ^ {*found}):
        side = "artefact" if path in wanted else "tree of `like`"
        known = found if path in wanted else wanted
        raise ValueError(f"the {side} has no {path!r}; {_names.nearest(path, known)}")
    for path, x in wanted.items():
        if found[path].shape != np.shape(x):
            raise ValueError(
                f"{path!r} has shape {found[path].shape} in the artefact, but "
                f"{np.shape(x)} in `like`."
            )

    def fill(path: str, x: Any) -> Any:
        return jax.numpy.asarray(found[path]) if path in found else x

    return trees.map_with_path(fill, like)


def is_key(leaf: Any) -> bool:
    """Whether a leaf is a typed key, which no format of weights can hold.

    Args:
        leaf: the leaf.

    Returns:
        True for those of :func:`jax.random.key`.
    """
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jax.numpy.issubdtype(dtype, jax.dtypes.prng_key)


def write_arrays(file: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a safetensors file.

    Args:
        file: where to.
        arrays: ``{name: array}``.
    """
    safetensors = require("safetensors.numpy", "deploy")
    file.write_bytes(safetensors.save(dict(arrays)))


def read_arrays(file: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a safetensors file of which nothing is taken for granted.

    Memory beyond the file's own size is not asked for, whatever its head says.

    Args:
        file: which.

    Returns:
        ``{name: array}``, read-only.

    Raises:
        ArtefactError: if it is damaged.
    """
    data = file.read_bytes()
    try:
        head, body = _split(data)
        return {name: _array(entry, body) for name, entry in head.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtefactError(f"{file} is damaged: {error}.") from error


def _split(data: bytes) -> tuple[dict[str, Any], memoryview]:
    if len(data) < 8:
        raise ValueError("it is too short")
    (length,) = struct.unpack_from("<Q", data)
    if length > min(_MAX_HEAD, len(data) - 8):
        raise ValueError(f"its head says that it is {length} bytes long")
    head = json.loads(data[8 : 8 + length])
    head.pop("__metadata__", None)
    body = memoryview(data)[8 + length :]
    end = 0
    for begin, stop in sorted(tuple(e["data_offsets"]) for e in head.values()):
        if type(begin) is not int or type(stop) is not int or begin != end:
            raise ValueError("its arrays overlap, or leave a gap")
        end = stop
    if end != len(body):
        raise ValueError(f"its arrays take {end} bytes, and there are {len(body)}")
    return head, body


def _array(entry: Mapping[str, Any], body: memoryview) -> np.ndarray:
    dtype, shape = np.dtype(_DTYPES[entry["dtype"]]), entry["shape"]
    begin, stop = entry["data_offsets"]
    if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 32:
        raise ValueError(f"{str(shape)[:80]} is no shape")
    if math.prod(shape) * dtype.itemsize != stop - begin:
        raise ValueError(f"shape {shape} does not take {stop - begin} bytes")
    return np.frombuffer(body[begin:stop], dtype).reshape(shape)
