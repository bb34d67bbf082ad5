"""A trained model, written to other formats, each artefact with a model card."""

import functools
import pathlib
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from jaxkd import data, deploy, trees
from jaxkd.deploy import Artefact
from jaxkd.models import Model, Variables

_BATCH = 250
_CHECKED = 100
_Export = Callable[..., Artefact]


class Exportable(NamedTuple):
    """A model of a run, and what its export needs.

    Attributes:
        model: the model.
        variables: its variables, quantized or not.
        teacher: the teacher's variables.
        recipe: plain values that say how it was made.
        train: training examples, for calibration.
        test: examples which it is scored on.
        inputs: the entries of them which the model reads.
        about: what the data are, in words.
        formats: more formats, each written by ``save(variables, folder)``.
    """

    model: Model
    variables: Variables
    teacher: Variables
    recipe: dict[str, Any]
    train: data.Arrays
    test: data.Arrays
    inputs: tuple[str, ...]
    about: str
    formats: Mapping[str, Callable[[Variables, pathlib.Path], object]] = {}


def export_formats() -> dict[str, _Export]:
    """The formats to which :func:`export_run` exports, by name.

    Returns:
        ``{name: export}``, to be called as :func:`jaxkd.deploy.export`; those named
        ``int8`` of ONNX also with ``calibration``.
    """
    return {
        "stablehlo": deploy.export,
        "safetensors": deploy.export_safetensors,
        "onnx": deploy.export_onnx,
        "onnx-int8": deploy.export_onnx,
        "litert": deploy.export_litert,
        "litert-int8": functools.partial(deploy.export_litert, bits=8),
        "litert-int4": functools.partial(deploy.export_litert, bits=4),
    }


def export_one(found: Exportable, wanted: str, target: pathlib.Path) -> Artefact:
    """Exports a model to one format.

    Args:
        found: the model.
        wanted: a name of :func:`export_formats`.
        target: the folder to make.

    Returns:
        The artefact.

    Raises:
        ArtefactError: if the export fails; nothing is written then.
        ModuleNotFoundError: if an extra is not installed; the message names it.
    """
    inputs = {name: found.test[name][:_CHECKED] for name in found.inputs}
    more: dict[str, Any] = {}
    if wanted == "onnx-int8":
        more["calibration"] = _batches(found.train)
    return export_formats()[wanted](
        found.model, found.variables, inputs, target, metadata=found.recipe, **more
    )


def intact_artefact(folder: pathlib.Path) -> Artefact | None:
    """An artefact of an earlier attempt; one that was damaged is removed.

    Args:
        folder: where it would be.

    Returns:
        The artefact, or ``None`` if there is none, or no more.
    """
    if not folder.exists():
        return None
    try:
        return deploy.load(folder)
    except (deploy.ArtefactError, FileNotFoundError) as error:
        warnings.warn(f"{error} It is exported again.", stacklevel=2)
        shutil.rmtree(folder)
        return None


def write_card(
    target: pathlib.Path,
    artefact: Artefact,
    teacher: Artefact,
    found: Exportable,
    measurement: deploy.Measurement | None = None,
) -> deploy.Quality:
    """Scores and measures an artefact, and writes its model card.

    Args:
        target: the artefact's folder.
        artefact: the artefact.
        teacher: the teacher's.
        found: the model.
        measurement: of the artefact, if it was measured already.

    Returns:
        The artefact's quality.
    """
    scores, followed = deploy.evaluate_artefact(
        artefact, _batches(found.test), teacher=teacher
    )
    card = deploy.model_card(
        artefact,
        scores,
        teacher=followed,
        fingerprint=trees.digest(found.teacher),
        measurement=measurement or deploy.measure(target),
        data=found.about,
        recipe=found.recipe,
    )
    deploy.write_card(target, card)
    return scores


def _batches(arrays: data.Arrays) -> Iterable[Any]:
    return data.eval_batches(arrays, batch_size=_BATCH)
