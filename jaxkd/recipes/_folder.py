"""The folder of a run: made once, resumed, never overwritten."""

import contextlib
import fcntl
import json
import pathlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from jaxkd import report

_CONFIG = "config.json"


class FolderError(RuntimeError):
    """A folder in which a run cannot start, and why."""


def open_folder(
    folder: str | pathlib.Path,
    config: Mapping[str, Any],
    versions: Mapping[str, str],
    *,
    resume: bool,
) -> pathlib.Path:
    """Makes a run's folder, or opens it again.

    Args:
        folder: where.
        config: plain values that determine the run; written to ``config.json``.
        versions: on which versions of libraries it depends.
        resume: whether the folder may hold this run already.

    Returns:
        The folder.

    Raises:
        FolderError: if it holds another run, or anything else without ``resume``, or
            cannot be written to.
    """
    folder = pathlib.Path(folder)
    config = json.loads(json.dumps(config))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = read_config(folder)
        if found is None:
            _start(folder, config, versions)
        else:
            _continue(folder, found, config, versions, resume=resume)
    except OSError as error:
        raise FolderError(f"cannot write to {folder}: {error}.") from error
    return folder


def read_config(folder: str | pathlib.Path) -> dict[str, Any] | None:
    """What ``config.json`` says.

    Args:
        folder: a run's folder.

    Returns:
        ``{"config": ..., "versions": ...}``, or ``None`` if there is no such file.

    Raises:
        FolderError: if it is no JSON.
    """
    file = pathlib.Path(folder) / _CONFIG
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text())
        return {"config": found["config"], "versions": found["versions"]}
    except (ValueError, KeyError, TypeError) as error:
        raise FolderError(f"{file} is damaged: {error!r}.") from error


def _start(
    folder: pathlib.Path, config: Mapping[str, Any], versions: Mapping[str, str]
) -> None:
    foreign = [p.name for p in folder.iterdir() if not p.name.startswith(".")]
    if foreign:
        raise FolderError(
            f"{folder} holds other files ({min(foreign)}); choose another --out."
        )
    text = json.dumps({"config": config, "versions": versions}, indent=2) + "\n"
    report.write_atomically(folder / _CONFIG, text)


def _continue(
    folder: pathlib.Path,
    found: Mapping[str, Any],
    config: Mapping[str, Any],
    versions: Mapping[str, str],
    *,
    resume: bool,
) -> None:
    if not resume:
        raise FolderError(
            f"{folder} holds a run already; add --resume to continue it, or choose "
            "another --out."
        )
    for name in sorted(config.keys() | found["config"].keys()):
        was, now = found["config"].get(name), config.get(name)
        if was != now:
            raise FolderError(
                f"{folder} holds a run with {name} {was}, not {now}; choose another "
                "--out, or the same settings."
            )
    for name, was in found["versions"].items():
        if versions.get(name) != was:
            warnings.warn(
                f"the run began with {name} {was}, now it is {versions.get(name)}: "
                "numbers may differ in the last digits.",
                stacklevel=2,
            )


@contextlib.contextmanager
def lock_folder(folder: pathlib.Path) -> Iterator[None]:
    """Keeps other processes out of a run's folder; a killed process lets go.

    Args:
        folder: a run's folder.

    Yields:
        Nothing.

    Raises:
        FolderError: if another process is at work in it.
    """
    with (folder / ".lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FolderError(f"another process is at work in {folder}.") from error
        yield
