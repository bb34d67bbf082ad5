"""The main job, end to end: distil, prune, quantize and export a real model.

A teacher is trained on all labels of scikit-learn's handwritten digits. The student
gets the labels of a few images only, and the teacher's soft targets on all of them: the
setting in which distillation pays. Two students trained alone stand beside it, one with
the same few labels, one with all.
"""

import dataclasses
import functools
import pathlib
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import flax
import jax
import numpy as np
import optax

from jaxkd import _checks, compress, data, models, objectives, report, train
from jaxkd._version import __version__
from jaxkd.models import Model, Variables
from jaxkd.recipes._demo_report import Seed, finish
from jaxkd.recipes._digits import (
    NUM_CLASSES,
    Digits,
    augment_digits,
    hide_labels,
    load_digits,
)
from jaxkd.recipes._folder import lock_folder, open_folder
from jaxkd.recipes._result import Result
from jaxkd.recipes._settings import check_counts
from jaxkd.recipes._stages import Runner, Stage, make_stage


@dataclasses.dataclass(frozen=True)
class DemoConfig:
    """All that determines a run of :func:`demo`.

    Temperature and weight were chosen on the validation split, see
    ``benchmarks/RESULTS.md``.

    Attributes:
        seed: the first seed.
        seeds: how many seeds; each trains its own teacher and students.
        steps: updates of each model; the fine-tuning while pruning takes half as many.
        labels: how many training labels the student may see, a multiple of ten.
        batch_size: examples in a batch.
        learning_rate: peak of the cosine schedule.
        temperature: of the soft targets.
        soft_weight: weight of the soft targets; hard labels have 1 minus it.
        sparsity: fraction of zeros in the kernels after pruning.
        teacher_widths: channels of the teacher's blocks.
        student_widths: channels of the student's blocks.
        save_every: updates from one checkpoint to the next.
    """

    seed: int = 0
    seeds: int = 3
    steps: int = 600
    labels: int = 50
    batch_size: int = 64
    learning_rate: float = 2e-2
    temperature: float = 1.0
    soft_weight: float = 0.9
    sparsity: float = 0.8
    teacher_widths: tuple[int, ...] = (32, 64, 128)
    student_widths: tuple[int, ...] = (24, 48)
    save_every: int = 100

    def __post_init__(self) -> None:
        check_counts(self, "seeds", "steps", "batch_size", "save_every")
        if self.labels % NUM_CLASSES or not 0 < self.labels <= 900:
            raise ValueError(
                f"`labels` must be a multiple of 10, at most 900, got {self.labels}."
            )
        if not 0 <= self.soft_weight <= 1:
            raise ValueError(
                f"`soft_weight` must be in [0, 1], got {self.soft_weight}."
            )
        _checks.check_positive(
            temperature=self.temperature, learning_rate=self.learning_rate
        )
        _checks.check_sparsity(self.sparsity)


def demo(
    config: DemoConfig,
    folder: str | pathlib.Path,
    *,
    resume: bool = False,
    quiet: bool = False,
    loggers: Sequence[report.MakeLogger] = (),
) -> Result:
    """Runs the main job and writes its report.

    Args:
        config: what to do.
        folder: where the run leaves ``config.json``, ``metrics.jsonl``, ``report.md``,
            ``report.html``, ``report.png``, checkpoints and the exported models.
        resume: continue the run that is there; without it, the folder must not hold
            one.
        quiet: show no progress, only the result.
        loggers: what else gets every record, such as ``report.tensorboard``.

    Returns:
        The rows of the table, and the result in words.

    Raises:
        FolderError: if the folder holds another run, or cannot be written.
        ModuleNotFoundError: if the extra ``demo`` is not installed.
    """
    console = report.make_console(quiet=quiet)
    digits = load_digits()
    folder = open_folder(folder, dataclasses.asdict(config), versions(), resume=resume)
    with lock_folder(folder):
        records = report.open_records(folder, loggers)
        return _run(config, folder, digits, console, records)


def _run(
    config: DemoConfig,
    folder: pathlib.Path,
    digits: Digits,
    console: Any,
    records: report.JsonLines,
) -> Result:
    records.keep(lambda record: "step" in record)
    student, teacher = make_models(config)
    stages = make_stages(config, student, teacher)
    seeds: list[Seed] = []
    for seed in range(config.seed, config.seed + config.seeds):
        runner = Runner(folder, seed, console, records, config.save_every)
        variables = train_seed(config, digits, stages, runner)
        scores = evaluate_all(digits.test, student, teacher, variables)
        for name, numbers in scores.items():
            records.write({"seed": seed, "stage": name, "test": numbers})
        seeds.append(Seed(variables, scores))
    return finish(folder, dataclasses.asdict(config), digits, student, teacher, seeds)


