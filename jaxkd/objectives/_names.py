"""Names: of losses, their arguments and features, and how an objective prints."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from jaxtyping import Array

from jaxkd import _names
from jaxkd.objectives._base import shown

Loss: TypeAlias = Callable[..., Array]
# The name of one feature, or of several.
Names: TypeAlias = str | Sequence[str]


def paired(
    reader: str, student: Names, teacher: Names
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The features of both sides, as many.

    Args:
        reader: who asks, for the error.
        student: names.
        teacher: names.

    Returns:
        Both as tuples.

    Raises:
        ValueError: if there are none, or not as many.
    """
    ours, theirs = names_of(student), names_of(teacher)
    if len(ours) != len(theirs):
        raise ValueError(
            f"{reader}: {len(ours)} features of the student {ours} cannot be paired "
            f"with {len(theirs)} of the teacher {theirs}."
        )
    return ours, theirs


def name_of(loss: Loss) -> str:
    """How a loss is called.

    Args:
        loss: a function, or a :func:`functools.partial` of one.

    Returns:
        Its name.
    """
    inner = getattr(loss, "func", loss)
    return getattr(inner, "__name__", type(inner).__name__).strip("<>")


def names_of(features: Names) -> tuple[str, ...]:
    """One name or several, as a tuple.

    Args:
        features: a name, or a sequence of them.

    Returns:
        The names.

    Raises:
        ValueError: if there are none.
    """
    names = (features,) if isinstance(features, str) else tuple(features)
    if not names:
        raise ValueError("at least one feature must be named, got none.")
    return names


def positional(loss: Loss) -> list[str]:
    """The names of a loss's positional arguments.

    Args:
        loss: a function.

    Returns:
        Their names in order.
    """
    parameters = inspect.signature(loss).parameters.values()
    return [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]


def check_hyperparameters(loss: Loss, hyperparameters: Mapping[str, Any]) -> None:
    """Raises if a loss has no hyperparameter of some name.

    Args:
        loss: a function.
        hyperparameters: by name.

    Raises:
        TypeError: naming those there are.
    """
    given = {"where", "axis_name"}  # these the objective gives
    parameters = inspect.signature(loss).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY} - given
    for name in hyperparameters:
        if name not in known:
            raise TypeError(
                f"{name_of(loss)} has no hyperparameter {name!r}; "
                f"{_names.nearest(name, known)}"
            )


def describe(kind: str, *words: str, **options: Any) -> str:
    """How an objective prints: as the call that made it.

    Args:
        kind: the function.
        *words: what comes first.
        **options: arguments by name; those that are ``None`` are left out.

    Returns:
        ``"kind(word, name=value)"``.
    """
    given = [
        f"{key}={shown(value)}" for key, value in options.items() if value is not None
    ]
    return f"{kind}({', '.join([*words, *given])})"
