"""What a report of an experiment shows in pictures."""

import pathlib
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from jaxkd import deploy, report
from jaxkd.recipes._experiment.made import draw_made
from jaxkd.recipes._experiment.value import Experiment, slug

#: Examples that an artefact is given at once.
BATCH = 250
_SHOWN = 10
_Row = tuple[str, ...]


def draw_pictures(
    folder: pathlib.Path,
    experiment: Experiment,
    rows: Sequence[report.Row],
    artefacts: Mapping[str, deploy.Artefact],
    records: report.JsonLines,
    seed: int,
    times: str,
) -> list[report.Part]:
    """Draws all; of several seeds, answers are those of the first.

    Args:
        folder: the run's.
        experiment: what was compared.
        rows: of the table.
        artefacts: the exported models by name, the teacher first.
        records: the run's ``metrics.jsonl``.
        seed: the first.
        times: how times were measured.

    Returns:
        Parts of the report.
    """
    parts = []

    def add(title: str, name: str, draw: Callable[..., None], *words: str) -> None:
        draw(folder / name, title=title)
        parts.append(report.Part(title, words, picture=folder / name))

    add(
        f"{experiment.quality.capitalize()} against size",
        "report.png",
        lambda file, title: report.plot_accuracy_against_size(rows, file, title=title),
        times,
    )
    curves = _curves(records, list(artefacts))
    ylabel = f"{experiment.quality} on the validation split [%]"
    add(
        "How they learned",
        "curves.png",
        lambda file, title: report.plot_learning_curves(
            curves, file, title=title, ylabel=ylabel
        ),
    )
    for name, way in experiment.ways.items():
        if way.train is not None:
            parts += draw_made(folder, name, slug(name), seed)
    if experiment.measure is not None:
        return parts
    labels = np.asarray(experiment.splits.test["label"])
    answers = {
        model: _answers(artefact, experiment) for model, artefact in artefacts.items()
    }
    quality = {name: deploy.score(found, labels) for name, found in answers.items()}
    errors = (f"{n} {q.calibration_error:.3f}" for n, q in quality.items())
    add(
        "How sure they are",
        "reliability.png",
        lambda file, title: report.plot_reliability(answers, labels, file, title=title),
        f"Expected calibration error (15 bins): {', '.join(errors)}.",
    )
    changes = _changes(quality)
    add(
        "Accuracy of each class, compared with the teacher's",
        "classes.png",
        lambda file, title: report.plot_class_changes(
            changes, experiment.splits.classes, file, title=title
        ),
    )
    if np.ndim(experiment.splits.test.get("image", 0)) == 4 or experiment.texts:
        parts.append(_differences(folder, experiment, answers))
    return parts


def _answers(artefact: deploy.Artefact, experiment: Experiment) -> np.ndarray:
    """Logits for all test examples."""
    test = experiment.splits.test
    length = len(test["label"])
    return np.concatenate(
        [
            np.asarray(
                artefact.predict(
                    {
                        name: np.asarray(test[name][start : start + BATCH])
                        for name in experiment.inputs
                    }
                )
            )
            for start in range(0, length, BATCH)
        ]
    )


def _curves(
    records: report.JsonLines, names: Sequence[str]
) -> dict[str, list[tuple[int, float]]]:
    found = [r for r in records.read() if "validation_accuracy" in r]
    curves = {
        name: [
            (r["step"], 100 * r["validation_accuracy"])
            for r in found
            if r["stage"] == name
        ]
        for name in names
    }
    return {name: points for name, points in curves.items() if points}


def _changes(quality: Mapping[str, deploy.Quality]) -> dict[str, list[float]]:
    teacher = np.asarray(quality["teacher"].class_accuracy)
    return {
        name: (100 * (np.asarray(found.class_accuracy) - teacher)).tolist()
        for name, found in quality.items()
        if name != "teacher"
    }


def _differences(
    folder: pathlib.Path, experiment: Experiment, answers: Mapping[str, np.ndarray]
) -> report.Part:
    """The examples on which the last student is farthest from the teacher."""
    name = list(answers)[-1]
    teacher, student = (
        np.asarray(jax.nn.log_softmax(answers[of])) for of in ("teacher", name)
    )
    divergence = np.sum(np.exp(teacher) * (teacher - student), axis=-1)
    most = np.argsort(-divergence, kind="stable")[:_SHOWN]
    splits, title = experiment.splits, f"Where “{name}” differs most"
    words = "Divergence of the student's distribution from the teacher's, in nats."
    rows: list[_Row] = [
        (
            splits.classes[splits.test["label"][i]],
            splits.classes[teacher[i].argmax()],
            splits.classes[student[i].argmax()],
            f"{divergence[i]:.2f}",
        )
        for i in most
    ]
    if experiment.texts:
        header = ("text", "is", "teacher", "student", "nats")
        lines = [
            (experiment.texts[int(i)], *row) for i, row in zip(most, rows, strict=True)
        ]
        return report.Part(title, [words], [header, *lines])
    captions = [
        f"is {is_a}\nteacher {one}, student {other}\n{nats} nats"
        for is_a, one, other, nats in rows
    ]
    file = folder / "differences.png"
    report.plot_images(splits.test["image"][most], captions, file, title=title)
    return report.Part(title, [words], picture=file)
