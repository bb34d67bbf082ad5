"""The models of a compression of images by name, read from its folder."""

import pathlib
from collections.abc import Mapping
from typing import Any

from jaxkd import _names
from jaxkd.recipes._compression.config import OWN, CompressConfig
from jaxkd.recipes._compression.export import exportable_of
from jaxkd.recipes._compression.folder import Done, load_stage
from jaxkd.recipes._compression.images import TEACHER, read_images_task
from jaxkd.recipes._compression.student import Student, Task, start
from jaxkd.recipes._exports import Exportable
from jaxkd.recipes._folder import FolderError


def config_of(record: Mapping[str, Any]) -> CompressConfig:
    """The config of a run, as it stands in its folder.

    Args:
        record: of :func:`jaxkd.recipes.read_config`, its entry ``config``.

    Returns:
        The config.

    Raises:
        ValueError: if it is none of a compression.
        TypeError: likewise.
    """
    own = {k: v for k, v in record.items() if k != "recipe"}
    return CompressConfig.from_json(own)


def read_compressed(
    folder: pathlib.Path, record: Mapping[str, Any], name: str
) -> Exportable:
    """Reads a model of a compression of images by name.

    Args:
        folder: the run's.
        record: its config.
        name: ``"student"``, the last; ``"teacher"``; or the name of a stage.

    Returns:
        An :class:`Exportable`.

    Raises:
        FileNotFoundError: if there is no such model, or no stage is finished.
        FolderError: if the run has a task of its own, or is damaged.
    """
    if record.get("data") == OWN:
        raise FolderError(
            f"the models of {folder} were made by a program of your own: give it an "
            "export stage, or call deploy.export_onnx and its like there."
        )
    try:
        config = config_of(record)
    except (ValueError, TypeError) as error:
        raise FolderError(f"config.json of {folder} is damaged: {error}") from error
    task, students = _students(folder, config)
    if name not in students:
        raise FileNotFoundError(
            f"{folder} has no model {name!r}; {_names.nearest(name, list(students))}"
        )
    return exportable_of(task, students[name], config.to_json())


def _students(
    folder: pathlib.Path, config: CompressConfig
) -> tuple[Task, dict[str, Student]]:
    unfinished = FileNotFoundError(f"{folder} holds no finished stage.")
    if not (folder / TEACHER).exists():
        raise unfinished
    task = read_images_task(folder, config)
    done = finished_stages(folder, config, task)
    if not done:
        raise unfinished
    students = {found.name: found.student for found in done}
    students["teacher"] = Student(task.teacher, task.variables)
    return task, {**students, "student": done[-1].student}


def finished_stages(
    folder: pathlib.Path, config: CompressConfig, task: Task
) -> list[Done]:
    """The stages that a run has finished.

    Args:
        folder: the run's.
        config: its config.
        task: its models.

    Returns:
        The stages, in order.

    Raises:
        FolderError: if one is damaged.
    """
    student, done = start(task, config.seed), list[Done]()
    for name in config.names():
        found = load_stage(folder, name, student, task)
        if found is None:
            break
        student = found.student
        done.append(found)
    return done
