"""The folder of an artefact: written whole, and read only if it is as it was written.

``manifest.json`` says what the folder holds, and the SHA-256 of every other file and of
itself. Files it does not name are never read.
"""

import contextlib
import hashlib
import json
import math
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxkd import _names
from jaxkd._version import __version__

FORMAT = 2
MANIFEST = "manifest.json"
PROGRAM, WEIGHTS = "program.bin", "weights.safetensors"
ONNX, LITERT = "model.onnx", "model.tflite"
FILES = {
    "stablehlo": (PROGRAM, WEIGHTS),
    "safetensors": (WEIGHTS,),
    "onnx": (ONNX,),
    "litert": (LITERT,),
}
CARDS = ("card.json", "card.md")
_MAX_MANIFEST = 2**20
_MAX_EXAMPLE = 2**30  # bytes of one example of one input


class ArtefactError(RuntimeError):
    """An artefact that cannot be written or used, and why."""


@contextlib.contextmanager
def staged(directory: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary folder, which takes the artefact's name when all has gone well.

    Args:
        directory: the folder to make.

    Yields:
        The temporary folder, beside it.

    Raises:
        ArtefactError: if the folder exists or cannot be written.
    """
    directory = pathlib.Path(directory)
    if directory.exists():
        raise ArtefactError(
            f"{directory} exists already, and nothing was written: remove it, "
            "or choose another name."
        )
    staging = directory.with_name(f".export-{directory.name}-{os.getpid()}")
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise ArtefactError(f"cannot write {directory}: {error}.") from error
    try:
        yield staging
        staging.rename(directory)
    except OSError as error:
        raise ArtefactError(f"cannot write {directory}: {error}.") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def seal(
    folder: pathlib.Path, content: Mapping[str, Any], *, cards: bool = True
) -> dict[str, Any]:
    """Writes the manifest, with the sizes and hashes of the files that are there.

    Args:
        folder: the artefact's folder; its other files are written already.
        content: the manifest without ``files`` and ``sha256``.
        cards: whether the model card, if there is one, belongs to it.

    Returns:
        The manifest.
    """
    names = (*FILES[content["kind"]], *(CARDS if cards else ()))
    manifest = {
        "format": FORMAT,
        "jaxkd": __version__,
        **content,
        "files": {
            name: {
                "sha256": sha256(folder / name),
                "bytes": (folder / name).stat().st_size,
            }
            for name in names
            if (folder / name).is_file()
        },
    }
    manifest["sha256"] = _digest(manifest)
    write_whole(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")
    return manifest


def write_whole(file: pathlib.Path, text: str) -> None:
    """Writes a file so that it is whole, or as it was before.

    Args:
        file: where to.
        text: what.
    """
    staging = file.with_name(f".{file.name}.part")
    staging.write_text(text)
    staging.replace(file)


def read_manifest(directory: pathlib.Path) -> dict[str, Any]:
    """What ``manifest.json`` says, after checking that it is one.

    Args:
        directory: the artefact's folder.

    Returns:
        The manifest.

    Raises:
        FileNotFoundError: if there is none.
        ArtefactError: if it is damaged, has changed, or is of another format.
    """
    file = directory / MANIFEST
    if not file.is_file():
        raise FileNotFoundError(f"{directory} is no artefact: it has no {MANIFEST}.")
    if file.stat().st_size > _MAX_MANIFEST:
        raise ArtefactError(f"{file} is damaged: it is larger than 1 MiB.")
    try:
        manifest = json.loads(file.read_text())
        version, kind = manifest["format"], manifest["kind"]
        if version == FORMAT and _is_known(kind, set(manifest["files"])):
            _check_fields(manifest)
            if manifest["sha256"] == _digest(manifest):
                return manifest
            words = "has changed since it was written (SHA-256)."
        else:
            words = (
                f"has format {version!r} and kind {kind!r}; this version reads format "
                f"{FORMAT} of {', '.join(FILES)}."
            )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtefactError(f"{file} is damaged: {error!r}.") from error
    raise ArtefactError(f"{file} {words}")


def _is_known(kind: Any, files: set[str]) -> bool:
    needed = set(FILES.get(kind, ()))
    return bool(needed) and needed <= files <= needed | set(CARDS)


def _check_fields(manifest: Mapping[str, Any]) -> None:
    for wanted in (*manifest["inputs"].values(), manifest["output"]):
        _check_signature(np.dtype(wanted["dtype"]), *wanted["shape"])
    for found in manifest["files"].values():
        size, digest = found["bytes"], found["sha256"]
        if type(size) is not int or size < 0 or not isinstance(digest, str):
            raise TypeError("a file has no size or no hash")


def _check_signature(dtype: np.dtype[Any], batch: Any, *lengths: Any) -> None:
    if batch != "batch":
        raise ValueError("the first axis of an array is not the batch's")
    if not all(type(n) is int and n >= 0 for n in lengths):
        raise ValueError("a shape is no list of lengths")
    if dtype.itemsize * math.prod(lengths) > _MAX_EXAMPLE:
        raise ValueError(f"an example takes more than {_MAX_EXAMPLE} bytes")


def check_files(
    directory: pathlib.Path, manifest: Mapping[str, Any], max_bytes: int
) -> None:
    """Raises unless all files are as they were written.

    Sizes are compared first, so that nothing large is read in vain.

    Args:
        directory: the artefact's folder.
        manifest: what its manifest says.
        max_bytes: the most that the files may take together.

    Raises:
        ArtefactError: if a file is missing or has changed, or they are too large.
    """
    needed = sum(found["bytes"] for found in manifest["files"].values())
    if needed > max_bytes:
        raise ArtefactError(
            f"the files of {directory} take {needed} bytes, more than `max_bytes`, "
            f"{max_bytes}."
        )
    for name, expected in manifest["files"].items():
        file = directory / name
        if not file.is_file():
            raise ArtefactError(f"{file} is missing.")
        same = file.stat().st_size == expected["bytes"]
        if not same or sha256(file) != expected["sha256"]:
            raise ArtefactError(
                f"{file} has changed since it was written (SHA-256); it is not used."
            )


def check_program(
    file: pathlib.Path,
    found: Mapping[str, tuple[Sequence[Any], str]],
    manifest: Mapping[str, Any],
) -> None:
    """Raises unless a program reads what its manifest says.

    Args:
        file: the program's.
        found: shape and dtype of each input that it reads, as the program says.
        manifest: what the manifest says.

    Raises:
        ArtefactError: if an input is unknown, or of another shape or dtype.
    """
    for name, (shape, dtype) in found.items():
        said = manifest["inputs"].get(name, {"shape": [], "dtype": None})
        if [*shape[1:]] != said["shape"][1:] or dtype != said["dtype"]:
            raise ArtefactError(
                f"{file} reads an input {name!r} of shape {tuple(shape)} and {dtype}, "
                "and its manifest says otherwise."
            )


def check_inputs(
    inputs: Mapping[str, Any], wanted: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The inputs in the dtypes of the program, or an error in words.

    Args:
        inputs: ``{name: array}``.
        wanted: what the manifest says of them.

    Returns:
        NumPy arrays in the order of the manifest.

    Raises:
        KeyError: if one is missing.
        ValueError: if one is unknown or of another shape, or their lengths differ.
        TypeError: if one is of a dtype that would be cut, or they have no names.
    """
    _check_names(inputs, wanted)
    checked = {}
    for name, want in wanted.items():
        x = _as_array(name, _names.get(inputs, name, "the artefact"))
        if list(x.shape[1:]) != want["shape"][1:] or x.ndim == 0 or len(x) == 0:
            raise ValueError(
                f"input {name!r} has shape {x.shape}, but must be "
                f"({', '.join(map(str, want['shape']))})."
            )
        if not np.can_cast(x.dtype, want["dtype"], "same_kind"):
            raise TypeError(
                f"input {name!r} is {x.dtype}, but must be {want['dtype']}."
            )
        checked[name] = _cast(name, x, want["dtype"])
    if len({len(x) for x in checked.values()}) > 1:
        lengths = ", ".join(f"{name!r} {len(x)}" for name, x in checked.items())
        raise ValueError(f"the inputs differ in their number of examples: {lengths}.")
    return checked


def _check_names(inputs: Any, wanted: Mapping[str, Any]) -> None:
    if not isinstance(inputs, Mapping):
        names = ", ".join(f"{name!r}: ..." for name in wanted)
        raise TypeError(
            f"`inputs` must be arrays by name, {{{names}}}, got {type(inputs)}."
        )
    extra = {str(name) for name in inputs} - set(wanted)
    if extra:
        raise ValueError(
            f"unknown input {min(extra)!r}; {_names.nearest(min(extra), wanted)}"
        )


def _as_array(name: str, x: Any) -> np.ndarray:
    try:
        return np.asarray(x)
    except ValueError as error:  # rows of several lengths
        raise ValueError(f"input {name!r} is no array: {error}") from error


def _cast(name: str, x: np.ndarray, dtype: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # numbers too large are infinities, as in JAX
        cast = x.astype(dtype)
    if cast.dtype.kind in "iu" and not np.array_equal(cast, x):
        raise ValueError(f"input {name!r} has numbers beyond {dtype}.")
    return cast


def sha256(file: pathlib.Path) -> str:
    """The SHA-256 of a file, read piece by piece.

    Args:
        file: which.

    Returns:
        Its digits.
    """
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(manifest: Mapping[str, Any]) -> str:
    rest = {name: value for name, value in manifest.items() if name != "sha256"}
    text = json.dumps(rest, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
