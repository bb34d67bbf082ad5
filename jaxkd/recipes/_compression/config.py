"""The config of a compression."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

from jaxkd import _checks
from jaxkd.recipes._compression.stages import (
    AnyStage,
    Export,
    Quantize,
    Shrink,
    kind_of,
    stage_from,
)
from jaxkd.recipes._settings import check_counts, known, to_json

# Stages that work on arrays, and those after which the arrays are no longer there.
_NOT_AFTER = {
    "shrink": ("factorize", "cluster", "quantize"),
    "factorize": ("factorize", "cluster", "quantize"),
    "prune": ("cluster", "quantize"),
    "cluster": ("cluster", "quantize"),
    "quantize": ("cluster", "quantize"),
}
#: What stands for ``data`` in the record of a run with a task of its own.
OWN = "own"

_DEFAULT: tuple[AnyStage, ...] = (
    Shrink(keep=0.25),
    Quantize(steps=200),
    Export(),
)


@dataclasses.dataclass(frozen=True)
class CompressConfig:
    """All that determines a run of :func:`jaxkd.recipes.compress`, but model and data.

    Attributes:
        stages: what is done, in this order: :class:`Distil`, :class:`FineTune`,
            :class:`Prune`, :class:`Shrink`, :class:`Quantize`, :class:`Factorize`,
            :class:`Cluster`, :class:`Export`.
        data: the images of a run without a task of its own, see
            :func:`jaxkd.recipes.load_images`.
        widths: of their teacher, a :class:`jaxkd.models.CNN`.
        student: of a CNN that starts from its initial values instead of a copy of the
            teacher; empty for the copy.
        floor: the least accuracy, in ``[0, 1]``, that every stage must leave.
        seed: of initial values and of the order of the data.
        batch_size: examples in a batch.
        temperature: of the soft targets.
        soft_weight: weight of the soft targets; hard labels have 1 minus it.
        teacher_steps: updates of the teacher of these images; other tasks bring their
            own.
        teacher_learning_rate: peak of the cosine schedule of its AdamW.
        save_every: updates from one checkpoint to the next.

    Examples:
        >>> from jaxkd import recipes
        >>> config = recipes.CompressConfig((recipes.Shrink(keep=0.5),), floor=0.9)
        >>> config.to_json()["stages"][0]["stage"]
        'shrink'
        >>> recipes.CompressConfig.from_json(config.to_json()) == config
        True
    """

    stages: tuple[AnyStage, ...] = _DEFAULT
    data: str = "digits"
    widths: tuple[int, ...] = (32, 64, 128)
    student: tuple[int, ...] = ()
    floor: float = 0.0
    seed: int = 0
    batch_size: int = 64
    temperature: float = 1.0
    soft_weight: float = 0.9
    teacher_steps: int = 600
    teacher_learning_rate: float = 2e-2
    save_every: int = 100

    def __post_init__(self) -> None:
        check_counts(self, "batch_size", "teacher_steps", "save_every")
        _checks.check_fraction(floor=self.floor, soft_weight=self.soft_weight)
        _checks.check_positive(
            temperature=self.temperature,
            teacher_learning_rate=self.teacher_learning_rate,
        )
        if not self.widths or min(*self.widths, *self.student, 1) < 1:
            raise ValueError("`widths` and `student` must be positive widths.")
        _check_stages(self.stages)

    def names(self) -> list[str]:
        """The stages' names, which are their folders': ``"1-shrink"``."""
        return [f"{i}-{kind_of(s)}" for i, s in enumerate(self.stages, start=1)]

    def to_json(self) -> dict[str, Any]:
        """Plain values, of which :meth:`from_json` makes the config again."""
        names = [f.name for f in dataclasses.fields(self)]
        values = {n: getattr(self, n) for n in names}
        values |= {n: list(x) for n, x in values.items() if isinstance(x, tuple)}
        stages = [{"stage": kind_of(s), **to_json(s)} for s in self.stages]
        return {**values, "stages": stages}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """A config from plain values.

        Args:
            found: the settings by name; ``stages`` is a list of settings by name, with
                the kind of each under ``"stage"``.

        Returns:
            A config.

        Raises:
            ValueError: for a name that is no setting or no stage, or a value out of
                range.
            TypeError: for a value of another type.
        """
        values = dict(found)
        if isinstance(values.get("stages"), list):
            listed = enumerate(values["stages"], start=1)
            values["stages"] = tuple(stage_from(x, i) for i, x in listed)
        return cls(**known(cls, values))


def _check_stages(stages: Sequence[AnyStage]) -> None:
    if not stages:
        raise ValueError("`stages` is empty: there is nothing to do.")
    for i, stage in enumerate(stages, start=1):
        if not isinstance(stage, AnyStage):
            raise TypeError(
                f"`stages` must be stages such as Distil(steps=300), got {stage!r}."
            )
        kind = kind_of(stage)
        for j, other in enumerate(stages[: i - 1], start=1):
            if kind_of(other) in _NOT_AFTER.get(kind, ()):
                raise ValueError(
                    f"stage {i}, {kind}, cannot follow stage {j}, {kind_of(other)}: it "
                    "works on plain arrays, so put it before."
                )
