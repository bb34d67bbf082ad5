"""Tables of numbers and words, made arrays that a network reads."""

import csv
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from jaxkd import _names, data
from jaxkd._extras import require

Table: TypeAlias = Mapping[str, np.ndarray]
_MOST_CLASSES = 100
_GAPS = ("", "na", "nan", "null")


class Task(NamedTuple):
    """What is to be predicted.

    Attributes:
        name: as the config has it.
        column: of the table.
        labels: a number for each row.
        classes: their names.
    """

    name: str
    column: str
    labels: np.ndarray
    classes: tuple[str, ...]


def read_table(source: str, columns: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Reads the columns of a table.

    Args:
        source: ``"wine"``, that comes with scikit-learn, or the path of a ``.csv`` with
            a header, an ``.npz``, or a Parquet file.
        columns: which to read, all by default.

    Returns:
        Columns by name: numbers, or Python strings.

    Raises:
        FileNotFoundError: if there is no such file.
        KeyError: if a column is missing.
        ValueError: if it cannot be read, or a column has gaps.
        ModuleNotFoundError: if the extra that reads it is not installed.
    """
    if source == "wine":
        return _chosen(_wine(), columns, source)
    if source.endswith(".csv"):
        return _chosen(_read_csv(pathlib.Path(source)), columns, source)
    read = data.read_npz if source.endswith(".npz") else data.read_parquet
    found = read(source, columns=columns or None)
    if not found.classes:
        return dict(found.arrays)
    names = np.array(found.classes, object)  # a column called `label` was numbered
    return {**found.arrays, "label": names[found.arrays["label"]]}


def make_task(table: Table, name: str, source: str) -> Task:
    """A column as classes, or whether a number is above another.

    Args:
        table: the columns.
        name: that of a column, or ``"COLUMN>NUMBER"``.
        source: for errors.

    Returns:
        The task.

    Raises:
        KeyError: if there is no such column.
        ValueError: if the column has too many values, or is no number.
    """
    column, above, cut = (name, "", "") if name in table else name.rpartition(">")
    column = (column if above else name).strip()
    values = _get(table, column, source)
    if not above:
        return _classes(values, name)
    if values.dtype.kind == "O" or not _is_number(cut):
        raise ValueError(f"the task {name!r} must be NAME>NUMBER, of a numeric column.")
    labels = (values > float(cut)).astype(np.int32)
    return Task(
        name, column, labels, (f"at most {cut.strip()}", f"above {cut.strip()}")
    )


def make_inputs(
    table: Table, columns: Sequence[str], train: np.ndarray
) -> tuple[dict[str, np.ndarray], int]:
    """Arrays of the columns, scaled and numbered by what the training rows have.

    Args:
        table: the columns.
        columns: which.
        train: the rows to learn scales and words from.

    Returns:
        ``numbers`` ``[n, k]``, float32, of mean 0 and standard deviation 1 in training,
        and ``words`` ``[n, c]``, int32, each column's after those of the one before,
        its first for words that training does not have; either only if it has columns.
        Then how many words there are.

    Raises:
        ValueError: if a number is not finite.
    """
    numbers = [table[c] for c in columns if table[c].dtype.kind != "O"]
    words = [table[c] for c in columns if table[c].dtype.kind == "O"]
    inputs, total, numbered = {}, 0, []
    if numbers:
        x = np.stack(numbers, axis=1).astype(np.float64)
        if not np.isfinite(x).all():
            raise ValueError("a column of numbers has gaps (NaN) or infinities.")
        spread = x[train].std(axis=0)
        scaled = (x - x[train].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        inputs["numbers"] = scaled.astype(np.float32)
    for values in words:
        known = {word: 1 + i for i, word in enumerate(sorted(set(values[train])))}
        numbered.append([total + known.get(word, 0) for word in values])
        total += 1 + len(known)
    if words:
        inputs["words"] = np.array(numbered, np.int32).T
    return inputs, total


def _classes(values: np.ndarray, name: str) -> Task:
    found, labels = np.unique(values, return_inverse=True)
    if not 2 <= len(found) <= _MOST_CLASSES:
        raise ValueError(
            f"the task {name!r} has {len(found)} different values; classes are 2 to "
            f"{_MOST_CLASSES}. A number is cut in two by '{name}>NUMBER'."
        )
    return Task(name, name, labels.astype(np.int32), tuple(map(str, found)))


def _wine() -> dict[str, np.ndarray]:
    raw = require("sklearn.datasets", "demo", "the table of wines").load_wine()
    columns = dict(zip(raw.feature_names, raw.data.T, strict=True))
    return {**columns, "cultivar": raw.target_names[raw.target].astype(object)}


def _read_csv(file: pathlib.Path) -> dict[str, np.ndarray]:
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}.")
    with file.open(newline="", encoding="utf-8-sig") as stream:
        header, *rows = [row for row in csv.reader(stream) if row] or [[]]
    for i, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ValueError(
                f"cannot read {file}: row {i} has {len(row)} cells, the header "
                f"{len(header)}."
            )
    if not rows or len(set(header)) < len(header):
        raise ValueError(
            f"cannot read {file}: it must have rows under a header of different names."
        )
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    return {name.strip(): _typed(name, cells) for name, cells in columns.items()}


def _typed(name: str, cells: Sequence[str]) -> np.ndarray:
    cells = [cell.strip() for cell in cells]
    gaps = sum(cell.lower() in _GAPS for cell in cells)
    if gaps:
        raise ValueError(f"column {name!r} has {gaps} gaps.")
    if all(_is_number(cell) for cell in cells):
        return np.array(cells, np.float64)
    return np.array(cells, object)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _chosen(table: Table, columns: Sequence[str], source: str) -> dict[str, np.ndarray]:
    return {name: _get(table, name, source) for name in columns or table}


def _get(table: Table, name: str, source: str) -> np.ndarray:
    if name not in table:
        raise KeyError(
            f"{source} has no column {name!r}; {_names.nearest(name, list(table))}"
        )
    return table[name]
