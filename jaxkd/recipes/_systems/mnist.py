"""The textbook experiment: a wide network teaches narrow ones to read digits."""

import dataclasses

import jax
import numpy as np

from jaxkd import _checks, _names, data, models, objectives
from jaxkd.recipes._experiment.value import (
    Experiment,
    Training,
    Way,
    alone_and_distilled,
)
from jaxkd.recipes._sources import damage_images, load_images

#: The usual widths of each network: the teacher's, and each student's.
_NETWORKS = {"mlp": ((1000,), (500, 256)), "cnn": ((32, 64, 128), (32,))}


@dataclasses.dataclass(frozen=True)
class MnistConfig(Training):
    """Settings of :func:`mnist`.

    Attributes:
        data: ``"digits"``, the path of an ``.npz``, or a prepared TFDS dataset such as
            ``"mnist"`` or ``"fashion_mnist"``, see ``load_images``.
        network: ``"mlp"`` or ``"cnn"``.
        teacher: widths of the teacher's hidden layers, or channels of its blocks; empty
            for 1000, of a CNN 32, 64, 128.
        students: the widths of each student's one layer, or of its last block; empty
            for 500 and 256, of a CNN 32.
        shift: by how much images are shifted at most, as a share of their height.
        flip: whether they are also mirrored, which fits clothes, but no digits.
        match: whether the students are also trained on shifted images, as the teacher
            is: alone, and by function matching, that is soft targets alone, with the
            same view for both.
        seeds: how many; each trains a teacher and students of its own.
    """

    data: str = "digits"
    network: str = "mlp"
    teacher: tuple[int, ...] = ()
    students: tuple[int, ...] = ()
    shift: float = 0.08
    flip: bool = False
    match: bool = True
    seeds: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.network not in _NETWORKS:
            raise ValueError(
                f"there is no network {self.network!r}; "
                f"{_names.nearest(self.network, _NETWORKS)}"
            )
        if min((*self.students, *self.teacher), default=1) < 1:
            raise ValueError("`teacher` and `students` must be positive widths.")
        _checks.check_fraction(shift=self.shift)


def mnist(config: MnistConfig) -> Experiment:
    """A teacher of wide layers, students of narrow ones: alone, distilled, matched.

    Args:
        config: what to do.

    Returns:
        The experiment, for :func:`jaxkd.recipes.run_experiment`.

    Raises:
        FileNotFoundError: if the data are not there.

    References:
        Hinton, Vinyals, Dean, `Distilling the knowledge in a neural network
        <https://arxiv.org/abs/1503.02531>`_, 2015, section 3; Beyer et al.,
        `Knowledge distillation: a good teacher is patient and consistent
        <https://arxiv.org/abs/2106.05237>`_, 2022, for function matching.
    """
    splits = load_images(config.data)
    classes = len(splits.classes)
    usual_teacher, usual_students = _NETWORKS[config.network]
    teacher_widths = config.teacher or usual_teacher
    student_widths = config.students or usual_students
    shift = _shift(config, height=np.shape(splits.train["image"])[1])

    def network(widths: tuple[int, ...]) -> models.Model:
        if config.network == "mlp":
            return models.from_linen(models.MLP(hidden=widths, classes=classes))
        return models.from_linen(models.CNN(widths=widths, classes=classes))

    ways: dict[str, Way] = {}
    for width in student_widths:
        before = teacher_widths[:-1] if config.network == "cnn" else ()
        shrunk = tuple(max(1, x * width // teacher_widths[-1]) for x in before)
        student, name = network((*shrunk, width)), f"student {width}"
        ways |= alone_and_distilled(name, student, config)
        if config.match:
            soft = objectives.soft_target(temperature=config.temperature)
            shifted = f"{name}, alone, shifted"
            ways[shifted] = Way(student, objectives.hard_label(), transform=shift)
            ways[f"{name}, matched"] = Way(student, soft, True, shift, shifted)
    teacher = network(teacher_widths)
    damaged = damage_images(splits.test)
    return Experiment(
        splits, ("image",), teacher, ways, transform=shift, damaged=damaged
    )


def _shift(config: MnistConfig, height: int) -> data.Transform:
    """Shifts images by at least one pixel, unless by none; mirrors them if wanted."""
    steps = [data.augment.flip()] if config.flip else []
    if config.shift:
        padding = max(1, round(config.shift * height))
        steps.append(data.augment.pad_crop(padding=padding))
    return jax.jit(data.augment.compose(*steps))
