"""What a run leaves behind: one line of JSON for every measurement."""

import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jaxkd.report._loggers import Logger, MakeLogger


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

    def __init__(self, file: pathlib.Path, *, also: Iterable[Logger] = ()) -> None:
        """Names the file.

        Args:
            file: where the records go; it need not be there yet.
            also: loggers that get each new record too.
        """
        self._file = file
        self._also = tuple(also)

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends a record.

        Args:
            record: plain values.
        """
        with self._file.open("a") as stream:
            stream.write(json.dumps(record) + "\n")
        for logger in self._also:
            logger.write(record)

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


def open_records(folder: pathlib.Path, loggers: Iterable[MakeLogger] = ()) -> JsonLines:
    """The records of a run.

    Args:
        folder: the run's; the file is ``metrics.jsonl``.
        loggers: what opens loggers that get each new record too.

    Returns:
        The file.
    """
    return JsonLines(folder / "metrics.jsonl", also=[make(folder) for make in loggers])


def _parse(line: str) -> list[dict[str, Any]]:
    try:
        record = json.loads(line)
    except ValueError:
        return []
    return [record] if isinstance(record, dict) else []
