"""The pipeline: any sequence of stages from a large model to a small file."""

import pathlib
from collections.abc import Sequence
from typing import Any

from jaxkd import _names, report, trees
from jaxkd.recipes._compression.config import OWN, CompressConfig
from jaxkd.recipes._compression.export import export_stage
from jaxkd.recipes._compression.folder import (
    Done,
    FloorError,
    check_same_task,
    finish_stage,
    load_stage,
    scores_of,
)
from jaxkd.recipes._compression.images import images_task
from jaxkd.recipes._compression.report import CompressResult, finish_report
from jaxkd.recipes._compression.stages import (
    Distil,
    Export,
    Factorize,
    FineTune,
    Shrink,
)
from jaxkd.recipes._compression.student import Student, Task, start
from jaxkd.recipes._compression.work import Workshop, cut, work
from jaxkd.recipes._demo import versions
from jaxkd.recipes._folder import lock_folder, open_folder
from jaxkd.recipes._sources import load_images
from jaxkd.recipes._stages import Runner


def compress(
    config: CompressConfig,
    folder: str | pathlib.Path,
    task: Task | None = None,
    *,
    resume: bool = False,
    quiet: bool = False,
    loggers: Sequence[report.MakeLogger] = (),
) -> CompressResult:
    """Takes a model through a sequence of stages, and writes a report.

    Every stage is measured: accuracy, agreement with the teacher, bytes of its file
    (:func:`jaxkd.compress.save_tree`) and latency. What a stage did stays done: zeros
    stay zero, and rounded weights are trained through the rounding. A run that is
    killed goes on after its last stage, or within it from the last checkpoint, to the
    same bits.

    Args:
        config: the stages and their settings.
        folder: where the run leaves ``config.json``, ``metrics.jsonl``, ``report.md``,
            ``report.html``, ``report.png``, ``stages``, ``checkpoints`` and
            ``exported``.
        task: teacher, data and how to build a smaller model; by default the images
            that the config names, with a convolutional teacher that is trained first.
        resume: continue the run that is there; without it, the folder must not hold
            one.
        quiet: show no progress.
        loggers: what else gets every record, such as ``report.tensorboard``.

    Returns:
        The rows of the table, and the student.

    Raises:
        ValueError: if the stages do not fit the task; nothing is written then.
        FloorError: if a stage leaves less accuracy than ``config.floor``; the stages
            before it stay, and are reported.
        FolderError: if the folder holds another run, or cannot be written.
        ArtefactError: if an export fails.
        ModuleNotFoundError: if an extra is not installed.
    """
    console = report.make_console(quiet=quiet)
    if task is None:
        load_images(config.data)  # what is missing is missed before all is written
    else:
        _check_task(config, task)
    record = {"recipe": "compress", **config.to_json()}
    if task is not None:
        record["data"] = OWN
    folder = open_folder(folder, record, versions(), resume=resume)
    with lock_folder(folder):
        records = report.open_records(folder, loggers)
        runner = Runner(folder, config.seed, console, records, config.save_every)
        task = images_task(config, runner) if task is None else task
        check_same_task(folder, task)
        return _run(config, folder, task, runner)


def _run(
    config: CompressConfig, folder: pathlib.Path, task: Task, runner: Runner
) -> CompressResult:
    student, done = start(task, config.seed), list[Done]()
    scores = scores_of(task, task.teacher, task.variables)
    if scores["accuracy"] < config.floor and task.student is None:
        raise FloorError(
            f"the model to compress has an accuracy of {scores['accuracy']:.2%}, below "
            f"the floor of {config.floor:.2%}."
        )
    for name, stage in zip(config.names(), config.stages, strict=True):
        found = load_stage(folder, name, student, task)
        try:
            if found is None and isinstance(stage, Export):
                found = export_stage(folder, name, stage, student, task, config)
            elif found is None:
                after = work(stage, student, Workshop(config, task, runner, name))
                found = finish_stage(folder, name, after, task, config.floor)
        except FloorError:
            finish_report(folder, task, scores, done)
            raise
        runner.console.print(str(found))
        student = found.student
        done.append(found)
    return finish_report(folder, task, scores, done)


def _check_task(config: CompressConfig, task: Task) -> None:
    for name in (*task.inputs, "label"):
        _names.get(task.train, name, "`train`, for the inputs and labels,")
        _names.get(task.test, name, "`test`, for the inputs and labels,")
    first = config.stages[0]
    if task.student is not None and not isinstance(first, Distil | FineTune):
        raise ValueError(
            "the task has a student, which must be trained before anything else: "
            f"the first stage must be distil or fine_tune, not {config.names()[0]}."
        )
    student, split = start(task, config.seed), False
    for name, stage in zip(config.names(), config.stages, strict=True):
        try:
            student = _tried(stage, student, task, split)
        except ValueError as error:
            raise ValueError(f"stage {name}: {error}{_advice(stage, task)}") from error
        split = split or isinstance(stage, Factorize)


def _tried(stage: Any, student: Student, task: Task, split: bool) -> Student:
    where = getattr(stage, "where", None)
    if where is not None and not split:
        trees.mask(student.variables.params, where)
    return cut(stage, student, task) if isinstance(stage, Shrink) else student


def _advice(stage: Any, task: Task) -> str:
    if not isinstance(stage, Shrink) or task.rebuild is not None:
        return ""
    return " A Flax Linen model fixes its widths: give the task a `rebuild`."
