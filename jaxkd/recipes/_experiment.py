"""An experiment as a value: data, a teacher, ways to train students, settings."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from jaxkd import _checks, data, objectives
from jaxkd.models import Model, Variables
from jaxkd.objectives import Objective
from jaxkd.recipes._settings import check_counts


@dataclasses.dataclass(frozen=True)
class Training:
    """What all experiments let one choose; each adds its own.

    Attributes:
        seed: the first seed.
        seeds: how many; each trains a teacher and students of its own.
        teacher_steps: updates of the teacher.
        steps: updates of each student.
        batch_size: examples in a batch.
        learning_rate: peak of the cosine schedule of AdamW.
        weight_decay: of AdamW.
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
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    temperature: float = 4.0
    soft_weight: float = 0.9
    save_every: int = 200

    def __post_init__(self) -> None:
        check_counts(
            self, "seeds", "teacher_steps", "steps", "batch_size", "save_every"
        )
        if self.weight_decay < 0:
            raise ValueError(
                f"`weight_decay` must not be negative, got {self.weight_decay}."
            )
        _checks.check_fraction(soft_weight=self.soft_weight)
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
        beside: the name of the way without the teacher that it is compared with.
    """

    model: Model
    objective: Objective
    follows: bool = False
    transform: data.Transform | None = None
    beside: str = ""


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
    """

    splits: Splits
    inputs: tuple[str, ...]
    teacher: Model
    ways: Mapping[str, Way]
    transform: data.Transform | None = None
    variables: Variables | None = None


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
