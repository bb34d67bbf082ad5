"""What the demo exports, measures and says at the end."""

import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxkd import compress, deploy, report, trees
from jaxkd.models import Model, Variables
from jaxkd.recipes._digits import ABOUT, Digits
from jaxkd.recipes._exports import Exportable, intact_artefact, write_card
from jaxkd.recipes._result import Result

_BATCH = 250
# The models that are exported, and the folders they are exported to. Both students
# trained alone have the distilled one's architecture, so its size and its speed.
_EXPORTED = {
    "teacher": "teacher",
    "distilled": "student-distilled",
    "pruned": "student-pruned",
    "int8": "student",
}


class Seed(NamedTuple):
    """The models of one seed.

    Attributes:
        variables: by name; those of ``int8`` are quantized.
        scores: what each scored on the test split.
    """

    variables: dict[str, Variables]
    scores: dict[str, dict[str, float]]


def finish(
    folder: pathlib.Path,
    config: Mapping[str, Any],
    digits: Digits,
    student: Model,
    teacher: Model,
    seeds: Sequence[Seed],
) -> Result:
    """Exports the models of the first seed, measures all, and writes the report.

    Args:
        folder: the run's folder.
        config: the settings by name, for the model cards; ``labels`` among them.
        digits: the dataset; models are timed on test images.
        student: the student.
        teacher: the teacher.
        seeds: what was trained.

    Returns:
        The rows of the table, and the result in words.
    """
    images, labels = digits.test["image"][:_BATCH], int(config["labels"])
    artefacts = _export(
        folder / "exported", seeds[0].variables, student, teacher, images
    )
    latency = report.measure_latency(
        {n: lambda a=a: a.predict({"image": images}) for n, a in artefacts.items()}
    )
    rows = make_rows(seeds, artefacts, latency, labels)
    words = explain(rows, labels, len(digits.train["label"]), len(digits.test["label"]))
    measured = {n: _measurement(a, latency[n]) for n, a in artefacts.items()}
    for name, artefact in artefacts.items():
        found = Exportable(
            student,
            seeds[0].variables[name],
            seeds[0].variables["teacher"],
            {"recipe": "demo", "model": name, **config},
            digits.train,
            digits.test,
            ("image",),
            ABOUT,
        )
        place = folder / "exported" / _EXPORTED[name]
        write_card(place, artefact, artefacts["teacher"], found, measured[name])
    np.save(folder / "digits.npy", digits.test["image"][:10])
    about = (
        "Each ratio is to the teacher. Times: medians of at most 30 calls, in turn, on "
        f"{jax.devices()[0].device_kind}, batch {_BATCH}; sizes are those of the "
        "exported folders, program and manifest included. Zeros take as much room as "
        "other numbers: pruning alone makes no file smaller."
    )
    picture = folder / "report.png"
    title = f"Handwritten digits, {labels} labels for the student"
    report.plot_accuracy_against_size(rows, picture, title=title)
    parts = [
        report.Part("", words, report.compare(rows)),
        report.Part("Accuracy against size", [about], picture=picture),
    ]
    report.write_report(folder, "jaxkd demo: handwritten digits", parts)
    report.write_result(folder, rows, words)
    return Result(rows, words)


def make_rows(
    seeds: Sequence[Seed],
    artefacts: Mapping[str, deploy.Artefact],
    latency: Mapping[str, float],
    labels: int,
) -> list[report.Row]:
    """The rows of the table.

    Args:
        seeds: what was trained.
        artefacts: the exported models by name.
        latency: seconds for a batch, by name.
        labels: how many labels the student saw.

    Returns:
        One row for each model, the teacher first.
    """
    titles = {
        "teacher": "teacher (all labels)",
        "alone-all-labels": "student alone, all labels",
        "alone-few-labels": f"student alone, {labels} labels",
        "distilled": f"distilled, {labels} labels",
        "pruned": "+ pruned",
        "int8": "+ int8, exported",
    }

    def row(name: str, title: str) -> report.Row:
        like = name if name in artefacts else "distilled"
        params = compress.dequantize(seeds[0].variables[name].params)
        zeros = trees.sparsity(params) * trees.count(params)
        return report.Row(
            name=title,
            accuracy=tuple(seed.scores[name]["accuracy"] for seed in seeds),
            agreement=tuple(seed.scores[name]["agreement"] for seed in seeds),
            parameters=trees.count(params),
            nonzeros=trees.count(params) - round(zeros),
            num_bytes=artefacts[like].num_bytes,
            latency=latency[like],
            throughput=_BATCH / latency[like],
        )

    return [row(name, title) for name, title in titles.items()]


