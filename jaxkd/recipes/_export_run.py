"""A run's models, exported to other formats, each with a model card."""

import functools
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax

from jaxkd import _names, compress, deploy
from jaxkd.models import Model, Variables
from jaxkd.recipes._catalogue import RECIPES, read_run
from jaxkd.recipes._compression.saved import read_compressed
from jaxkd.recipes._demo import DemoConfig, make_models
from jaxkd.recipes._digits import ABOUT, Digits, load_digits
from jaxkd.recipes._experiment.value import slug
from jaxkd.recipes._exports import (
    Exportable,
    export_formats,
    export_one,
    intact_artefact,
    write_card,
)
from jaxkd.recipes._folder import FolderError, read_config
from jaxkd.recipes._settings import from_json, to_json


def export_run(
    folder: str | pathlib.Path, formats: Sequence[str], *, name: str = "student"
) -> list[pathlib.Path]:
    """Exports a model of a run, and writes a model card beside each artefact.

    Args:
        folder: of an experiment's run, such as :func:`mnist`'s or :func:`text`'s, of
            :func:`demo`'s, or of :func:`compress`'s on images by name.
        formats: names of :func:`export_formats`; of :func:`text` and
            :func:`embeddings` also ``"huggingface"``.
        name: which model: by its folder in ``exported``; of a compression,
            ``"student"``, ``"teacher"`` or the name of a stage.

    Returns:
        The artefacts' folders, ``exported/NAME-FORMAT``; weights alone get no card,
        nor does a model whose outputs are no classes, such as :func:`embeddings`'s.

    Raises:
        FileNotFoundError: if the folder holds no finished run, or has no such model.
        ValueError: if a format is unknown.
        ArtefactError: if an export fails; those before it stay.
        ModuleNotFoundError: if an extra is not installed; the message names it.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}.")
    found = read_exportable(folder, name)
    _check_formats(formats, {*export_formats(), *found.formats})
    place = folder / "exported" / "teacher"
    teacher = intact_artefact(place)
    if teacher is None:  # a compression that exported nothing
        original = read_exportable(folder, "teacher")
        teacher = export_one(original, "stablehlo", place)
    made = []
    for wanted in dict.fromkeys(formats):
        target = folder / "exported" / f"{name}-{wanted}"
        made.append(target)
        if wanted in found.formats:
            found.formats[wanted](found.variables, target)
            continue
        artefact = export_one(found, wanted, target)
        if artefact.manifest["kind"] != "safetensors" and "label" in found.test:
            write_card(target, artefact, teacher, found)
    return made


def _check_formats(formats: Sequence[str], known: Collection[str]) -> None:
    for wanted in formats:
        if wanted not in known:
            raise ValueError(
                f"{wanted!r} is no format; {_names.nearest(wanted, known)}"
            )


def read_exportable(folder: str | pathlib.Path, name: str) -> Exportable:
    """Reads a model of a run.

    Args:
        folder: the folder of :func:`demo`, or of :func:`compress` on images by name.
        name: which model, see :func:`export_run`.

    Returns:
        An :class:`Exportable`.

    Raises:
        FileNotFoundError: if the folder holds no finished run, or has no such model.
        FolderError: if it holds a run whose models only its program can make.
    """
    folder = pathlib.Path(folder)
    record = read_config(folder)
    recipe = "demo" if record is None else record["config"].get("recipe", "demo")
    if record is not None and recipe == "compress":
        return read_compressed(folder, record["config"], name)
    if recipe == "demo":
        return _read_demo(folder, record, name)
    return _read_experiment(folder, name)


def _read_experiment(folder: pathlib.Path, name: str) -> Exportable:
    recipe, config = read_run(folder)
    make = RECIPES[recipe].experiment
    if make is None:
        raise FolderError(f"the models of {folder} cannot be made again.")
    experiment = make(config)
    models = {slug("teacher"): experiment.teacher}
    models |= {slug(way): found.model for way, found in experiment.ways.items()}
    names = {slug(way): way for way in ("teacher", *experiment.ways)}
    if name not in models:
        raise FileNotFoundError(
            f"{folder} has no model {name!r}; {_names.nearest(name, models)} "
            "`--model`, or `name`, chooses one."
        )
    if not (folder / "exported" / name).is_dir():
        raise FileNotFoundError(f"{folder} holds no finished run.")
    train, test = experiment.splits.train, experiment.splits.test
    first = {key: test[key][:1] for key in experiment.inputs}

    def variables(which: str) -> Variables:
        like = models[which].init(jax.random.key(0), first)
        return deploy.load_weights(folder / "exported" / which, like=like)

    return Exportable(
        models[name],
        variables(name),
        variables("teacher"),
        {"recipe": recipe, **to_json(config)},
        train,
        test,
        experiment.inputs,
        experiment.splits.about,
        {
            kind: functools.partial(save, names[name])
            for kind, save in experiment.formats.items()
        },
    )


def _read_demo(
    folder: pathlib.Path, record: Mapping[str, Any] | None, name: str
) -> Exportable:
    exported = folder / "exported"
    if record is None or not (exported / "teacher").is_dir():
        raise FileNotFoundError(f"{folder} holds no finished run of jaxkd.")
    if not (exported / name).is_dir():
        names = [path.name for path in exported.iterdir() if path.is_dir()]
        raise FileNotFoundError(
            f"{folder} has no model {name!r}; {_names.nearest(name, names)}"
        )
    try:
        config = from_json(DemoConfig, record["config"])
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
        digits.train,
        digits.test,
        ("image",),
        ABOUT,
    )


def _variables(model: Model, folder: pathlib.Path, digits: Digits) -> Variables:
    like = model.init(jax.random.key(0), {"image": digits.test["image"][:1]})
    weights = deploy.load_weights(folder)
    if any(path.endswith("/kernel/values") for path in weights):
        like = like._replace(params=compress.quantize(like.params))
    return deploy.load_weights(folder, like=like)
