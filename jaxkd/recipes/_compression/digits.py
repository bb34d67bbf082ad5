"""The task of a compression that brings none: handwritten digits."""

import pathlib

import optax

from jaxkd import compress, models, objectives
from jaxkd.models import Model, Variables
from jaxkd.recipes._compression.config import CompressConfig
from jaxkd.recipes._compression.student import Task
from jaxkd.recipes._demo import DemoConfig, make_models
from jaxkd.recipes._digits import ABOUT, NUM_CLASSES, augment_digits, load_digits
from jaxkd.recipes._stages import Runner, make_stage

#: Where the trained teacher is, in the run's folder.
TEACHER = pathlib.Path("stages", "teacher.jkd")


def digits_task(config: CompressConfig, runner: Runner) -> Task:
    """Scikit-learn's handwritten digits, and a convolutional teacher, trained here.

    For a model and data of one's own, write such a function.

    Args:
        config: how long the teacher is trained.
        runner: where it is trained, or was.

    Returns:
        A :class:`Task`.
    """
    _, teacher = make_models(DemoConfig())
    steps = config.teacher_steps
    schedule = optax.cosine_decay_schedule(DemoConfig().learning_rate, steps)
    tx = optax.adamw(schedule, weight_decay=1e-4)
    stage = make_stage("teacher", teacher, None, objectives.hard_label(), tx, steps)
    file = runner.folder / TEACHER
    if not file.exists():
        trained = runner.run(
            stage,
            load_digits().train,
            batch_size=config.batch_size,
            transform=augment_digits,
        )
        file.parent.mkdir(exist_ok=True)
        compress.save_tree(trained._asdict(), file)
    return read_digits_task(runner.folder)


def read_digits_task(folder: pathlib.Path) -> Task:
    """The task of a run whose teacher is trained.

    Args:
        folder: the run's.

    Returns:
        A :class:`Task`.

    Raises:
        FileNotFoundError: if it has no teacher.
        CodingError: if its file is damaged.
    """
    digits = load_digits()
    _, teacher = make_models(DemoConfig())
    return Task(
        teacher,
        Variables(**compress.load_tree(folder / TEACHER)),
        digits.train,
        digits.test,
        rebuild=rebuild_digits,
        transform=augment_digits,
        about=ABOUT,
    )


def rebuild_digits(widths: compress.Widths) -> Model:
    """The convolutional network of the digits, in other widths.

    Args:
        widths: the lengths of all axes of all arrays.

    Returns:
        A model.
    """
    blocks = sorted(name for name in widths if name.endswith("/conv/kernel:3"))
    cnn = models.CNN(tuple(widths[name] for name in blocks), classes=NUM_CLASSES)
    return models.from_linen(cnn)
