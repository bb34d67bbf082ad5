"""What the readers of files return, and the files they read."""

import contextlib
import functools
import lzma
import pathlib
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np

from jaxkd import _names
from jaxkd.data._arrays import Arrays

ClassOf: TypeAlias = Callable[[pathlib.PurePosixPath], str | None]
_T = TypeVar("_T")
_MAX_FILE = 2**28


class Dataset(NamedTuple):
    """Examples in memory, and the names of their classes.

    Attributes:
        arrays: a dict of host arrays of one length, for :class:`TrainBatches` and
            :func:`eval_batches`.
        classes: the classes' names; ``label`` is a position here. Empty if there are
            no labels, or they were numbers.
    """

    arrays: Arrays
    classes: tuple[str, ...] = ()


def class_folder(path: pathlib.PurePosixPath) -> str | None:
    """The class of a file that lies in a folder of its class.

    Args:
        path: of the file, from the source's top or its split's.

    Returns:
        The name of the folder.

    Raises:
        ValueError: if it lies in none.
    """
    if not path.parent.name:
        raise ValueError(
            f"{path} lies in no folder of a class; give `class_of` to say the class."
        )
    return path.parent.name


def walk(
    source: str | pathlib.Path, suffixes: Sequence[str], split: str | None
) -> Iterator[tuple[pathlib.PurePosixPath, bytes]]:
    """The files of a folder, or of a tar, which is never unpacked to disk.

    Args:
        source: a folder or a tar, compressed or not.
        suffixes: the endings wanted, in lower case; hidden files are passed over.
        split: only what is in the folder of this name.

    Yields:
        Paths from the source's top, or the split's, and contents; the order is that of
        the names in a folder, and that of the file in a tar.

    Raises:
        FileNotFoundError: if there is no such source, or it has no such split.
        ValueError: if there is no such file, or the tar is damaged.
    """
    source = pathlib.Path(source)
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist.")
    found = False
    for path, read in (_in_folder if source.is_dir() else _in_tar)(source):
        inside = _inside(path, split)
        hidden = any(part.startswith(".") and part != ".." for part in path.parts)
        if inside is not None and not hidden and path.suffix.lower() in suffixes:
            found = True
            yield inside, read()
    if not found:
        where = f"{source}, split {split!r}," if split else f"{source}"
        raise ValueError(f"{where} has no files of {', '.join(suffixes)}.")


def _inside(
    path: pathlib.PurePosixPath, split: str | None
) -> pathlib.PurePosixPath | None:
    if split is None:
        return path
    # A tar often has one folder around all.
    depth = next((i for i in (0, 1) if path.parts[i : i + 1] == (split,)), None)
    if depth is None or len(path.parts) < depth + 2:
        return None
    return pathlib.PurePosixPath(*path.parts[depth + 1 :])


_Files: TypeAlias = Iterator[tuple[pathlib.PurePosixPath, Callable[[], bytes]]]


def _in_folder(source: pathlib.Path) -> _Files:
    for file in sorted(source.rglob("*")):
        if file.is_file():
            yield pathlib.PurePosixPath(file.relative_to(source)), file.read_bytes


def _in_tar(source: pathlib.Path) -> _Files:
    def read(member: tarfile.TarInfo) -> bytes:
        if member.size > _MAX_FILE:
            raise ValueError(f"{member.name} is too large: {member.size:,} bytes.")
        with _readable(source):
            stream = tar.extractfile(member)
            return stream.read() if stream else b""

    with _readable(source), tarfile.open(source) as tar:
        for member in tar:
            if member.isfile():
                path = pathlib.PurePosixPath(member.name)
                yield path, functools.partial(read, member)


@contextlib.contextmanager
def _readable(source: pathlib.Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        words = str(error).partition("\n")[0].rstrip(":.")  # tarfile lists its attempts
        raise ValueError(f"cannot read {source} as a tar: {words}.") from error


def collect(
    files: Iterator[tuple[pathlib.PurePosixPath, bytes]],
    decode: Callable[[bytes], _T],
    class_of: ClassOf,
    classes: Sequence[str] | None,
) -> tuple[list[_T], list[pathlib.PurePosixPath], np.ndarray, tuple[str, ...]]:
    """Decodes files and finds their classes.

    Args:
        files: paths and contents.
        decode: makes an example of the content; its ``ValueError`` is told with the
            path.
        class_of: the class of a path, or ``None`` to leave the file out.
        classes: the names of the classes, or ``None`` for those found, sorted.

    Returns:
        Examples sorted by path, their paths, labels, and the names of the classes.

    Raises:
        ValueError: if a file cannot be read, none is left, or a class is unknown.
    """
    rows: list[tuple[pathlib.PurePosixPath, str, _T]] = []
    for path, content in files:
        name = class_of(path)
        if name is None:
            continue
        try:
            rows.append((path, name, decode(content)))
        except ValueError as error:
            raise ValueError(f"cannot read {path}: {error}") from error
    if not rows:
        raise ValueError("the dataset is empty: `class_of` left out every file.")
    rows.sort(key=lambda row: row[0])
    labels, names = encode([row[1] for row in rows], classes)
    return [row[2] for row in rows], [row[0] for row in rows], labels, names


def encode(
    names: Sequence[str], classes: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """The labels of classes by name.

    Args:
        names: of each example.
        classes: the names of the classes, or ``None`` for those found, sorted.

    Returns:
        Labels, int32, and the names of the classes.

    Raises:
        ValueError: if a name is none of the classes.
    """
    known = tuple(sorted(set(names)) if classes is None else classes)
    number = {name: i for i, name in enumerate(known)}
    for name in names:
        if name not in number:
            raise ValueError(
                f"class {name!r} is none of the classes given; "
                f"{_names.nearest(name, known)}"
            )
    return np.array([number[name] for name in names], np.int32), known
