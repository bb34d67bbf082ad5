"""The result of a run, kept for later comparisons."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from jaxkd.report._compare import Row
from jaxkd.report._records import write_atomically

_FILE = "result.json"


def write_result(
    folder: str | pathlib.Path, rows: Sequence[Row], words: Sequence[str]
) -> None:
    """Writes ``result.json``.

    Args:
        folder: the run's.
        rows: the rows of its table, the teacher first.
        words: the result in plain words.
    """
    found = {"rows": [row._asdict() for row in rows], "words": list(words)}
    write_atomically(pathlib.Path(folder) / _FILE, json.dumps(found, indent=1) + "\n")


def read_result(folder: str | pathlib.Path) -> tuple[list[Row], list[str]]:
    """Reads ``result.json``.

    Args:
        folder: a run's.

    Returns:
        The rows of its table and the words.

    Raises:
        FileNotFoundError: if no run was finished there.
        ValueError: if the file is damaged.

    Examples:
        >>> import tempfile
        >>> from jaxkd import report
        >>> folder = tempfile.mkdtemp()
        >>> row = report.Row("net", (0.9,), (1.0,), 40, 20, 800, 0.01, 100.0)
        >>> report.write_result(folder, [row], ["It works."])
        >>> report.read_result(folder) == ([row], ["It works."])
        True
    """
    file = pathlib.Path(folder) / _FILE
    if not file.is_file():
        raise FileNotFoundError(f"{folder} holds no finished run.")
    try:
        found = json.loads(file.read_text())
        rows = [_row(row) for row in found["rows"]]
        return rows, list(found["words"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} is damaged: {error!r}.") from error


def _row(found: dict[str, Any]) -> Row:
    shares = {name: tuple(found[name]) for name in ("accuracy", "agreement")}
    return Row(**{**found, **shares})
