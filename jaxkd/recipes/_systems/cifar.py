"""Small colour images: the pairs of networks that papers on distillation compare."""

import dataclasses
from collections.abc import Callable, Collection, Mapping

import jax
import numpy as np

from jaxkd import _names, data, losses, models, objectives
from jaxkd.models import Model, Variables
from jaxkd.objectives import Objective
from jaxkd.recipes._experiment.value import Experiment, Splits, Training, Way, kd
from jaxkd.recipes._sources import damage_images, load_images


@dataclasses.dataclass(frozen=True)
class CifarConfig(Training):
    """Settings of :func:`cifar`.

    Attributes:
        data: a folder of images with ``train`` and ``test``, an ``.npz``, or a prepared
            TFDS dataset such as ``"cifar10"``, see ``load_images``.
        pair: ``"resnet56-resnet20"``, ``"resnet32x4-resnet8x4"`` or
            ``"resnet50-mobilenetv2"``: teacher and student.
        pretrained: a file of weights, see ``models.load_torch_file``, from which the
            teacher's training starts; with those of several networks in it, their
            names begin with the network's and a slash. By default they are drawn.
        methods: ways of distillation beside the student alone: ``"kd"``, ``"dkd"``,
            ``"dist"``, ``"at"``, ``"crd"``.
        train_limit: takes so many training images; 0 for all.
        test_limit: takes so many test images, drawn once; 0 for all.
        rotation: degrees by which images are turned at most; 0 for none.
        zoom: share by which images are enlarged or shrunk at most; 0 for none.
        optimizer: ``"adamw"`` or ``"sgd"``.
        learning_rate: peak of its schedule.
        weight_decay: of the optimizer.
    """

    data: str = "cifar10"
    pair: str = "resnet56-resnet20"
    pretrained: str = ""
    methods: tuple[str, ...] = ("kd", "dkd", "dist", "at")
    train_limit: int = 0
    test_limit: int = 0
    rotation: float = 0.0
    zoom: float = 0.0
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_words("pair", (self.pair,), PAIRS)
        _check_words("methods", self.methods, _METHODS)
        for name in ("train_limit", "test_limit", "rotation"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"`{name}` must not be negative, got {getattr(self, name)}."
                )
        if not 0 <= self.zoom < 1:
            raise ValueError(f"`zoom` must be in [0, 1), got {self.zoom}.")


def _check_words(name: str, words: Collection[str], known: Collection[str]) -> None:
    for word in words:
        if word not in known:
            raise ValueError(f"`{name}` has no {word!r}; {_names.nearest(word, known)}")


def cifar(config: CifarConfig) -> Experiment:
    """A student alone and by several methods, for one of the usual pairs of networks.

    Images are mirrored and shifted, and turned and zoomed if wanted; teacher and
    student see the same view.

    Args:
        config: what to do.

    Returns:
        The experiment, for :func:`jaxkd.recipes.run_experiment`.

    Raises:
        FileNotFoundError: if the data or the weights are not there.
        KeyError: if the weights are another network's.
        ValueError: if there are fewer images than wanted.

    References:
        Krizhevsky, `Learning multiple layers of features from tiny images
        <https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf>`_, 2009, for
        CIFAR-10; Tian, Krishnan, Isola, `Contrastive representation distillation
        <https://arxiv.org/abs/1910.10699>`_, 2020, section 4, for the pairs.
    """
    splits = _limited(load_images(config.data), config)
    teacher_name, student_name = config.pair.split("-")
    teacher, student = (
        models.from_linen(PAIRS[config.pair][i](len(splits.classes))) for i in (0, 1)
    )
    view = _augmentation(config)
    alone = f"{student_name}, alone"
    ways = {alone: Way(student, objectives.hard_label(), transform=view)}
    for method in config.methods:
        objective = _METHODS[method](config, len(splits.train["label"]))
        name = f"{student_name}, {_NAMES[method]}"
        ways[name] = Way(student, objective, True, view, alone)
    start = None
    if config.pretrained:
        start = _pretrained(config.pretrained, teacher, teacher_name, splits)
    return Experiment(
        splits,
        ("image",),
        teacher,
        ways,
        transform=view,
        start=start,
        damaged=damage_images(splits.test),
    )


_Network = Callable[[int], models.ResNet | models.MobileNetV2]


def _small(blocks: int) -> _Network:
    return lambda classes: models.ResNet(classes, (blocks,) * 3, shortcut="pad")


