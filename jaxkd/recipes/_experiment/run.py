"""Running an experiment: every model for every seed, resumable at any moment."""

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from jaxkd import data, objectives, report, train
from jaxkd.models import Model, Variables
from jaxkd.recipes._demo import versions
from jaxkd.recipes._experiment.made import made_examples
from jaxkd.recipes._experiment.report import Trial, damaged_key, finish
from jaxkd.recipes._experiment.value import (
    Experiment,
    Training,
    Way,
    make_optimizer,
    slug,
)
from jaxkd.recipes._folder import lock_folder, open_folder
from jaxkd.recipes._result import Result
from jaxkd.recipes._settings import to_json
from jaxkd.recipes._stages import Runner, Stage, make_stage

_BATCH = 250


def run_experiment(
    name: str,
    experiment: Experiment,
    config: Training,
    folder: str | pathlib.Path,
    *,
    resume: bool = False,
    quiet: bool = False,
    loggers: Sequence[report.MakeLogger] = (),
) -> Result:
    """Trains the teacher and all students for every seed, and writes the report.

    Args:
        name: the recipe's, which stands in ``config.json``.
        experiment: what is compared.
        config: steps, seeds and so on.
        folder: where the run leaves ``config.json``, ``metrics.jsonl``, ``report.md``,
            ``report.html``, pictures, checkpoints and the exported models.
        resume: continue the run that is there; without it, the folder must not hold
            one.
        quiet: show no progress, only the result.
        loggers: what else gets every record, such as ``report.tensorboard``.

    Returns:
        The rows of the table, and the result in words.

    Raises:
        ValueError: if a way with no steps has nothing to start from.
        FolderError: if the folder holds another run, or cannot be written.
        ModuleNotFoundError: if the extra ``report`` is not installed.
    """
    for way, found in experiment.ways.items():
        if found.steps == 0 and found.start is None:
            raise ValueError(f"“{way}” has 0 steps, so it needs a `start`.")
    console = report.make_console(quiet=quiet)
    settings = {"recipe": name, **to_json(config)}
    folder = open_folder(folder, settings, versions(), resume=resume)
    with lock_folder(folder):
        records = report.open_records(folder, loggers)
        records.keep(lambda record: "step" in record)
        stages = _stages(experiment, config)
        trials = []
        for seed in range(config.seed, config.seed + config.seeds):
            runner = Runner(folder, seed, console, records, config.save_every)
            trials.append(_run_seed(experiment, config, stages, runner))
        return finish(name, folder, experiment, trials, records)


def _stages(experiment: Experiment, config: Training) -> dict[str, Stage]:
    """Compiled once for all seeds."""

    def stage(name: str, way: Way, steps: int) -> Stage:
        tx = make_optimizer(config, steps, teacher=name == "teacher")
        teacher = experiment.teacher if way.follows else None
        return make_stage(name, way.model, teacher, way.objective, tx, steps)

    objective = experiment.objective or objectives.hard_label()
    teacher = Way(experiment.teacher, objective)
    return {
        "teacher": stage("teacher", teacher, config.teacher_steps),
        **{
            name: stage(name, way, config.steps if way.steps is None else way.steps)
            for name, way in experiment.ways.items()
            if way.steps != 0
        },
    }


def _run_seed(
    experiment: Experiment,
    config: Training,
    stages: Mapping[str, Stage],
    runner: Runner,
) -> Trial:
    run = functools.partial(_train, experiment, config, stages, runner)
    teacher = experiment.variables
    own = (teacher, teacher) if teacher is not None else run("teacher", None, None)
    last, best = {"teacher": own[0]}, {"teacher": own[1]}
    for name, way in experiment.ways.items():
        last[name], best[name] = run(name, way, best["teacher"])
    scores = _score_all(experiment, last, best)
    for name, numbers in scores.items():
        runner.records.write({"seed": runner.seed, "stage": name, "test": numbers})
    return Trial(runner.seed, best, scores)


def _train(
    experiment: Experiment,
    config: Training,
    stages: Mapping[str, Stage],
    runner: Runner,
    name: str,
    way: Way | None,
    teacher: Variables | None,
) -> tuple[Any, Any]:
    """The last and the best variables of a way; without one, of the teacher."""
    start, transform = experiment.start, experiment.transform
    arrays = experiment.splits.train
    if way is not None:
        assert teacher is not None
        start = None if way.start is None else way.start(teacher)
        transform = way.transform
        if way.train is not None:
            arrays = made_examples(
                runner.folder, slug(name), way.train, teacher, runner.seed
            )
    if name not in stages:
        return start, start
    stage = stages[name]
    measure = functools.partial(
        _measure, experiment, stage.student, experiment.splits.validation
    )
    return runner.run_measured(
        stage,
        arrays,
        batch_size=config.batch_size,
        transform=transform,
        variables=start,
        teacher=None if stage.teacher is None else teacher,
        measure=measure,
    )


def _measure(
    experiment: Experiment,
    model: Model,
    arrays: data.Arrays,
    variables: Variables,
    teacher: Variables | None = None,
) -> dict[str, float]:
    if experiment.measure is not None:
        return experiment.measure(model, variables, arrays)
    batches = data.eval_batches(arrays, batch_size=min(_BATCH, len(arrays["label"])))
    step = _eval_step(model, None if teacher is None else experiment.teacher)
    return train.evaluate(step, variables, batches, teacher=teacher)


def _score_all(
    experiment: Experiment, last: Mapping[str, Variables], best: Mapping[str, Variables]
) -> dict[str, dict[str, float]]:
    """Of each model: the best checkpoint's scores, and the last one's accuracy."""
    test, teacher = experiment.splits.test, best["teacher"]
    scores = {}
    for name in best:
        model = experiment.teacher if name == "teacher" else experiment.ways[name].model
        measure = functools.partial(_measure, experiment, model)
        scores[name] = measure(test, best[name], teacher)
        scores[name]["last_accuracy"] = measure(test, last[name])["accuracy"]
        for damage, arrays in experiment.damaged.items():
            found = measure(arrays, best[name])["accuracy"]
            scores[name][damaged_key(damage)] = found
    return scores


@functools.cache
def _eval_step(model: Model, teacher: Model | None) -> train.EvalStep:
    return jax.jit(train.make_eval_step(model, teacher))
