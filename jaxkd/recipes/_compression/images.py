"""The task of a compression that brings none: images by name, and a CNN."""

import pathlib

import jax
import numpy as np
import optax

from jaxkd import compress, data, models, objectives
from jaxkd.models import Model, Variables
from jaxkd.recipes._compression.config import CompressConfig
from jaxkd.recipes._compression.student import Task
from jaxkd.recipes._sources import load_images
from jaxkd.recipes._stages import Runner, make_stage

#: Where the trained teacher is, in the run's folder.
TEACHER = pathlib.Path("stages", "teacher.jkd")


def images_task(config: CompressConfig, runner: Runner) -> Task:
    """The images that the config names, and a convolutional teacher, trained here.

    For a model and data of one's own, write such a function.

    Args:
        config: which images, and the teacher's widths and training.
        runner: where it is trained, or was.

    Returns:
        A :class:`Task`.
    """
    file = runner.folder / TEACHER
    if not file.exists():
        task = _task(config, Variables({}))
        schedule = optax.cosine_decay_schedule(
            config.teacher_learning_rate, config.teacher_steps
        )
        stage = make_stage(
            "teacher",
            task.teacher,
            None,
            objectives.hard_label(),
            optax.adamw(schedule, weight_decay=1e-4),
            config.teacher_steps,
        )
        trained = runner.run(
            stage,
            task.train,
            batch_size=config.batch_size,
            transform=task.transform,
        )
        file.parent.mkdir(exist_ok=True)
        compress.save_tree(trained._asdict(), file)
    return read_images_task(runner.folder, config)


def read_images_task(folder: pathlib.Path, config: CompressConfig) -> Task:
    """The task of a run whose teacher is trained.

    Args:
        folder: the run's.
        config: its config.

    Returns:
        A :class:`Task`.

    Raises:
        FileNotFoundError: if it has no teacher, or the images are not there.
        CodingError: if its file is damaged.
    """
    return _task(config, Variables(**compress.load_tree(folder / TEACHER)))


def _task(config: CompressConfig, variables: Variables) -> Task:
    splits = load_images(config.data)
    classes = len(splits.classes)
    student = _cnn(config.student, classes) if config.student else None
    height = np.shape(splits.train["image"])[1]
    return Task(
        _cnn(config.widths, classes),
        variables,
        splits.train,
        splits.test,
        student=student,
        rebuild=lambda widths: rebuild_cnn(widths, classes=classes),
        transform=jax.jit(data.augment.pad_crop(padding=max(1, height // 12))),
        about=splits.about,
    )


def rebuild_cnn(widths: compress.Widths, *, classes: int = 10) -> Model:
    """A :class:`jaxkd.models.CNN` in other widths.

    Args:
        widths: the lengths of all axes of all arrays.
        classes: number of classes.

    Returns:
        A model.
    """
    blocks = sorted(name for name in widths if name.endswith("/conv/kernel:3"))
    return _cnn(tuple(widths[name] for name in blocks), classes)


def _cnn(widths: tuple[int, ...], classes: int) -> Model:
    return models.from_linen(models.CNN(widths, classes=classes))