def _wide(blocks: int) -> _Network:
    return lambda classes: models.ResNet(
        classes, (blocks,) * 3, widths=(64, 128, 256), stem=32
    )


def _resnet50(classes: int) -> models.ResNet:
    widths = (256, 512, 1024, 2048)
    return models.ResNet(classes, (3, 4, 6, 3), widths, 64, bottleneck=True)


def _mobilenet(classes: int) -> models.MobileNetV2:
    return models.MobileNetV2(classes, small_images=True)


#: Teacher and student, from the number of classes.
PAIRS: Mapping[str, tuple[_Network, _Network]] = {
    "resnet56-resnet20": (_small(9), _small(3)),
    "resnet32x4-resnet8x4": (_wide(5), _wide(1)),
    "resnet50-mobilenetv2": (_resnet50, _mobilenet),
}


def _with_labels(**terms: tuple[float, Objective]) -> Objective:
    return objectives.combine(hard=(1.0, objectives.hard_label()), **terms)


def _kd(config: CifarConfig, size: int) -> Objective:
    return kd(config)


def _dkd(config: CifarConfig, size: int) -> Objective:
    decoupled = objectives.on_logits(
        losses.decoupled_kd, beta=2.0, temperature=config.temperature
    )
    return _with_labels(decoupled=(1.0, decoupled))


def _dist(config: CifarConfig, size: int) -> Objective:
    inter = objectives.on_logits(losses.inter_class_relation)
    intra = objectives.on_logits(losses.intra_class_relation)
    return _with_labels(inter=(1.0, inter), intra=(1.0, intra))


def _attention(config: CifarConfig, size: int) -> Objective:
    # Three stages of all networks but ResNet-50 and MobileNetV2 have equal maps.
    stages = ["stage1", "stage2", "stage3"]
    theirs = ["stage2", "stage3", "stage4"]
    pairs = (stages, stages)
    if config.pair == "resnet50-mobilenetv2":
        pairs = (["block6", "block13", "block17"], theirs)
    maps = objectives.on_features(
        losses.attention_transfer, student=pairs[0], teacher=pairs[1]
    )
    return objectives.combine(kd=(1.0, kd(config)), maps=(1000.0, maps))


def _contrast(config: CifarConfig, size: int) -> Objective:
    contrast = objectives.contrastive_representation(
        student="pool", teacher="pool", size=size, negatives=min(16384, size - 1)
    )
    return _with_labels(contrast=(0.8, contrast))


_METHODS: Mapping[str, Callable[[CifarConfig, int], Objective]] = {
    "kd": _kd,
    "dkd": _dkd,
    "dist": _dist,
    "at": _attention,
    "crd": _contrast,
}
_NAMES = {
    "kd": "distilled",
    "dkd": "DKD",
    "dist": "DIST",
    "at": "KD + AT",
    "crd": "CRD",
}


def _augmentation(config: CifarConfig) -> data.Transform:
    parts = [data.augment.flip(), data.augment.pad_crop(padding=4)]
    if config.rotation:
        parts.append(data.augment.rotate(degrees=config.rotation))
    if config.zoom:
        factor = (1 - config.zoom, 1 + config.zoom)
        parts.append(data.augment.zoom(factor=factor))
    return jax.jit(data.augment.compose(*parts))


def _limited(splits: Splits, config: CifarConfig) -> Splits:
    # The training part is a permutation already; a test part may lie class by class.
    order = np.random.default_rng(0).permutation(len(splits.test["label"]))
    train, test = (
        _first(part, order, limit, name)
        for part, order, limit, name in (
            (splits.train, None, config.train_limit, "train_limit"),
            (splits.test, order, config.test_limit, "test_limit"),
        )
    )
    return splits._replace(train=train, test=test)


def _first(
    part: data.Arrays, order: np.ndarray | None, limit: int, name: str
) -> data.Arrays:
    length = len(part["label"])
    if limit > length:
        raise ValueError(f"`{name}` is {limit}, but there are {length} images.")
    if not limit:
        return part
    chosen = slice(limit) if order is None else order[:limit]
    return {key: values[chosen] for key, values in part.items()}


def _pretrained(file: str, model: Model, name: str, splits: Splits) -> Variables:
    image = {"image": splits.train["image"][:1]}
    like = jax.eval_shape(model.init, jax.random.key(0), image)
    arrays = models.load_torch_file(file, prefix=f"{name}/")
    return models.read_torch_names(arrays, like, names=models.resnet_torch_name)
