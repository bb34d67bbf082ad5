"""A run's models, exported to other formats, each with a model card."""

import functools
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax

from jaxkd import _checks, compress, data, deploy, trees
from jaxkd.deploy import Artefact
from jaxkd.models import Model, Variables
from jaxkd.recipes._demo import DemoConfig, make_models
from jaxkd.recipes._digits import Digits, load_digits
from jaxkd.recipes._folder import FolderError, read_config

_BATCH = 250
_CHECKED = 100
_DATA = (
    "scikit-learn's handwritten digits, 8 × 8 pixels; the scores are those of the test "
    "split, which no model has seen."
)
_Export = Callable[..., Artefact]


class Exportable(NamedTuple):
    """A model of a run, and what its export needs.

    Attributes:
        model: the model.
        variables: its variables, quantized or not.
        teacher: the teacher's variables.
        recipe: plain values that say how it was made.
        digits: the dataset.
    """

    model: Model
    variables: Variables
    teacher: Variables
    recipe: dict[str, Any]
    digits: Digits


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


def export_run(
    folder: str | pathlib.Path, formats: Sequence[str], *, name: str = "student"
) -> list[pathlib.Path]:
    """Exports a model of a demo's run, and writes a model card beside each artefact.

    Args:
        folder: the run's folder.
        formats: names of :func:`export_formats`.
        name: which model, by its folder in ``exported``.

    Returns:
        The artefacts' folders, ``exported/NAME-FORMAT``; weights alone get no card.

    Raises:
        FileNotFoundError: if the folder holds no finished run, or has no such model.
        ValueError: if a format is unknown.
        ArtefactError: if an export fails; those before it stay.
        ModuleNotFoundError: if an extra is not installed; the message names it.
    """
    known = export_formats()
    for wanted in formats:
        if wanted not in known:
            raise ValueError(
                f"{wanted!r} is no format; {_checks.nearest(wanted, known)}"
            )
    folder = pathlib.Path(folder)
    found = read_exportable(folder, name)
    teacher = deploy.load(folder / "exported" / "teacher")
    made = []
    for wanted in dict.fromkeys(formats):
        target = folder / "exported" / f"{name}-{wanted}"
        artefact = _export(known[wanted], wanted, found, target)
        if artefact.manifest["kind"] != "safetensors":
            _write_card(target, artefact, teacher, found)
        made.append(target)
    return made


def read_exportable(folder: str | pathlib.Path, name: str) -> Exportable:
    """Reads a model of a demo's run.

    Args:
        folder: the run's folder.
        name: which model, by its folder in ``exported``.

    Returns:
        An :class:`Exportable`.

    Raises:
        FileNotFoundError: if the folder holds no finished run, or has no such model.
        FolderError: if it holds another recipe's run.
    """
    folder = pathlib.Path(folder)
    record = read_config(folder)
    exported = folder / "exported"
    if record is None or not (exported / "teacher").is_dir():
        raise FileNotFoundError(f"{folder} holds no finished run of `jaxkd demo`.")
    if not (exported / name).is_dir():
        names = [path.name for path in exported.iterdir() if path.is_dir()]
        raise FileNotFoundError(
            f"{folder} has no model {name!r}; {_checks.nearest(name, names)}"
        )
    try:
        config = DemoConfig.from_json(record["config"])
    except (ValueError, TypeError) as error:
        raise FolderError(f"{folder} holds no run of `jaxkd demo`: {error}") from error
    digits = load_digits()
    student, teacher = make_models(config)
    model = teacher if name == "teacher" else student
    return Exportable(
        model,
        _variables(model, exported / name, digits),
        _variables(teacher, exported / "teacher", digits),
        record["config"],
        digits,
    )


def _variables(model: Model, folder: pathlib.Path, digits: Digits) -> Variables:
    like = model.init(jax.random.key(0), {"image": digits.test["image"][:1]})
    weights = deploy.load_weights(folder)
    if any(path.endswith("/kernel/values") for path in weights):
        like = like._replace(params=compress.quantize(like.params))
    return deploy.load_weights(folder, like=like)


def _export(
    export: _Export, wanted: str, found: Exportable, target: pathlib.Path
) -> Artefact:
    inputs = {"image": found.digits.test["image"][:_CHECKED]}
    more: dict[str, Any] = {}
    if wanted == "onnx-int8":
        more["calibration"] = _batches(found.digits.train)
    return export(
        found.model, found.variables, inputs, target, metadata=found.recipe, **more
    )


def _batches(arrays: data.Arrays) -> Iterable[Any]:
    return data.eval_batches(arrays, batch_size=_BATCH)


def _write_card(
    target: pathlib.Path, artefact: Artefact, teacher: Artefact, found: Exportable
) -> None:
    scores, followed = deploy.evaluate_artefact(
        artefact, _batches(found.digits.test), teacher=teacher
    )
    card = deploy.model_card(
        artefact,
        scores,
        teacher=followed,
        fingerprint=trees.digest(found.teacher),
        measurement=deploy.measure(target),
        data=_DATA,
        recipe=found.recipe,
    )
    deploy.write_card(target, card)
