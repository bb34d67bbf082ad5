"""Modules that an extra installs: imported where they are needed, never before."""

import importlib
from typing import Any


def require(module: str, extra: str, doing: str = "this", *, command: str = "") -> Any:
    """Imports a module of an extra.

    Args:
        module: its name.
        extra: the extra that installs it.
        doing: what needs it, for the error: ``"reading images"``.
        command: what else is to be run to install it.

    Returns:
        The module.

    Raises:
        ModuleNotFoundError: if it is not installed; the message says how to.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # Not 'jaxkd[extra]': on PyPI that name is a project of others.
        raise ModuleNotFoundError(
            f"{doing} needs {error.name}; in your clone of jaxkd: "
            f"pip install -e '.[{extra}]'{command}",
            name=error.name,
        ) from error
