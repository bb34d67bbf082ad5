"""The stages of a compression as plain, frozen values, and as JSON."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

from jaxkd import _checks, _names
from jaxkd.recipes._exports import export_formats
from jaxkd.recipes._settings import known

_SIZES = ("params", "flops", "bytes", "units")
FORMATS = ("int8", "int4", "int2", "nf4", "affine8", "affine4", "binary")


@dataclasses.dataclass(frozen=True)
class Distil:
    """Trains the student with the teacher's soft targets and the labels.

    Attributes:
        steps: number of updates.
        learning_rate: peak of the cosine schedule.
    """

    steps: int = 300
    learning_rate: float = 5e-3

    def __post_init__(self) -> None:
        check_training(self, least=1)


@dataclasses.dataclass(frozen=True)
class FineTune:
    """Trains the student with the labels alone.

    Attributes:
        steps: number of updates.
        learning_rate: peak of the cosine schedule.
    """

    steps: int = 300
    learning_rate: float = 5e-3

    def __post_init__(self) -> None:
        check_training(self, least=1)


@dataclasses.dataclass(frozen=True)
class Prune:
    """Makes the smallest weights zero; they stay zero in all stages that follow.

    Attributes:
        sparsity: the fraction of zeros, in ``(0, 1)``.
        steps: updates of distillation; in the first half of them the zeros become
            more. 0 prunes at once.
        learning_rate: peak of the cosine schedule.
        where: a regular expression for the paths of the weights.
        across: one threshold for all these weights together.
    """

    sparsity: float = 0.8
    steps: int = 300
    learning_rate: float = 5e-3
    where: str = "kernel$"
    across: bool = True

    def __post_init__(self) -> None:
        check_training(self)
        _checks.check_inside_unit_interval(sparsity=self.sparsity)


@dataclasses.dataclass(frozen=True)
class Shrink:
    """Removes the least important units: channels, heads, widths.

    Attributes:
        keep: the fraction that stays, in ``(0, 1)``.
        of: what it is a fraction of: ``"params"``, ``"flops"``, ``"bytes"`` or
            ``"units"``.
        steps: updates of distillation afterwards; 0 for none.
        learning_rate: peak of the cosine schedule.
        round_to: widths become multiples of it.
    """

    keep: float = 0.5
    of: str = "params"
    steps: int = 300
    learning_rate: float = 5e-3
    round_to: int = 8

    def __post_init__(self) -> None:
        check_training(self)
        _checks.check_inside_unit_interval(keep=self.keep)
        _checks.check_positive(round_to=self.round_to)
        _check_name("of", self.of, _SIZES)


@dataclasses.dataclass(frozen=True)
class Quantize:
    """Rounds weights to few bits, after training or while training.

    Attributes:
        format: ``"int8"``, ``"int4"``, ``"int2"``, ``"nf4"``, ``"affine8"``,
            ``"affine4"`` or ``"binary"``.
        steps: updates of distillation through the rounding; 0 rounds at once.
        learning_rate: peak of the cosine schedule.
        calibrate: with 0 steps, how many training examples choose, for each array, the
            range of values that changes the logits least; 0 takes all values.
        where: a regular expression for the paths of the weights.
    """

    format: str = "int8"
    steps: int = 0
    learning_rate: float = 1e-3
    calibrate: int = 0
    where: str = "kernel$"

    def __post_init__(self) -> None:
        check_training(self)
        _check_name("format", self.format, FORMATS)
        if self.calibrate < 0 or (self.calibrate and self.steps):
            raise ValueError(
                "`calibrate` must be 0 with `steps`, which fit the weights to the "
                f"rounding anyway, got {self.calibrate}."
            )


@dataclasses.dataclass(frozen=True)
class Factorize:
    """Splits layers in two of low rank, where that saves weights.

    The file becomes smaller; the program multiplies the factors again.

    Attributes:
        energy: the fraction of the sum of squared singular values to keep.
        steps: updates of distillation afterwards; 0 for none.
        learning_rate: peak of the cosine schedule.
        where: a regular expression for the paths of the kernels.
    """

    energy: float = 0.95
    steps: int = 0
    learning_rate: float = 1e-3
    where: str = "kernel$"

    def __post_init__(self) -> None:
        check_training(self)
        _checks.check_inside_unit_interval(energy=self.energy)


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Lets the weights of an array share a few values.

    Attributes:
        bits: an array takes ``2**bits`` values.
        steps: updates of distillation of the values afterwards; 0 for none.
        learning_rate: peak of the cosine schedule.
        where: a regular expression for the paths of the weights.
    """

    bits: int = 4
    steps: int = 0
    learning_rate: float = 1e-3
    where: str = "kernel$"

    def __post_init__(self) -> None:
        check_training(self)
        if not 1 <= self.bits <= 8:
            raise ValueError(f"`bits` must be from 1 to 8, got {self.bits}.")


@dataclasses.dataclass(frozen=True)
class Export:
    """Writes the student to other formats, each with a model card.

    Attributes:
        formats: names of :func:`jaxkd.recipes.export_formats`.
    """

    formats: tuple[str, ...] = ("stablehlo",)

    def __post_init__(self) -> None:
        if not self.formats:
            raise ValueError("`formats` is empty: there is nothing to export.")
        for name in self.formats:
            _check_name("formats", name, export_formats())


AnyStage: TypeAlias = (
    Distil | FineTune | Prune | Shrink | Quantize | Factorize | Cluster | Export
)
_KINDS: dict[str, type[Any]] = {
    "distil": Distil,
    "fine_tune": FineTune,
    "prune": Prune,
    "shrink": Shrink,
    "quantize": Quantize,
    "factorize": Factorize,
    "cluster": Cluster,
    "export": Export,
}


def kind_of(stage: AnyStage) -> str:
    """What a stage is called in a file.

    Args:
        stage: the stage.

    Returns:
        Such as ``"shrink"``.
    """
    return next(name for name, kind in _KINDS.items() if type(stage) is kind)


def stage_from(found: Any, number: int) -> AnyStage:
    """A stage from values of JSON.

    Args:
        found: its settings by name, and its kind under ``"stage"``.
        number: which one it is, for messages.

    Returns:
        The stage.

    Raises:
        ValueError: for an unknown kind or setting, or a value out of range.
        TypeError: for a value of another type.
    """
    if not isinstance(found, Mapping) or not isinstance(found.get("stage"), str):
        raise TypeError(
            f'stage {number} must be a table with its kind, such as {{"stage": '
            f'"distil"}}, got {found!r}.'
        )
    settings = dict(found)
    kind = settings.pop("stage")
    if kind not in _KINDS:
        raise ValueError(
            f"stage {number}: {kind!r} is no stage; {_names.nearest(kind, _KINDS)}"
        )
    try:
        return _KINDS[kind](**known(_KINDS[kind], settings))
    except (ValueError, TypeError) as error:
        raise type(error)(f"stage {number}, {kind}: {error}") from error


def check_training(stage: Any, *, least: int = 0) -> None:
    """Raises unless a stage can train as it says.

    Args:
        stage: the stage.
        least: the fewest steps.

    Raises:
        ValueError: if a number is out of range.
    """
    if stage.steps < least:
        raise ValueError(f"`steps` must be at least {least}, got {stage.steps}.")
    _checks.check_positive(learning_rate=stage.learning_rate)


def _check_name(setting: str, name: str, known: Any) -> None:
    if name not in known:
        raise ValueError(
            f"`{setting}` has no {name!r}; {_names.nearest(name, list(known))}"
        )
