"""What an experiment exports, measures, draws and says at the end."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxkd import data, deploy, report, trees
from jaxkd.models import Variables
from jaxkd.recipes._demo_report import points_between
from jaxkd.recipes._experiment.pictures import BATCH, draw_pictures
from jaxkd.recipes._experiment.value import Experiment, slug
from jaxkd.recipes._exports import intact_artefact
from jaxkd.recipes._result import Result

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
    words, times = _explain(experiment, rows, trials), _about_times(experiment)
    parts = [
        report.Part("", words, report.compare(rows)),
        *_other_tables(experiment, trials),
        *draw_pictures(
            folder, experiment, rows, artefacts, records, trials[0].seed, times
        ),
    ]
    title = f"jaxkd {name}"
    report.write_report(folder, title, parts)
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
    length = min(BATCH, _size(experiment.splits.test))
    return (
        "Each ratio is to the teacher. Times: medians of at most 30 calls, in turn, on "
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
                _inputs(experiment, BATCH),
                place,
                metadata={"recipe": recipe, "model": name},
            )
        artefacts[name] = found
    return artefacts


def _rows(
    experiment: Experiment,
    artefacts: Mapping[str, deploy.Artefact],
    trials: Sequence[Trial],
) -> list[report.Row]:
    inputs = _inputs(experiment, BATCH)
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
