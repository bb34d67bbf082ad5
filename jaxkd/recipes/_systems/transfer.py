"""A published ImageNet network teaches a small one, on images without labels."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _checks, _names, data, models, objectives
from jaxkd.models import Model, Variables
from jaxkd.recipes._experiment.value import Experiment, Splits, Training, Way
from jaxkd.recipes._settings import check_counts
from jaxkd.recipes._sources import damage_images

_STUDENTS = ("cnn", "mobilenetv2")
_BATCH = 100
_TOP = 5


@dataclasses.dataclass(frozen=True)
class TransferConfig(Training):
    """Settings of :func:`transfer`.

    Attributes:
        data: a folder, or a tar, of images; the folders in it mean nothing.
        teacher: ``"mobilenetv2"`` or ``"efficientnetlite0"``.
        pretrained: the teacher's weights under torch's names, see
            ``models.load_torch_file``.
        size: to whose square images are brought.
        held_out: how many images are for validation, and as many for the test.
        student: ``"cnn"`` or ``"mobilenetv2"``.
        widths: channels of the blocks of a ``"cnn"``.
        factor: of the channels of a ``"mobilenetv2"``.
        limit: takes so many images to learn from; 0 for all.
        temperature: of the soft targets.
        seeds: how many; each trains students of its own.
    """

    data: str = "images"
    teacher: str = "mobilenetv2"
    pretrained: str = "mobilenet_v2.pth"
    size: int = 96
    held_out: int = 500
    student: str = "cnn"
    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    factor: float = 0.35
    limit: int = 0
    temperature: float = 1.0
    seeds: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "size", "held_out")
        _checks.check_positive(factor=self.factor)
        for name, known in (("teacher", TEACHERS), ("student", _STUDENTS)):
            value = getattr(self, name)
            if value not in known:
                raise ValueError(
                    f"there is no {name} {value!r}; {_names.nearest(value, known)}"
                )
        if self.limit < 0:
            raise ValueError(f"`limit` must not be negative, got {self.limit}.")
        if min(self.widths, default=0) < 1:
            raise ValueError("`widths` must be positive, and not be empty.")


class Published(NamedTuple):
    """A network whose weights are published.

    Attributes:
        make: the network, from the number of classes.
        names: from our names of its layers to torch's.
    """

    make: Callable[[int], models.MobileNetV2 | models.EfficientNetLite0]
    names: Callable[[str], str]


#: The teachers by name.
TEACHERS = {
    "mobilenetv2": Published(models.MobileNetV2, models.mobilenet_torch_name),
    "efficientnetlite0": Published(
        models.EfficientNetLite0, models.efficientnet_torch_name
    ),
}


def transfer(config: TransferConfig) -> Experiment:
    """A small student of a published network, which sees images but never a label.

    One student learns the teacher's soft targets of the very view it sees, mirrored and
    shifted; the other only which class the teacher finds likeliest in each image. What
    is measured is how often a student's answer is the teacher's, on images that neither
    was trained on.

    Args:
        config: what to do.

    Returns:
        The experiment, for :func:`jaxkd.recipes.run_experiment`.

    Raises:
        FileNotFoundError: if the images or the weights are not there.
        KeyError: if the weights are another network's.
        ValueError: if there are too few images.

    References:
        Hinton, Vinyals, Dean, `Distilling the knowledge in a neural network
        <https://arxiv.org/abs/1503.02531>`_, 2015, section 2, for the transfer set;
        Beyer et al., `Knowledge distillation: a good teacher is patient and consistent
        <https://arxiv.org/abs/2106.05237>`_, 2022, for the same view of both.
    """
    teacher, variables, classes = _teacher(config)
    splits = _splits(config, _Answers(teacher, variables), classes)
    student = models.from_linen(_student(config, classes))
    view = jax.jit(
        data.augment.compose(
            data.augment.to_float(),
            data.augment.flip(),
            data.augment.pad_crop(padding=max(1, config.size // 12), reflect=True),
        )
    )
    soft = objectives.soft_target(temperature=config.temperature)
    answers = "student, answers alone"
    ways = {
        answers: Way(student, objectives.hard_label(), transform=view),
        "student, soft targets": Way(student, soft, True, view, answers),
    }
    return Experiment(
        splits,
        ("image",),
        teacher,
        ways,
        variables=variables,
        measure=_agreement,
        quality="agreement with the teacher",
        damaged=damage_images(splits.test),
    )


def _teacher(config: TransferConfig) -> tuple[Model, Variables, int]:
    make, names = TEACHERS[config.teacher]
    arrays = models.load_torch_file(config.pretrained)
    bias = f"{names('head')}.bias"
    classes = len(_names.get(arrays, bias, pathlib.Path(config.pretrained).name))
    teacher = models.from_linen(make(classes))
    image = {"image": jnp.zeros((1, config.size, config.size, 3))}
    like = jax.eval_shape(teacher.init, jax.random.key(0), image)
    return teacher, models.read_torch_names(arrays, like, names=names), classes


def _student(config: TransferConfig, classes: int) -> models.CNN | models.MobileNetV2:
    if config.student == "cnn":
        return models.CNN(widths=config.widths, classes=classes)
    return models.MobileNetV2(classes, width=config.factor)


def _splits(
    config: TransferConfig, answers: Callable[[np.ndarray], np.ndarray], classes: int
) -> Splits:
    """Bytes to learn from, which are made floats batch by batch; floats to measure."""
    images = data.read_images(
        config.data,
        shape=(config.size, config.size, 3),
        dtype=np.uint8,
        class_of=lambda path: "",
    ).arrays["image"]
    held, wanted = 2 * config.held_out, config.limit or 1
    if len(images) < held + wanted:
        raise ValueError(
            f"{config.data} has {len(images)} images, but {wanted} to learn from and "
            f"2 x {config.held_out} to hold out are wanted."
        )
    order = np.random.default_rng(0).permutation(len(images))
    own = order[held:][: config.limit or None]
    parts = [images[own]]
    for chosen in (order[: config.held_out], order[config.held_out : held]):
        parts.append(images[chosen] / np.float32(255))
    train, validation, test = ({"image": x, "label": answers(x)} for x in parts)
    commonest = np.bincount(test["label"]).max() / config.held_out
    about = (
        f"{pathlib.Path(config.data).name}, images without labels; the teacher's "
        f"commonest answer is that of {commonest:.1%} of the test images."
    )
    return Splits(train, validation, test, tuple(map(str, range(classes))), about)


class _Answers(NamedTuple):
    """The likeliest class of each image, as a model has it."""

    model: Model
    variables: Variables

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return _best(self.model, self.variables, images)[:, 0]


def _agreement(
    model: Model, variables: Variables, arrays: data.Arrays
) -> dict[str, float]:
    found = _best(model, variables, arrays["image"])
    same = found == np.asarray(arrays["label"])[:, None]
    return {
        "accuracy": float(same[:, 0].mean()),
        f"teacher's answer among the first {_TOP}": float(same.any(axis=1).mean()),
    }


def _best(model: Model, variables: Variables, images: np.ndarray) -> np.ndarray:
    """The likeliest classes of each image, ``[n, 5]``, the best first."""
    parts = []
    for first in range(0, len(images), _BATCH):
        part = images[first : first + _BATCH]
        if part.dtype == np.uint8:
            part = part / np.float32(255)
        padded = np.pad(part, [(0, _BATCH - len(part)), (0, 0), (0, 0), (0, 0)])
        parts.append(np.asarray(_top(model)(variables, padded))[: len(part)])
    return np.concatenate(parts).astype(np.int32)


@functools.cache
def _top(model: Model) -> Callable[[Variables, np.ndarray], Array]:
    def top(variables: Variables, images: Array) -> Array:
        logits = model.apply(*variables, {"image": images}).logits
        return jax.lax.top_k(logits, min(_TOP, logits.shape[-1]))[1]

    return jax.jit(top)
