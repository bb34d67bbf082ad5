"""Artefacts: a folder that holds all it takes to run a model, of any kind."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxkd.deploy._folder import (
    CARDS,
    ArtefactError,
    check_files,
    check_inputs,
    read_manifest,
)
from jaxkd.deploy._litert import read_litert
from jaxkd.deploy._onnx import read_onnx
from jaxkd.deploy._stablehlo import read_stablehlo
from jaxkd.deploy._weights import read_arrays


class Artefact(NamedTuple):
    """A loaded artefact.

    Attributes:
        predict: maps ``{name: array}`` of any batch length to logits.
        manifest: what ``manifest.json`` says.
        num_bytes: size on disk of the whole folder, without the model card.
    """

    predict: Callable[[Mapping[str, Any]], Any]
    manifest: dict[str, Any]
    num_bytes: int


def load(directory: str | pathlib.Path, *, max_bytes: int = 2**32) -> Artefact:
    """Loads an artefact of any kind, after checking that it is as it was written.

    Bytes that are not those written are refused before anything reads them: no runtime
    sees a damaged file. But checksums tell damage, not malice: someone who rewrites the
    manifest to match has a program of theirs run on your machine, by a runtime in C++
    which it may crash. So take artefacts from where you would take code, or try them in
    another process, as :func:`measure` does. Weights in safetensors hold no program;
    jaxkd reads them itself, in no more memory than the file takes.

    Args:
        directory: the folder.
        max_bytes: the most that its files may take.

    Returns:
        An :class:`Artefact`; one of weights alone refuses to predict.

    Raises:
        FileNotFoundError: if there is no artefact.
        ArtefactError: if a file is missing, has changed, is of another format, or too
            large.
        ModuleNotFoundError: if the extra that runs this kind is not installed.
    """
    directory = pathlib.Path(directory)
    manifest = read_manifest(directory)
    check_files(directory, manifest, max_bytes)
    readers = {
        "stablehlo": read_stablehlo,
        "safetensors": _read_weights,
        "onnx": read_onnx,
        "litert": read_litert,
    }
    run = readers[manifest["kind"]](directory, manifest)

    def predict(inputs: Mapping[str, Any]) -> Any:
        return run(check_inputs(inputs, manifest["inputs"]))

    files = (file for file in directory.iterdir() if file.name not in CARDS)
    return Artefact(predict, manifest, sum(file.stat().st_size for file in files))


def _read_weights(
    folder: pathlib.Path, manifest: Mapping[str, Any]
) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    (name,) = set(manifest["files"]) - set(CARDS)
    read_arrays(folder / name)

    def run(inputs: dict[str, np.ndarray]) -> np.ndarray:
        raise ArtefactError(
            f"{folder} holds weights without a program: give them to their model, with "
            "deploy.load_weights(folder, like=variables)."
        )

    return run
