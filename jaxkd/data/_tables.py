"""Columns of NumPy and Parquet files."""

import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from jax import numpy as jnp

from jaxkd import _checks, _names
from jaxkd._extras import require
from jaxkd.data._arrays import Arrays, check_arrays
from jaxkd.data._dataset import Dataset, encode

Columns: TypeAlias = Sequence[str] | Mapping[str, str] | None


def read_npz(
    file: str | pathlib.Path,
    *,
    columns: Columns = None,
    classes: Sequence[str] | None = None,
) -> Dataset:
    """Reads the arrays of an ``.npz``.

    Args:
        file: the file. Pickled objects are refused: they can run programs.
        columns: the arrays to read; of a dict, keys are the names in the batches,
            values those in the file. All by default.
        classes: the names of the classes. A ``label`` of strings becomes numbers, by
            default of those found, sorted.

    Returns:
        A :class:`Dataset`.

    Raises:
        FileNotFoundError: if there is no such file.
        KeyError: if an array is missing.
        ValueError: if it cannot be read, an array holds pickled objects, lengths
            differ, or a class is none of ``classes``.

    Examples:
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> from jaxkd import data
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "a.npz"
        >>> np.savez(file, train_x=np.ones((2, 3)), train_y=np.array(["no", "yes"]))
        >>> columns = {"x": "train_x", "label": "train_y"}
        >>> dataset = data.read_npz(file, columns=columns)
        >>> dataset.arrays["label"].tolist(), dataset.classes
        ([0, 1], ('no', 'yes'))
    """
    file = _existing(file)
    return _dataset(read_arrays(file, columns), classes, file)


def read_parquet(
    file: str | pathlib.Path,
    *,
    columns: Columns = None,
    classes: Sequence[str] | None = None,
) -> Dataset:
    """Reads the columns of a Parquet file.

    Args:
        file: the file.
        columns: as in :func:`read_npz`.
        classes: as in :func:`read_npz`.

    Returns:
        A :class:`Dataset`. Numbers and lists of one length become arrays of their own
        dtype, other strings than labels an array of Python strings, for
        :func:`tokenize`.

    Raises:
        FileNotFoundError: if there is no such file.
        KeyError: if a column is missing.
        ValueError: if it cannot be read, a column has gaps or is neither numbers nor
            text, or a class is none of ``classes``.
        ModuleNotFoundError: if ``pyarrow`` is not installed.

    Examples:
        >>> import pathlib, tempfile
        >>> import pyarrow, pyarrow.parquet
        >>> from jaxkd import data
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "a.parquet"
        >>> table = pyarrow.table({"age": [3, 4], "size": ["s", "l"]})
        >>> pyarrow.parquet.write_table(table, file)
        >>> dataset = data.read_parquet(file, columns={"x": "age", "label": "size"})
        >>> dataset.arrays["label"].tolist(), dataset.classes
        ([1, 0], ('l', 's'))
    """
    pyarrow = require("pyarrow", "parquet", "reading Parquet")
    parquet = require("pyarrow.parquet", "parquet", "reading Parquet")
    file = _existing(file)
    try:
        with parquet.ParquetFile(file) as found:
            names = _chosen(columns, found.schema_arrow.names)
            for key in names.values():
                _check_known(key, found.schema_arrow.names, file)
            table = found.read(columns=list(dict.fromkeys(names.values())))
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"cannot read {file}: {error}.") from error
    stored = {name: _column(table, key) for name, key in names.items()}
    return _dataset(stored, classes, file)


def read_arrays(file: pathlib.Path, columns: Columns = None) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``.

    Args:
        file: the file.
        columns: as in :func:`read_npz`.

    Returns:
        A dict of arrays.

    Raises:
        KeyError: if an array is missing.
        ValueError: if the file cannot be read, or an array holds pickled objects.
    """
    try:
        with file.open("rb") as stream:
            found = np.load(stream, allow_pickle=False)
            if not isinstance(found, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array, not named ones")
            names = _chosen(columns, found.files)
            return {name: _array(found, key, file) for name, key in names.items()}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"cannot read {file}: {error}.") from error


def _existing(file: str | pathlib.Path) -> pathlib.Path:
    file = pathlib.Path(file)
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}.")
    return file


def _chosen(columns: Columns, found: Sequence[str]) -> dict[str, str]:
    if isinstance(columns, Mapping):
        return dict(columns)
    return {name: name for name in (found if columns is None else columns)}


def _array(found: Any, key: str, file: pathlib.Path) -> np.ndarray:
    _check_known(key, found.files, file)
    try:
        return found[key]
    except ValueError as error:
        raise ValueError(f"array {key!r}: {error}") from error


def _check_known(key: str, found: Sequence[str], file: pathlib.Path) -> None:
    if key not in found:
        raise KeyError(f"{file} has no {key!r}; {_names.nearest(key, found)}")


def _column(table: Any, key: str) -> np.ndarray:
    column = table.column(key)
    if column.null_count:
        raise ValueError(f"column {key!r} has {column.null_count} gaps (nulls).")
    try:
        array = column.to_numpy()
        if array.dtype.kind == "O":  # lists, strings, or categories
            array = np.array(column.to_pylist())
    except ValueError as error:
        raise ValueError(f"column {key!r}, of {column.type}: {error}.") from error
    if array.dtype.kind not in "biufU":
        raise ValueError(
            f"column {key!r}, of {column.type}, is neither numbers, lists of one "
            "length, nor text."
        )
    return array.astype(object) if array.dtype.kind == "U" else array


def _dataset(
    arrays: Arrays, classes: Sequence[str] | None, file: pathlib.Path
) -> Dataset:
    try:
        arrays = check_arrays(arrays)
    except ValueError as error:
        raise ValueError(f"{file}: {error} `columns` chooses what to read.") from error
    label = arrays.get("label")
    if label is not None and label.dtype.kind in "UO":
        numbers, names = encode([str(x) for x in label], classes)
        return Dataset({**arrays, "label": numbers}, names)
    if label is not None and classes is not None:
        _checks.check_label_range(jnp.asarray(label), len(classes))
    return Dataset(arrays, tuple(classes or ()))
