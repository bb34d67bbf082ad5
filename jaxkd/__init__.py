"""jaxkd: knowledge distillation and model compression for JAX, as pure functions."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from jaxkd._version import __version__

if TYPE_CHECKING:
    from jaxkd import (
        checkpoint,
        compress,
        data,
        deploy,
        losses,
        models,
        objectives,
        recipes,
        report,
        train,
        trees,
    )

__all__ = [
    "checkpoint",
    "compress",
    "data",
    "deploy",
    "losses",
    "models",
    "objectives",
    "recipes",
    "report",
    "train",
    "trees",
]


def __getattr__(name: str) -> ModuleType:
    """Imports a subpackage at its first use, so that ``import jaxkd`` stays light."""
    if name in __all__:
        return importlib.import_module(f"jaxkd.{name}")
    raise AttributeError(f"module 'jaxkd' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
