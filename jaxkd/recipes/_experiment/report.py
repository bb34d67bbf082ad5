"""What an experiment exports, measures, draws and says at the end."""

import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxkd import data, deploy, report, trees
from jaxkd.models import Variables
from jaxkd.recipes._demo_report import points_between
from jaxkd.recipes._experiment.made import draw_made
from jaxkd.recipes._experiment.value import Experiment
from jaxkd.recipes._exports import intact_artefact
from jaxkd.recipes._result import Result

_BATCH = 250
_SHOWN = 10
_Row = tuple[str, ...]


class Trial(NamedTuple):
    """The models of one seed.

    Attributes:
        seed: the seed.
        variables: those of the best checkpoints, by name, the teacher first.
        scores: what each scored on the test part.
    """

    seed: int
    variables: dict[str, Variables]
    scores: dict[str, dict[str, float]]


def finish(
    name: str,
    folder: pathlib.Path,
    experiment: Experiment,
    trials: Sequence[Trial],
    records: report.JsonLines,
) -> Result:
    """Exports the models of the first seed, measures all, and writes the report.

    Args:
        name: the recipe's.
        folder: the run's folder.
        experiment: what was compared.
        trials: what came out, seed by seed.
        records: the run's ``metrics.jsonl``.

    Returns:
        The rows of the table, and the result in words.
    """
    artefacts = _export(folder / "exported", name, experiment, trials[0])
    rows = _rows(experiment, artefacts, trials)
    words = _explain(experiment, rows, trials)
    parts = [
        report.Part("", words, report.compare(rows)),
        *_other_tables(experiment, trials),
        *_pictures(folder, experiment, rows, artefacts, records, trials),
    ]
    title = f"jaxkd {name}"
    report.write_page(folder / "report.html", title, parts)
    text = [f"# {title}", *words, report.markdown_table(rows), _about_times(experiment)]
    text += [f"![{p.title}]({p.picture.name})" for p in parts if p.picture is not None]
    report.write_atomically(folder / "report.md", "\n\n".join(text) + "\n")
    report.write_result(folder, rows, words)
    return Result(rows, words)


_ABOUT_BEST = (
    "On the test part, of the last update and of the checkpoint that was best on the "
    "validation part; the table above shows the latter."
)
_ABOUT_DAMAGE = "The test part, damaged in each of these ways: {quality} in per cent."
_KNOWN = ("accuracy", "agreement", "last_accuracy", "cross_entropy", "teacher_kl")
_DAMAGED = "damaged: "


def damaged_key(damage: str) -> str:
    """Under which name the accuracy on damaged examples stands in a trial's scores.

    Args:
        damage: the name of the damage.

    Returns:
        The key.
    """
    return _DAMAGED + damage


def _about_times(experiment: Experiment) -> str:
    length = min(_BATCH, _size(experiment.splits.test))
    return (
        "Each ratio is to the teacher. Times are medians of 30 calls, in turn, on "
        f"{jax.devices()[0].device_kind}, batch {length}; sizes are those of the "
        "exported folders, program and manifest included."
    )


def _inputs(experiment: Experiment, length: int) -> dict[str, np.ndarray]:
    test = experiment.splits.test
    return {name: np.asarray(test[name][:length]) for name in experiment.inputs}


def _export(
    folder: pathlib.Path, recipe: str, experiment: Experiment, trial: Trial
) -> dict[str, deploy.Artefact]:
    """Writes the artefacts which are not there yet, and loads those that are."""
    artefacts = {}
    for name, variables in trial.variables.items():
        place = folder / slug(name)
        found = intact_artefact(place)
        if found is None:
            teacher = name == "teacher"
            model = experiment.teacher if teacher else experiment.ways[name].model
            found = deploy.export(
                model,
                variables,
                _inputs(experiment, _BATCH),
                place,
                metadata={"recipe": recipe, "model": name},
            )
        artefacts[name] = found
    return artefacts


