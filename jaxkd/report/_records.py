"""What a run leaves behind: one line of JSON for every measurement."""

import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any


def write_atomically(file: pathlib.Path, text: str) -> None:
    """Writes a file so that it is whole or not there, also if the process is killed.

    Args:
        file: where to.
        text: what.
    """
    staging = file.with_name(f".{file.name}.part")
    with staging.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    staging.replace(file)


class JsonLines:
    """A file of records, appended line by line.

    Examples:
        >>> import pathlib, tempfile
        >>> from jaxkd import report
        >>> lines = report.JsonLines(pathlib.Path(tempfile.mkdtemp()) / "metrics.jsonl")
        >>> lines.write({"step": 1, "loss": 0.5})
        >>> lines.read()
        [{'step': 1, 'loss': 0.5}]
    """

    def __init__(self, file: pathlib.Path) -> None:
        self._file = file

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends a record.

        Args:
            record: plain values.
        """
        with self._file.open("a") as stream:
            stream.write(json.dumps(record) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All records; lines that were cut short or damaged are left out.

        Returns:
            The records in the order in which they were written.
        """
        if not self._file.exists():
            return []
        lines = self._file.read_text(errors="replace").split("\n")
        return [record for line in lines[:-1] for record in _parse(line)]

    def keep(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Drops records, such as those after the checkpoint from which a run resumes.

        Args:
            wanted: says whether a record stays.
        """
        if self._file.exists():
            kept = [json.dumps(r) + "\n" for r in self.read() if wanted(r)]
            write_atomically(self._file, "".join(kept))


def _parse(line: str) -> list[dict[str, Any]]:
    try:
        record = json.loads(line)
    except ValueError:
        return []
    return [record] if isinstance(record, dict) else []
