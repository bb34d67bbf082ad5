"""Loggers of others, fed with the records of a run."""

import atexit
import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias

from jaxkd import _names
from jaxkd._extras import require


class Logger(Protocol):
    """Something that takes records, such as those of :class:`JsonLines`."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Takes a record.

        Args:
            record: plain values by name; ``stage``, ``seed`` and ``step`` say whose
                they are.
        """
        ...


#: Opens a logger in the folder of a run.
MakeLogger: TypeAlias = Callable[[pathlib.Path], Logger]


def tensorboard(folder: pathlib.Path) -> Logger:
    """Writes curves for ``tensorboard --logdir FOLDER``.

    Args:
        folder: of the run; the files go to ``tensorboard`` in it.

    Returns:
        A :class:`Logger`.

    Raises:
        ModuleNotFoundError: if the extra ``tensorboard`` is not installed.
    """
    module = require("tensorboardX", "tensorboard", "this logger")
    # A thread of its own writes the files; it must not be the first to go.
    writer = module.SummaryWriter(str(folder / "tensorboard"), flush_secs=1)
    atexit.register(writer.close)
    return _TensorBoard(writer)


def wandb(folder: pathlib.Path) -> Logger:
    """Sends curves to Weights & Biases; with ``WANDB_MODE=offline`` to a folder.

    Args:
        folder: of the run; the files go to ``wandb`` in it, and its name is the run's.

    Returns:
        A :class:`Logger`.

    Raises:
        ModuleNotFoundError: if the extra ``wandb`` is not installed.
    """
    module = require("wandb", "wandb", "this logger")
    run = module.init(project="jaxkd", name=folder.name, dir=str(folder))
    return _Wandb(run)


_LOGGERS: Mapping[str, MakeLogger] = {"tensorboard": tensorboard, "wandb": wandb}


def find_logger(name: str) -> MakeLogger:
    """A logger by name.

    Args:
        name: ``"tensorboard"`` or ``"wandb"``.

    Returns:
        What opens it in a folder.

    Raises:
        ValueError: if there is none of this name.
    """
    if name not in _LOGGERS:
        raise ValueError(
            f"there is no logger {name!r}; {_names.nearest(name, _LOGGERS)}"
        )
    return _LOGGERS[name]


class _TensorBoard:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, record: Mapping[str, Any]) -> None:
        for name, value in _curves(record):
            self._writer.add_scalar(name, value, record.get("step", 0))


class _Wandb:
    def __init__(self, run: Any) -> None:
        self._run = run

    def write(self, record: Mapping[str, Any]) -> None:
        # Stages begin anew at step 0, which its own counter could not.
        steps = {f"{name}/step": record.get("step", 0) for name, _ in _curves(record)}
        self._run.log({**dict(_curves(record)), **steps})


def _curves(record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a record, each by the name of its curve."""
    own = [str(record[k]) for k in ("stage",) if k in record]
    own += [f"seed{record['seed']}"] if "seed" in record else []
    flat = dict(record)
    for name, inner in record.items():
        if isinstance(inner, Mapping):
            flat |= {f"{name}_{k}": v for k, v in inner.items()}
    for name, value in flat.items():
        if isinstance(value, int | float) and name not in ("seed", "step"):
            yield "/".join([name, *own]), float(value)