def slug(name: str) -> str:
    """A model's name as that of its folder.

    Args:
        name: ``"student 16, alone"``.

    Returns:
        ``"student-16-alone"``.
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _rows(
    experiment: Experiment,
    artefacts: Mapping[str, deploy.Artefact],
    trials: Sequence[Trial],
) -> list[report.Row]:
    inputs = _inputs(experiment, _BATCH)
    length = len(next(iter(inputs.values())))
    calls: dict[str, Callable[[], Any]] = {
        name: lambda a=artefact: a.predict(inputs)
        for name, artefact in artefacts.items()
    }
    latency = report.measure_latency(calls)

    def row(name: str) -> report.Row:
        params = trials[0].variables[name].params
        count = trees.count(params)
        return report.Row(
            name=name,
            accuracy=tuple(trial.scores[name]["accuracy"] for trial in trials),
            agreement=tuple(
                trial.scores[name]["agreement"]
                for trial in trials
                if "agreement" in trial.scores[name]
            ),
            parameters=count,
            nonzeros=count - round(trees.sparsity(params) * count),
            num_bytes=artefacts[name].num_bytes,
            latency=latency[name],
            throughput=length / latency[name],
            quality=experiment.quality,
        )

    return [row(name) for name in artefacts]


def _explain(
    experiment: Experiment, rows: Sequence[report.Row], trials: Sequence[Trial]
) -> list[str]:
    splits, named = experiment.splits, {row.name: row for row in rows}
    many = len(trials) > 1
    seeds = f"{len(trials)} seeds, mean ± std" if many else "one seed"
    words = [
        f"{splits.about} {_size(splits.train):,} training examples, "
        f"{_size(splits.validation):,} for validation; {experiment.quality} on "
        f"{_size(splits.test):,} test examples, {seeds}."
    ]
    for name, way in experiment.ways.items():
        if way.beside:
            words.append(_difference(named[name], named[way.beside]))
    return words


def _difference(row: report.Row, other: report.Row) -> str:
    mean, spread = points_between(row, other)
    if len(row.accuracy) == 1:  # no spread, so no verdict
        between = f"“{row.name}” is {mean:+.2f} points from “{other.name}”"
        return f"{between}, of one seed: that may be chance."
    numbers = f"({mean:+.2f} ± {spread:.2f} points)"
    verdict = "better" if mean > 0 else "worse"
    if abs(mean) <= spread or mean == 0:
        verdict = "neither clearly better nor worse"
    return f"“{row.name}” is {verdict} than “{other.name}” {numbers}."


def _other_tables(experiment: Experiment, trials: Sequence[Trial]) -> list[report.Part]:
    names, found = list(trials[0].scores), trials[0].scores["teacher"]
    damages = [key for key in found if key.startswith(_DAMAGED)]
    others = [key for key in found if key not in (*_KNOWN, *damages)]

    def table(keys: Sequence[str], titles: Sequence[str]) -> list[_Row]:
        cells = (
            report.mean_and_std([trial.scores[name][key] for trial in trials])
            for name in names
            for key in keys
        )
        lines = zip(*[cells] * len(keys), strict=True)
        rows = ((n, *line) for n, line in zip(names, lines, strict=True))
        return [("model", *titles), *rows]

    titles = ("last %", "best %")
    best = table(("last_accuracy", "accuracy"), titles)
    if "cross_entropy" in found:
        entropies = (_mean(trials, name, "cross_entropy") for name in names)
        header = ("cross-entropy of the best, nats",)
        added = [header, *((f"{x:.4f}",) for x in entropies)]
        best = [(*line, *more) for line, more in zip(best, added, strict=True)]
    parts = [report.Part("Last and best", [_ABOUT_BEST], best)]
    if damages:
        words = _ABOUT_DAMAGE.format(quality=experiment.quality)
        kinds = [key.removeprefix(_DAMAGED) for key in damages]
        clean = table(("accuracy", *damages), ("as they are", *kinds))
        parts.append(report.Part("On damaged examples", [words], clean))
    if others:
        shown = table(others, [f"{key} %" for key in others])
        parts.append(report.Part("Other measures", ["On the test part."], shown))
    return parts


def _size(arrays: data.Arrays) -> int:
    return len(next(iter(arrays.values())))


def _mean(trials: Sequence[Trial], name: str, key: str) -> float:
    return float(np.mean([trial.scores[name][key] for trial in trials]))


def _answers(artefact: deploy.Artefact, experiment: Experiment) -> np.ndarray:
    """Logits for all test examples."""
    test = experiment.splits.test
    length = len(test["label"])
    return np.concatenate(
        [
            np.asarray(
                artefact.predict(
                    {
                        name: np.asarray(test[name][start : start + _BATCH])
                        for name in experiment.inputs
                    }
                )
            )
            for start in range(0, length, _BATCH)
        ]
    )


def _pictures(
    folder: pathlib.Path,
    experiment: Experiment,
    rows: Sequence[report.Row],
    artefacts: Mapping[str, deploy.Artefact],
    records: report.JsonLines,
    trials: Sequence[Trial],
) -> list[report.Part]:
    """Draws all; of several seeds, answers are those of the first."""
    parts = []

    def add(title: str, name: str, draw: Callable[..., None], *words: str) -> None:
        draw(folder / name, title=title)
        parts.append(report.Part(title, words, picture=folder / name))

    add(
        f"{experiment.quality.capitalize()} against size",
        "report.png",
        lambda file, title: report.plot_accuracy_against_size(rows, file, title=title),
        _about_times(experiment),
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
            parts += draw_made(folder, name, slug(name), trials[0].seed)
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