def explain(
    rows: Sequence[report.Row], labels: int, train: int, test: int
) -> list[str]:
    """The result in plain words, whatever it is.

    Args:
        rows: of :func:`make_rows`.
        labels: how many labels the student saw.
        train: number of training images.
        test: number of test images.

    Returns:
        Paragraphs.
    """
    teacher, alone_all, alone_few, distilled, _, int8 = rows
    setting = (
        f"The teacher learned from all {train:,} labels. The student has {labels} "
        f"labels, and the teacher's soft targets on all {train:,} images, augmented. "
        f"Accuracy on {test} test images, {len(teacher.accuracy)} seeds, mean ± std."
    )
    compressed = (
        f"Pruning and int8 changed the accuracy by "
        f"{100 * (np.mean(int8.accuracy) - np.mean(distilled.accuracy)):+.2f} points; "
        f"the exported student takes {int8.num_bytes / 1000:.1f} kB, "
        f"{teacher.num_bytes / int8.num_bytes:.1f} times less than the teacher, and is "
        f"{teacher.latency / int8.latency:.1f} times faster."
    )
    few = f"the student alone with {labels} labels"
    return [
        setting,
        gain("Distillation", distilled, few, alone_few),
        gain("Distillation", distilled, "the student alone with all labels", alone_all),
        compressed,
    ]


def gain(what: str, row: report.Row, other_name: str, other: report.Row) -> str:
    """Says by how much one model beats another, seed by seed, or that it does not.

    Args:
        what: what made the difference.
        row: the model in question.
        other_name: what it is compared with.
        other: the model it is compared with.

    Returns:
        A sentence.
    """
    mean, spread = points_between(row, other)
    numbers = f"({mean:+.2f} ± {spread:.2f} points)"
    if mean <= 0:
        return f"{what} did not help, compared with {other_name} {numbers}."
    if mean <= spread:
        return f"{what} made no clear difference to {other_name} {numbers}."
    return f"{what} helped, compared with {other_name} {numbers}."


def points_between(row: report.Row, other: report.Row) -> tuple[float, float]:
    """By how many points of accuracy one model beats another, seed by seed.

    Args:
        row: the model in question.
        other: the model it is compared with.

    Returns:
        The mean and the sample standard deviation, 0 for one seed.
    """
    points = 100 * (np.asarray(row.accuracy) - np.asarray(other.accuracy))
    spread = float(points.std(ddof=1)) if len(points) > 1 else 0.0
    return float(points.mean()), spread


def _export(
    folder: pathlib.Path,
    variables: Mapping[str, Variables],
    student: Model,
    teacher: Model,
    images: np.ndarray,
) -> dict[str, deploy.Artefact]:
    """Writes the artefacts which are not there yet, and loads those that are."""
    for part in folder.glob(".export-*"):  # of an export that was killed
        shutil.rmtree(part)
    artefacts = {}
    for name, place in _EXPORTED.items():
        found = intact_artefact(folder / place)
        if found is None:
            model = teacher if name == "teacher" else student
            found = deploy.export(
                model,
                variables[name],
                {"image": images},
                folder / place,
                metadata={"recipe": "demo", "model": name},
            )
        artefacts[name] = found
    return artefacts


def _measurement(artefact: deploy.Artefact, seconds: float) -> deploy.Measurement:
    """What was measured here, in turn with the others."""
    manifest, cores = artefact.manifest, len(os.sched_getaffinity(0))
    return deploy.Measurement(
        manifest["kind"],
        manifest["kind"],
        manifest.get("numbers", ""),
        artefact.num_bytes,
        {_BATCH: seconds},
        {_BATCH: _BATCH / seconds},
        cores,
    )
