"""The stage that exports the student, and what `jaxkd export` reads of a run."""

import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

from jaxkd import deploy
from jaxkd.recipes._compression.config import CompressConfig
from jaxkd.recipes._compression.folder import Done, check_floor, finish_stage
from jaxkd.recipes._compression.stages import Export
from jaxkd.recipes._compression.student import Student, Task, running
from jaxkd.recipes._exports import Exportable, export_one, intact_artefact, write_card


def export_stage(
    folder: pathlib.Path,
    name: str,
    stage: Export,
    student: Student,
    task: Task,
    config: CompressConfig,
) -> Done:
    """Exports a student, with a model card beside each artefact.

    Args:
        folder: the run's.
        name: the stage.
        stage: which formats.
        student: the student.
        task: teacher and examples.
        config: for the model card, and the floor.

    Returns:
        The finished stage.

    Raises:
        FloorError: if an artefact's accuracy is below the floor; it is removed.
    """
    exported = folder / "exported"
    for part in exported.glob(".export-*"):  # of an export that was killed
        shutil.rmtree(part)
    shipped = exportable_of(task, student, config.to_json())
    teacher = _artefact(
        shipped._replace(model=task.teacher, variables=task.variables),
        "stablehlo",
        exported / "teacher",
    )
    found: dict[str, dict[str, float]] = {}
    for wanted in dict.fromkeys(stage.formats):
        target = exported / artefact_name(config, name, wanted)
        artefact = _artefact(shipped, wanted, target)
        if wanted == "safetensors":
            continue
        quality = write_card(target, artefact, teacher, shipped)
        if not quality.accuracy >= config.floor:
            shutil.rmtree(target)
        check_floor(f"{name} ({wanted})", quality.accuracy, config.floor, folder)
        found[target.name] = {
            "accuracy": quality.accuracy,
            "agreement": float(quality.agreement or 0.0),
        }
    return finish_stage(folder, name, student, task, config.floor, found)


def exportable_of(
    task: Task, student: Student, recipe: Mapping[str, Any]
) -> Exportable:
    """A student, and what its export needs.

    Args:
        task: teacher and examples.
        student: the student.
        recipe: plain values that say how it was made.

    Returns:
        An :class:`Exportable`.
    """
    return Exportable(
        running(student),
        student.variables,
        task.variables,
        dict(recipe),
        task.train,
        task.test,
        task.inputs,
        task.about,
    )


def artefact_name(config: CompressConfig, name: str, wanted: str) -> str:
    """The folder of an artefact: the last export is the student's.

    Args:
        config: the stages.
        name: the stage that exports.
        wanted: the format.

    Returns:
        Such as ``"student-onnx"``.
    """
    last = [
        n
        for n, s in zip(config.names(), config.stages, strict=True)
        if isinstance(s, Export)
    ][-1]
    return f"student-{wanted}" if name == last else f"{name}-{wanted}"


def _artefact(
    shipped: Exportable, wanted: str, target: pathlib.Path
) -> deploy.Artefact:
    return intact_artefact(target) or export_one(shipped, wanted, target)
