"""The end of a compression: one table and one plot."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax

from jaxkd import compress, deploy, report, trees
from jaxkd.models import Model, Variables
from jaxkd.recipes._compression.folder import BATCH, Done, make_call
from jaxkd.recipes._compression.student import Student, Task, running


class CompressResult(NamedTuple):
    """What came out.

    Attributes:
        rows: the rows of the table, the teacher first.
        model: the student.
        variables: its variables; quantized arrays, palettes and factors among them.
    """

    rows: list[report.Row]
    model: Model
    variables: Variables


def finish_report(
    folder: pathlib.Path, task: Task, scores: Mapping[str, float], done: Sequence[Done]
) -> CompressResult:
    """Times all models in turn, and writes the table and the plot.

    Args:
        folder: the run's.
        task: teacher and examples.
        scores: the teacher's.
        done: the finished stages.

    Returns:
        The rows, and the last student.
    """
    rows = _rows(folder, task, scores, done)
    length = min(BATCH, len(task.test["label"]))
    about = (
        "Each ratio is to the teacher. Times: medians of at most 30 calls, in turn, on "
        f"{jax.devices()[0].device_kind}, batch {length}. The size of a stage is that "
        "of its file, stages/NAME/student.jkd, whose program computes in floats; the "
        "size of an export is that of its folder, program and manifest included."
    )
    title, picture = "Compression, stage by stage", folder / "report.png"
    report.plot_accuracy_against_size(rows, picture, title=title)
    parts = [
        report.Part("", table=report.compare(rows)),
        report.Part("Accuracy against size", [about], picture=picture),
    ]
    report.write_report(folder, "jaxkd compress", parts)
    report.write_result(folder, rows, [])
    last = done[-1].student if done else Student(task.teacher, task.variables)
    return CompressResult(rows, running(last), last.variables)


def _rows(
    folder: pathlib.Path, task: Task, scores: Mapping[str, float], done: Sequence[Done]
) -> list[report.Row]:
    calls = {"teacher": make_call(task, task.teacher, task.variables)}
    entries = {"teacher": (scores, _teacher_bytes(folder, task), task.variables)}
    batch = {name: task.test[name][:BATCH] for name in task.inputs}
    for stage in done:
        variables = stage.student.variables
        if not stage.artefacts:
            calls[stage.name] = make_call(task, running(stage.student), variables)
            entries[stage.name] = (stage.scores, stage.num_bytes, variables)
        for name, found in stage.artefacts.items():
            artefact = deploy.load(folder / "exported" / name)
            calls[name] = lambda artefact=artefact: artefact.predict(batch)
            entries[name] = (found, artefact.num_bytes, variables)
    latency = report.measure_latency(calls)
    length = min(BATCH, len(task.test["label"]))
    return [
        _row(name, *entry, latency[name], length) for name, entry in entries.items()
    ]


def _teacher_bytes(folder: pathlib.Path, task: Task) -> int:
    """Of its variables in a file like the stages'."""
    file = folder / "stages" / ".teacher-size"
    try:
        return compress.save_tree(task.variables._asdict(), file).num_bytes
    finally:
        file.unlink(missing_ok=True)


def _row(
    name: str,
    scores: Mapping[str, float],
    num_bytes: int,
    variables: Variables,
    latency: float,
    length: int,
) -> report.Row:
    params = compress.dequantize(variables.params)
    zeros = trees.sparsity(params) * trees.count(params)
    return report.Row(
        name=name,
        accuracy=(scores["accuracy"],),
        agreement=(scores["agreement"],),
        parameters=trees.count(params),
        nonzeros=trees.count(params) - round(zeros),
        num_bytes=num_bytes,
        latency=latency,
        throughput=length / latency,
    )
