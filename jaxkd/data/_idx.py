"""Files of the IDX format, in which MNIST and its like are given."""

import gzip
import math
import pathlib
import zlib
from collections.abc import Sequence

import numpy as np
from jax import numpy as jnp

from jaxkd import _checks
from jaxkd.data._arrays import check_arrays
from jaxkd.data._dataset import Dataset

_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_PARTS = {"train": "train", "test": "t10k"}


def read_idx(
    folder: str | pathlib.Path,
    *,
    split: str = "train",
    classes: Sequence[str] | None = None,
) -> Dataset:
    """Reads images and labels as MNIST and its like are given: four files of IDX.

    Args:
        folder: where ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and those
            of ``t10k`` lie, compressed (``.gz``) or not.
        split: ``"train"``, or ``"test"`` for the files of ``t10k``.
        classes: the names of the classes, if you like to give them.

    Returns:
        A :class:`Dataset`: ``image``, uint8 ``[n, h, w]``, ``label``, int32 ``[n]``.

    Raises:
        FileNotFoundError: if a file is not there.
        ValueError: if a file cannot be read or is cut off, the lengths differ, or a
            label is outside ``classes``.

    Examples:
        >>> import pathlib, tempfile
        >>> from jaxkd import data
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> image = bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2, 7, 9])
        >>> label = bytes([0, 0, 8, 1, 0, 0, 0, 1, 4])
        >>> _ = (folder / "train-images-idx3-ubyte").write_bytes(image)
        >>> _ = (folder / "train-labels-idx1-ubyte").write_bytes(label)
        >>> arrays, _ = data.read_idx(folder)
        >>> arrays["image"].tolist(), arrays["label"].tolist()
        ([[[7, 9]]], [4])

    References:
        LeCun et al., `The MNIST database <http://yann.lecun.com/exdb/mnist/>`_, section
        on file formats.
    """
    if split not in _PARTS:
        raise ValueError(f"`split` must be 'train' or 'test', got {split!r}.")
    stem = pathlib.Path(folder) / _PARTS[split]
    image, label = (_read(f"{stem}-{x}-ubyte") for x in ("images-idx3", "labels-idx1"))
    try:
        arrays = check_arrays({"image": image, "label": label.astype(np.int32)})
    except ValueError as error:
        raise ValueError(f"{folder}, {split}: {error}") from error
    if classes is not None:
        _checks.check_label_range(jnp.asarray(arrays["label"]), len(classes))
    return Dataset(arrays, tuple(classes or ()))


def _read(path: str) -> np.ndarray:
    file = pathlib.Path(path)
    if not file.is_file():
        file = file.with_name(f"{file.name}.gz")
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {path}, nor {file.name}.")
    try:
        content = file.read_bytes()
        return _parse(gzip.decompress(content) if file.suffix == ".gz" else content)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"cannot read {file}: {error}.") from error


def _parse(content: bytes) -> np.ndarray:
    """An array: zeros, its dtype, its rank, its shape, its numbers; all big-endian."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _DTYPES:
        raise ValueError("it is no file of the IDX format")
    dtype, start = np.dtype(_DTYPES[content[2]]), 4 + 4 * content[3]
    if len(content) < start:
        raise ValueError("it is cut off")
    shape = tuple(np.frombuffer(content[4:start], ">u4").tolist())
    size = dtype.itemsize * math.prod(shape)
    if len(content) != start + size:
        raise ValueError(
            f"it has {len(content) - start} bytes, where its shape {shape} says {size}"
        )
    numbers = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return numbers.astype(dtype.newbyteorder("="))
