"""Searching for settings: Optuna asks, a recipe answers with its accuracy."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxkd import report
from jaxkd._extras import require
from jaxkd.recipes._catalogue import RECIPES, find_recipe
from jaxkd.recipes._experiment.value import Training
from jaxkd.recipes._folder import lock_folder, open_folder
from jaxkd.recipes._settings import from_json, to_json

_KEY = "validation_accuracy"


class Range(NamedTuple):
    """Where a setting is looked for.

    Attributes:
        low: the least value.
        high: the largest.
        log: whether to draw its logarithm.
        choices: the values to choose from, instead of a range.
    """

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: tuple[Any, ...] = ()


class TuneResult(NamedTuple):
    """What was found.

    Attributes:
        settings: the best trial's, of those that were looked for.
        accuracy: its validation accuracy, in ``[0, 1]``.
        trials: how many were finished, stopped early or failed: ``{state: number}``.
        folder: that of the best trial's run.
    """

    settings: dict[str, Any]
    accuracy: float
    trials: dict[str, int]
    folder: pathlib.Path


def read_range(words: str) -> tuple[str, Range]:
    """A range from the words of a command line.

    Args:
        words: ``NAME=LOW:HIGH``, ``NAME=LOW:HIGH:log``, or ``NAME=A,B,C``.

    Returns:
        The setting's name, and the range.

    Raises:
        ValueError: if it is none of these.

    Examples:
        >>> from jaxkd import recipes
        >>> recipes.read_range("learning_rate=1e-4:1e-2:log")
        ('learning_rate', Range(low=0.0001, high=0.01, log=True, choices=()))
        >>> recipes.read_range("network=mlp,cnn")[1].choices
        ('mlp', 'cnn')
    """
    name, equals, text = words.partition("=")
    wrong = ValueError(
        f"a range is NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,C; got {words!r}."
    )
    if not (name and equals and text):
        raise wrong
    if ":" not in text:
        return name, Range(choices=tuple(_value(word) for word in text.split(",")))
    low, high, *log = text.split(":")
    try:
        found = Range(float(low), float(high), bool(log))
    except ValueError:
        raise wrong from None
    if log not in ([], ["log"]) or not found.low < found.high:
        raise wrong
    if found.log and found.low <= 0:
        raise ValueError(f"{words!r}: there is no logarithm of {found.low}.")
    return name, found


def tune(
    name: str,
    space: Mapping[str, Range],
    folder: str | pathlib.Path,
    *,
    trials: int = 20,
    settings: Mapping[str, Any] | None = None,
    quiet: bool = False,
) -> TuneResult:
    """Looks for settings by which a recipe's last model is best on validation data.

    Trials that fall behind the median of those before are stopped early. A search that
    was killed goes on when it is called again: finished trials count.

    Args:
        name: a recipe that records validation accuracies, such as ``"mnist"``.
        space: where to look, by the setting's name.
        folder: where each trial's run goes, and ``report.md``, ``report.html``,
            ``importances.png`` and ``best.json``, a config for ``jaxkd run``.
        trials: how many, those done before included.
        settings: of all trials; what is not named has its default.
        quiet: show no progress.

    Returns:
        A :class:`TuneResult`.

    Raises:
        ValueError: if a setting is unknown or its range does not fit, or the recipe
            records no validation accuracy.
        TypeError: likewise.
        FolderError: if the folder holds something else, or another search.
        ModuleNotFoundError: if the extra ``tune`` is not installed.

    References:
        Akiba et al., `Optuna: a next-generation hyperparameter optimization framework
        <https://arxiv.org/abs/1907.10902>`_, 2019.
    """
    optuna = require("optuna", "tune", "tuning")
    recipe, fixed = find_recipe(name), dict(settings or {})
    if not issubclass(recipe.config, Training):
        able = [n for n, r in RECIPES.items() if issubclass(r.config, Training)]
        raise ValueError(
            f"{name!r} records no validation accuracy; these do: {', '.join(able)}."
        )
    base = to_json(from_json(recipe.config, fixed))
    if not space or trials < 1:
        raise ValueError("there is nothing to look for: give ranges, and some trials.")
    for edge in (0, -1):  # what does not fit is found before anything is written
        from_json(recipe.config, {**base, **_at(space, base, edge)})
    record = {"recipe": f"tune {name}", "settings": base, "space": _plain(space)}
    folder = open_folder(folder, record, {}, resume=True)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with lock_folder(folder):
        study = optuna.create_study(
            storage=f"sqlite:///{folder.resolve()}/study.db",
            study_name=name,
            load_if_exists=True,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
            sampler=optuna.samplers.TPESampler(seed=base.get("seed", 0)),
        )
        console = report.make_console(quiet=quiet)

        def run(trial: Any) -> float:
            own = {k: _suggest(trial, k, r, base) for k, r in space.items()}
            config = from_json(recipe.config, {**base, **own})
            watch = _Watch(trial, optuna.TrialPruned)
            place = folder / f"trial-{trial.number:04d}"
            recipe.run(config, place, quiet=True, loggers=[lambda folder: watch])
            console.print(f"trial {trial.number}: {watch.value():.2%} with {own}")
            return watch.value()

        done = [t for t in study.trials if t.state.is_finished()]
        study.optimize(run, n_trials=max(0, trials - len(done)))
        return _finish(name, folder, study, base, optuna)


class _Watch:
    """Gets a run's records: tells the trial how its last model does."""

    def __init__(self, trial: Any, pruned: type[Exception]) -> None:
        self._trial, self._pruned, self._seen = trial, pruned, 0
        self._best: dict[str, dict[int, float]] = {}

    def write(self, record: Mapping[str, Any]) -> None:
        if _KEY not in record:
            return
        own = self._best.setdefault(record["stage"], {})
        seed = record["seed"]
        own[seed] = max(own.get(seed, 0.0), record[_KEY])
        self._seen += 1
        self._trial.report(record[_KEY], self._seen)
        if self._trial.should_prune():
            raise self._pruned

    def value(self) -> float:
        """The mean over the seeds of the last model's best accuracy."""
        return float(np.mean(list(list(self._best.values())[-1].values())))