def make_models(config: DemoConfig) -> tuple[Model, Model]:
    """The student and the teacher, two convolutional networks.

    Args:
        config: their widths.

    Returns:
        The student and the teacher.
    """
    classes = NUM_CLASSES
    student = models.CNN(widths=config.student_widths, classes=classes)
    teacher = models.CNN(widths=config.teacher_widths, classes=classes)
    return models.from_linen(student), models.from_linen(teacher)


def make_stages(config: DemoConfig, student: Model, teacher: Model) -> dict[str, Stage]:
    """The five training runs of one seed.

    Args:
        config: steps, weights and so on.
        student: the student.
        teacher: the teacher.

    Returns:
        The stages by name. All students have one budget and one schedule.
    """

    def optimizer(steps: int, rate: float) -> optax.GradientTransformation:
        return optax.adamw(optax.cosine_decay_schedule(rate, steps), weight_decay=1e-4)

    hard = objectives.hard_label()
    distil = objectives.combine(
        soft=(
            config.soft_weight,
            objectives.soft_target(temperature=config.temperature),
        ),
        hard=(1 - config.soft_weight, objectives.hard_label(where="labelled")),
    )
    tune = max(1, config.steps // 2)
    gradual = compress.cubic(config.sparsity, begin=0, end=max(1, tune // 2))
    sparse = optax.chain(
        optimizer(tune, config.learning_rate),
        compress.keep_sparse(gradual, across=True, every=10),
    )
    full = optimizer(config.steps, config.learning_rate)
    alone = make_stage("alone-all-labels", student, None, hard, full, config.steps)
    return {
        "teacher": make_stage("teacher", teacher, None, hard, full, config.steps),
        "alone-all-labels": alone,
        "alone-few-labels": alone._replace(name="alone-few-labels"),
        "distilled": make_stage(
            "distilled", student, teacher, distil, full, config.steps
        ),
        "pruned": make_stage("pruned", student, teacher, distil, sparse, tune),
    }


def train_seed(
    config: DemoConfig,
    digits: Digits,
    stages: Mapping[str, Stage],
    runner: Runner,
) -> dict[str, Variables]:
    """Trains all models of one seed.

    Args:
        config: number of labels and so on.
        digits: the dataset; only the training part is read.
        stages: of :func:`make_stages`.
        runner: where the stages run.

    Returns:
        The variables by name; those of ``int8`` are quantized.
    """
    few = hide_labels(digits.train, keep=config.labels, seed=runner.seed)
    labelled = {name: x[few["labelled"]] for name, x in few.items()}

    def run(name: str, arrays: data.Arrays, **start: Variables) -> Variables:
        return runner.run(
            stages[name],
            arrays,
            batch_size=config.batch_size,
            transform=augment_digits,
            **start,
        )

    teacher = run("teacher", digits.train)
    all_labels = run("alone-all-labels", digits.train)
    few_labels = run("alone-few-labels", labelled)
    distilled = run("distilled", few, teacher=teacher)
    pruned = run("pruned", few, teacher=teacher, variables=distilled)
    return {
        "teacher": teacher,
        "alone-all-labels": all_labels,
        "alone-few-labels": few_labels,
        "distilled": distilled,
        "pruned": pruned,
        "int8": pruned._replace(params=compress.quantize(pruned.params)),
    }


def versions() -> dict[str, str]:
    """The versions on which a run depends.

    Returns:
        Of jaxkd, jax, flax, optax, numpy and Python, and the kind of device.
    """
    return {
        "jaxkd": __version__,
        "jax": jax.__version__,
        "flax": flax.__version__,
        "optax": optax.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
    }


def evaluate_all(
    arrays: data.Arrays,
    student: Model,
    teacher: Model,
    variables: Mapping[str, Variables],
) -> dict[str, dict[str, float]]:
    """Measures the models of one seed.

    Args:
        arrays: the examples to measure on.
        student: the student.
        teacher: the teacher.
        variables: of :func:`train_seed`; ``"teacher"`` among them.

    Returns:
        Accuracy, cross-entropy, agreement and divergence from the teacher, by name.
    """
    batches = data.eval_batches(arrays, batch_size=250)
    own = {"teacher": _eval_step(teacher, teacher)}
    return {
        name: train.evaluate(
            own.get(name, _eval_step(student, teacher)),
            compress.dequantize(found),
            batches,
            teacher=variables["teacher"],
        )
        for name, found in variables.items()
    }


@functools.cache
def _eval_step(model: Model, teacher: Model) -> train.EvalStep:
    return jax.jit(train.make_eval_step(model, teacher))
