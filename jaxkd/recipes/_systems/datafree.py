"""Data-free distillation: students of a network whose data are gone."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np

from jaxkd import _names, data, models, objectives
from jaxkd.models import Model, Variables
from jaxkd.recipes._experiment.value import Experiment, Training, Way
from jaxkd.recipes._settings import check_counts
from jaxkd.recipes._sources import damage_images, load_images
from jaxkd.recipes._systems.synthesis import (
    generate_images,
    invert_images,
    noise_images,
)

_KINDS = ("noise", "generated", "generated with BatchNorm", "inverted")


@dataclasses.dataclass(frozen=True)
class DatafreeConfig(Training):
    """Settings of :func:`datafree`.

    Attributes:
        data: of the teacher, as of :class:`MnistConfig`; 8 or 28 pixels high and wide.
        kinds: of images to make: ``"noise"``, ``"generated"``,
            ``"generated with BatchNorm"``, ``"inverted"``.
        images: how many, of each kind.
        inversion_steps: updates of the pixels of each batch of inverted images.
        generator_steps: updates of the generator.
        teacher: channels of the teacher's blocks.
        student: channels of the students'.
        teacher_steps: updates of the teacher.
        steps: updates of each student.
        learning_rate: peak of its cosine schedule.
    """

    data: str = "digits"
    kinds: tuple[str, ...] = _KINDS
    images: int = 1024
    inversion_steps: int = 200
    generator_steps: int = 600
    teacher: tuple[int, ...] = (16, 32, 64)
    student: tuple[int, ...] = (8, 16)
    teacher_steps: int = 600
    steps: int = 600
    learning_rate: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "images", "inversion_steps")
        for kind in self.kinds:
            if kind not in _KINDS:
                raise ValueError(
                    f"there are no images of kind {kind!r}; "
                    f"{_names.nearest(kind, _KINDS)}"
                )
        if self.generator_steps < 5:
            raise ValueError(
                f"`generator_steps` must be at least 5, got {self.generator_steps}."
            )
        if min(*self.teacher, *self.student, 1) < 1:
            raise ValueError("`teacher` and `student` must be positive widths.")


def datafree(config: DatafreeConfig) -> Experiment:
    """Students of one teacher, on its real images and on four kinds of made ones.

    All follow its soft targets alone, without a label. The images are made of the
    teacher alone: uniform noise, those of a generator trained as in DAFL, without and
    with the statistics of the BatchNorms, and DeepInversion. Only the checkpoint is
    chosen on real images; the report has that of the last update too, for which none
    were seen.

    Args:
        config: what to do.

    Returns:
        The experiment, for :func:`jaxkd.recipes.run_experiment`.

    Raises:
        FileNotFoundError: if the data are not there.
        ValueError: if the images are not multiples of 4 high and wide.

    References:
        Chen et al., `Data-Free Learning of Student Networks
        <https://arxiv.org/abs/1904.01186>`_, 2019; Yin et al., `Dreaming to Distill
        <https://arxiv.org/abs/1912.08795>`_, 2020.
    """
    splits = load_images(config.data)
    height, width, channels = splits.train["image"].shape[1:]
    if height % 4 or width % 4:
        raise ValueError(
            f"images must be multiples of 4 high and wide, got {height} × {width}."
        )
    shape = (height, width, channels)
    shift = jax.jit(data.augment.pad_crop(padding=max(1, height // 12)))
    network = lambda widths: models.from_linen(
        models.CNN(widths=widths, classes=len(splits.classes))
    )
    teacher, student = network(config.teacher), network(config.student)
    soft = objectives.soft_target(temperature=config.temperature)
    distil = functools.partial(Way, student, soft, True, shift)
    ways = {"student, real images": distil()}
    for kind in config.kinds:
        beside = "student, noise" if "student, noise" in ways else ""
        make = _make(teacher, config, shape, kind)
        ways[f"student, {kind}"] = distil(beside, train=make)
    damaged = damage_images(splits.test)
    return Experiment(
        splits, ("image",), teacher, ways, transform=shift, damaged=damaged
    )


def _make(
    teacher: Model, config: DatafreeConfig, shape: tuple[int, int, int], kind: str
) -> Callable[[Variables, int], dict[str, np.ndarray]]:
    """What makes training images of the teacher's variables and a seed."""

    def make(variables: Variables, seed: int) -> dict[str, np.ndarray]:
        if kind == "noise":
            return noise_images(config.images, shape, seed=seed)
        if kind == "inverted":
            make, steps = invert_images, config.inversion_steps
        else:
            weight = float(kind == "generated with BatchNorm")
            make = functools.partial(generate_images, weight=weight)
            steps = config.generator_steps
        return make(teacher, variables, config.images, shape, seed=seed, steps=steps)

    return make