def _suggest(trial: Any, name: str, found: Range, base: Mapping[str, Any]) -> Any:
    if found.choices:
        return trial.suggest_categorical(name, list(found.choices))
    if isinstance(base[name], int):
        low, high = int(found.low), int(found.high)
        return trial.suggest_int(name, low, high, log=found.log)
    return trial.suggest_float(name, found.low, found.high, log=found.log)


def _at(
    space: Mapping[str, Range], base: Mapping[str, Any], edge: int
) -> dict[str, Any]:
    """The settings at one end of all ranges."""
    settings: dict[str, Any] = {}
    for name, found in space.items():
        ends = found.choices or (found.low, found.high)
        value = ends[edge]
        if not found.choices and isinstance(base.get(name), int):
            value = int(value)
        settings[name] = value
    return settings


def _plain(space: Mapping[str, Range]) -> dict[str, Any]:
    return {k: {**r._asdict(), "choices": list(r.choices)} for k, r in space.items()}


def _finish(
    name: str, folder: pathlib.Path, study: Any, base: Mapping[str, Any], optuna: Any
) -> TuneResult:
    states: dict[str, int] = {}
    for trial in study.trials:
        state = trial.state.name.lower()
        states[state] = states.get(state, 0) + 1
    complete = [t for t in study.trials if t.state.name == "COMPLETE"]
    if not complete:
        raise ValueError(f"no trial was finished: {states}.")
    best = study.best_trial
    text = json.dumps({**base, **best.params}, indent=2) + "\n"
    report.write_atomically(folder / "best.json", text)
    parts = [report.Part("Trials", table=_table(complete))]
    if len(complete) > 1 and len({t.value for t in complete}) > 1:
        found = optuna.importance.get_param_importances(study)
        picture = folder / "importances.png"
        report.plot_bars(
            {k: 100 * x for k, x in found.items()},
            picture,
            title=f"What the validation accuracy depends on, {len(complete)} trials",
            xlabel="share of the variance that the setting explains [%]",
        )
        parts.append(report.Part("Importances", picture=picture))
    report.write_report(folder, f"jaxkd tune {name}", parts)
    place = folder / f"trial-{best.number:04d}"
    return TuneResult(dict(best.params), float(best.value), states, place)


def _table(trials: Sequence[Any]) -> list[list[str]]:
    names = list(trials[0].params)
    header = ["trial", *names, "validation accuracy %"]
    rows = [header]
    for trial in sorted(trials, key=lambda t: -t.value):
        cells = [_short(trial.params[name]) for name in names]
        rows.append([str(trial.number), *cells, f"{100 * trial.value:.2f}"])
    return rows


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
