"""What a compression keeps of each stage: the student, and what was measured."""

import json
import pathlib
from typing import Any, NamedTuple

import jax

from jaxkd import compress, data, report, train, trees
from jaxkd.models import Model, Variables
from jaxkd.recipes._compression.student import Student, Task, restore_structure, running
from jaxkd.recipes._folder import FolderError

_STUDENT, _RECORD = "student.jkd", "stage.json"
BATCH = 250


class FloorError(RuntimeError):
    """An accuracy below the floor, and which stage brought it there."""


class Done(NamedTuple):
    """A finished stage.

    Attributes:
        name: the stage's name.
        student: the student after it.
        scores: accuracy, agreement and so on, on the test examples.
        num_bytes: size of its file.
        latency: seconds for a batch, when the stage had ended.
        artefacts: of an export, ``{folder: scores}``.
    """

    name: str
    student: Student
    scores: dict[str, float]
    num_bytes: int
    latency: float
    artefacts: dict[str, dict[str, float]]

    def __str__(self) -> str:
        return (
            f"{self.name:<28} {self.scores['accuracy']:7.2%} accuracy   "
            f"{self.num_bytes / 1000:9.1f} kB   {1000 * self.latency:8.2f} ms"
        )


def scores_of(task: Task, model: Model, variables: Variables) -> dict[str, float]:
    """Measures a model on the test examples.

    Args:
        task: the examples and the teacher.
        model: the model.
        variables: its variables, compressed or not.

    Returns:
        Accuracy, cross-entropy, agreement and divergence from the teacher.
    """
    step = jax.jit(train.make_eval_step(model, task.teacher))
    batches = data.eval_batches(task.test, batch_size=BATCH)
    plain = variables._replace(params=compress.dequantize(variables.params))
    return train.evaluate(step, plain, batches, teacher=task.variables)


def make_call(task: Task, model: Model, variables: Variables) -> Any:
    """A function without arguments which runs one batch.

    Args:
        task: the examples.
        model: the model.
        variables: its variables, compressed or not.

    Returns:
        The function, compiled at its first call.
    """
    params, state = jax.device_put(
        (compress.dequantize(variables.params), variables.state)
    )
    batch = jax.device_put({name: task.test[name][:BATCH] for name in task.inputs})
    run = jax.jit(lambda params, state, batch: model.apply(params, state, batch).logits)
    return lambda: run(params, state, batch)


def check_floor(name: str, accuracy: float, floor: float, folder: pathlib.Path) -> None:
    """Raises if a stage leaves too little accuracy.

    Args:
        name: the stage.
        accuracy: what it leaves.
        floor: what it must leave.
        folder: the run's.

    Raises:
        FloorError: if it does.
    """
    if not accuracy >= floor:
        raise FloorError(
            f"stage {name} brought the accuracy to {accuracy:.2%}, below the floor of "
            f"{floor:.2%}; the stages before it are kept in {folder}."
        )


def check_same_task(folder: pathlib.Path, task: Task) -> None:
    """Notes which teacher and data a run has, or raises if it has had others.

    Args:
        folder: the run's.
        task: the teacher and the data.

    Raises:
        FolderError: if the run began with others.
    """
    file = folder / "stages" / "task.json"
    now = {
        "teacher": trees.digest(task.variables),
        "train": trees.digest(dict(task.train)),
        "test": trees.digest(dict(task.test)),
    }
    if not file.exists():
        file.parent.mkdir(exist_ok=True)
        report.write_atomically(file, json.dumps(now, indent=2) + "\n")
    was = _read(file)
    for name, digest in now.items():
        if was.get(name) != digest:
            raise FolderError(
                f"{folder} holds a run with another {name}; choose another --out."
            )


def finish_stage(
    folder: pathlib.Path,
    name: str,
    student: Student,
    task: Task,
    floor: float,
    artefacts: dict[str, dict[str, float]] | None = None,
) -> Done:
    """Measures what a stage made, and keeps it.

    Args:
        folder: the run's.
        name: the stage.
        student: the student after it.
        task: teacher and examples.
        floor: the least accuracy.
        artefacts: what it exported, ``{folder: scores}``.

    Returns:
        The finished stage.

    Raises:
        FloorError: if the accuracy is less.
    """
    model = running(student)
    scores = scores_of(task, model, student.variables)
    check_floor(name, scores["accuracy"], floor, folder)
    place = folder / "stages" / name
    place.mkdir(parents=True, exist_ok=True)
    file = place / _STUDENT
    size = compress.save_tree(student.variables._asdict(), file).num_bytes
    call = make_call(task, model, student.variables)
    latency = report.measure_latency({name: call}, rounds=10)[name]
    found = Done(name, student, scores, size, latency, artefacts or {})
    _keep(place, found)
    return found


def _keep(place: pathlib.Path, found: Done) -> None:
    student = found.student
    kept = {
        "scores": found.scores,
        "num_bytes": found.num_bytes,
        "latency": found.latency,
        "artefacts": found.artefacts,
        "widths": student.widths,
        "pruned": student.pruned,
        "factored": student.factored,
    }
    report.write_atomically(place / _RECORD, json.dumps(kept, indent=2) + "\n")


def load_stage(
    folder: pathlib.Path, name: str, before: Student, task: Task
) -> Done | None:
    """Reads a stage that was finished before.

    Args:
        folder: the run's.
        name: the stage.
        before: the student in front of it.
        task: how to build a smaller model.

    Returns:
        The stage, or ``None`` if it was not finished.

    Raises:
        FolderError: if what it kept is damaged.
    """
    place = folder / "stages" / name
    if not (place / _RECORD).exists():
        return None
    kept = _read(place / _RECORD)
    try:
        saved = compress.load_tree(place / _STUDENT)
        widths: dict[str, int] | None = kept["widths"]
        model = before.model
        if task.rebuild is not None and widths is not None:
            model = task.rebuild(widths)
        variables = Variables(
            restore_structure(before.variables.params, saved["params"]),
            restore_structure(before.variables.state, saved.get("state", {})),
        )
        student = Student(
            model,
            variables,
            widths,
            tuple(kept["pruned"]),
            kept["factored"],
        )
        return Done(
            name,
            student,
            kept["scores"],
            kept["num_bytes"],
            kept["latency"],
            kept["artefacts"],
        )
    except (compress.CodingError, FileNotFoundError, KeyError, TypeError) as error:
        raise FolderError(f"{place} is damaged: {error}") from error


def _read(file: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise FolderError(f"{file} is damaged: {error}.") from error
