"""Settings: frozen dataclasses of plain values, and the words that change them."""

import dataclasses
import json
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from jaxkd import _names

Config = TypeVar("Config")


def to_json(config: Any) -> dict[str, Any]:
    """The plain values of a config, of which :func:`from_json` makes it again.

    Args:
        config: a dataclass; one with stages has a ``to_json`` of its own.

    Returns:
        The settings by name.
    """
    if hasattr(config, "to_json"):
        return config.to_json()
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in dataclasses.asdict(config).items()
    }


def from_json(cls: type[Config], found: Mapping[str, Any]) -> Config:
    """A config from plain values.

    Args:
        cls: a dataclass.
        found: settings by name; others have their defaults.

    Returns:
        The config.

    Raises:
        ValueError: for a name that is no setting, or a value out of range.
        TypeError: for a value of another type.

    Examples:
        >>> from jaxkd import recipes
        >>> recipes.from_json(recipes.DemoConfig, {"steps": 100}).steps
        100
    """
    own = getattr(cls, "from_json", None)
    if own is not None:
        return own(found)
    return cls(**known(cls, found))


def known(cls: type[Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, if all are the class's and of its types; lists become tuples.

    Args:
        cls: a dataclass.
        found: settings by name.

    Returns:
        The same.

    Raises:
        ValueError: for a name that is no setting.
        TypeError: for a value of another type.
    """
    hints = typing.get_type_hints(cls)
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
    for name, value in values.items():
        if name not in hints:
            raise ValueError(
                f"{name!r} is no setting; {_names.nearest(name, list(hints))}"
            )
        wanted = typing.get_origin(hints[name]) or hints[name]
        allowed = (int, float) if wanted is float else wanted
        boolean = isinstance(value, bool) and wanted is not bool
        if boolean or not isinstance(value, allowed):
            raise TypeError(f"`{name}` must be {wanted.__name__}, got {value!r}.")
    return values


def check_counts(config: Any, *names: str) -> None:
    """Raises unless these settings are at least 1, and the seed is one.

    Args:
        config: with ``seed`` and the settings.
        names: of the settings.

    Raises:
        ValueError: for the first that is not.
    """
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(
                f"`{name}` must be at least 1, got {getattr(config, name)}."
            )
    if not 0 <= config.seed < 2**31:
        raise ValueError(f"`seed` must be in [0, 2**31), got {config.seed}.")


def change(settings: Mapping[str, Any], words: Iterable[str]) -> dict[str, Any]:
    """Settings with some of them changed by words such as ``steps=100``.

    Args:
        settings: plain values by name.
        words: ``NAME=VALUE``; the value is JSON, or a word. ``stages.1.steps=100`` is
            the setting ``steps`` of the first of the ``stages``.

    Returns:
        New settings. Whether they are any is for :func:`from_json` to say.

    Raises:
        ValueError: if there is no ``=``, or no such place.

    Examples:
        >>> from jaxkd import recipes
        >>> recipes.change({"steps": 9, "widths": [8]}, ["steps=100", "widths=[4, 4]"])
        {'steps': 100, 'widths': [4, 4]}
    """
    changed: dict[str, Any] = json.loads(json.dumps(settings))
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise ValueError(f"a setting is NAME=VALUE, got {word!r}.")
        *path, last = name.split(".")
        place = changed
        for step in path:
            place = _inside(place, step, word)
        if isinstance(place, list):
            raise ValueError(f"{word!r} names none of the settings of a stage.")
        place[last] = _value(text)
    return changed


def _inside(place: Any, step: str, word: str) -> Any:
    inner = place.get(step) if isinstance(place, dict) else None
    if isinstance(place, list) and step.isdigit() and 1 <= int(step) <= len(place):
        inner = place[int(step) - 1]
    if isinstance(inner, (dict, list)):
        return inner
    names = list(place) if isinstance(place, dict) else range(1, len(place) + 1)
    hint = _names.nearest(step, map(str, names))
    raise ValueError(f"{word!r}: {step!r} holds no settings; {hint}")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text  # a word
