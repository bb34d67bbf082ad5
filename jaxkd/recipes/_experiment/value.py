"""An experiment as a value: data, a teacher, ways to train students, settings."""

import dataclasses
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

import optax

from jaxkd import _checks, _names, data, objectives
from jaxkd.models import Model, Variables
from jaxkd.objectives import Objective
from jaxkd.recipes._settings import check_counts

#: ``measure(model, variables, arrays)``: numbers by name, ``accuracy`` among them.
MeasureModel: TypeAlias = Callable[[Model, Variables, data.Arrays], dict[str, float]]
#: ``save(name, variables, folder)``: writes a model, by its name, in a format.
Save: TypeAlias = Callable[[str, Variables, pathlib.Path], object]
#: From the teacher's variables to those that a student starts from.
Start: TypeAlias = Callable[[Variables], Variables]
#: From the teacher's variables and the seed to examples to train on.
MakeExamples: TypeAlias = Callable[[Variables, int], data.Arrays]

_OPTIMIZERS = ("adamw", "sgd")


@dataclasses.dataclass(frozen=True)
class Training:
    """What all experiments let one choose; each adds its own.

    Attributes:
        seed: the first seed.
        seeds: how many; each trains a teacher and students of its own.
        teacher_steps: updates of the teacher.
        steps: updates of each student.
        batch_size: examples in a batch.
        optimizer: ``"adamw"``, or ``"sgd"`` with Nesterov momentum of 0.9.
        learning_rate: peak of its cosine schedule.
        teacher_learning_rate: the teacher's, if it is another; 0 for the same.
        warmup: share of the updates in which the rate rises to its peak.
        weight_decay: of the optimizer.
        temperature: of the soft targets.
        soft_weight: weight of the soft targets; hard labels have 1 minus it.
        save_every: updates from one checkpoint, and one look at the validation part,
            to the next.
    """

    seed: int = 0
    seeds: int = 3
    teacher_steps: int = 1000
    steps: int = 1000
    batch_size: int = 128
    optimizer: str = "adamw"
    learning_rate: float = 1e-3
    teacher_learning_rate: float = 0.0
    warmup: float = 0.0
    weight_decay: float = 1e-4
    temperature: float = 4.0
    soft_weight: float = 0.9
    save_every: int = 200

    def __post_init__(self) -> None:
        check_counts(
            self, "seeds", "teacher_steps", "steps", "batch_size", "save_every"
        )
        for name in ("weight_decay", "teacher_learning_rate"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"`{name}` must not be negative, got {getattr(self, name)}."
                )
        if self.optimizer not in _OPTIMIZERS:
            raise ValueError(
                f"there is no optimizer {self.optimizer!r}; "
                f"{_names.nearest(self.optimizer, _OPTIMIZERS)}"
            )
        _checks.check_fraction(soft_weight=self.soft_weight, warmup=self.warmup)
        _checks.check_positive(
            temperature=self.temperature, learning_rate=self.learning_rate
        )


class Splits(NamedTuple):
    """A dataset in three parts, of dicts of arrays with ``label``.

    Attributes:
        train: what models learn from.
        validation: what the best checkpoint is chosen by.
        test: what is reported.
        classes: the names of the classes.
        about: what the data are, in words.
    """

    train: data.Arrays
    validation: data.Arrays
    test: data.Arrays
    classes: tuple[str, ...]
    about: str


class Way(NamedTuple):
    """One way to train a student.

    Attributes:
        model: the student.
        objective: what is minimised.
        follows: whether there is a teacher in it.
        transform: augmentation of whole batches; teacher and student see the same.
        beside: the name of the way that it is compared with.
        start: the student's first variables, from the teacher's; drawn by default.
        steps: updates, if not as many as the config says; 0 leaves the student as
            ``start`` gives it.
        train: what the student is trained on, made of the teacher and the seed; the
            experiment's training part by default.
    """

    model: Model
    objective: Objective
    follows: bool = False
    transform: data.Transform | None = None
    beside: str = ""
    start: Start | None = None
    steps: int | None = None
    train: MakeExamples | None = None


class Experiment(NamedTuple):
    """What is compared. To bring a model or data of your own, make one of these.

    Attributes:
        splits: the data.
        inputs: the entries of a batch that the models read.
        teacher: the large model.
        ways: how students are trained, by the names that the report gives them.
        transform: augmentation for the teacher's training.
        variables: of a teacher that is trained already; ``None`` to train one for
            each seed.
        start: where that training starts; drawn by default.
        objective: what the teacher minimises; the hard labels by default.
        measure: what is measured instead of the accuracy on ``label``: numbers by name,
            in ``[0, 1]``. ``accuracy`` stands in the tables, by the name of
            ``quality``, and chooses the best checkpoint; the others stand below.
        quality: what ``accuracy`` is.
        damaged: the test part, damaged, by the name of the damage: the report has the
            accuracy on each.
        texts: what the test examples say, for the report.
        formats: what ``jaxkd export`` can make of the models besides, by the names of
            the formats.
    """

    splits: Splits
    inputs: tuple[str, ...]
    teacher: Model
    ways: Mapping[str, Way]
    transform: data.Transform | None = None
    variables: Variables | None = None
    start: Variables | None = None
    objective: Objective | None = None
    measure: MeasureModel | None = None
    quality: str = "accuracy"
    damaged: Mapping[str, data.Arrays] = {}
    texts: Sequence[str] = ()
    formats: Mapping[str, Save] = {}


def make_optimizer(
    config: Training, steps: int, *, teacher: bool = False
) -> optax.GradientTransformation:
    """The optimizer that the config names, with its schedule.

    Args:
        config: which.
        steps: updates in all.
        teacher: whether it is for the teacher.

    Returns:
        A transformation of gradients.
    """
    peak = (teacher and config.teacher_learning_rate) or config.learning_rate
    rate = optax.cosine_decay_schedule(peak, steps)
    if config.warmup:
        rising = max(1, round(config.warmup * steps))
        rate = optax.warmup_cosine_decay_schedule(0.0, peak, rising, max(steps, 2))
    if config.optimizer == "adamw":
        return optax.adamw(rate, weight_decay=config.weight_decay)
    decay = optax.add_decayed_weights(config.weight_decay)
    return optax.chain(decay, optax.sgd(rate, momentum=0.9, nesterov=True))


def kd(config: Training) -> Objective:
    """Soft targets and hard labels, weighted as the config says.

    Args:
        config: temperature and weight.

    Returns:
        An objective.
    """
    return objectives.combine(
        soft=(
            config.soft_weight,
            objectives.soft_target(temperature=config.temperature),
        ),
        hard=(1 - config.soft_weight, objectives.hard_label()),
    )


def alone_and_distilled(
    name: str,
    student: Model,
    config: Training,
    *,
    transform: data.Transform | None = None,
) -> dict[str, Way]:
    """The comparison that every experiment makes: one student, alone and distilled.

    Args:
        name: the student's name.
        student: the student.
        config: temperature and weight.
        transform: augmentation of whole batches, in both.

    Returns:
        Two ways, by name.
    """
    alone = Way(student, objectives.hard_label(), transform=transform)
    distilled = Way(student, kd(config), True, transform, f"{name}, alone")
    return {f"{name}, alone": alone, f"{name}, distilled": distilled}


def slug(name: str) -> str:
    """A model's name as that of its folder.

    Args:
        name: ``"student 16, alone"``.

    Returns:
        ``"student-16-alone"``.
    """
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
