"""Parsing, and turning errors into one sentence and an exit code."""

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence

from jaxkd._version import __version__
from jaxkd.cli import (
    _bench,
    _compress,
    _data,
    _demo,
    _evaluate,
    _export,
    _predict,
    _recipes,
    _report,
    _serve,
    _tune,
)

_COMMANDS = (
    _demo,
    _compress,
    _recipes,
    _report,
    _tune,
    _export,
    _evaluate,
    _bench,
    _predict,
    _serve,
    _data,
)
# What the user asked for is wrong, rather than the doing of it.
_USAGE = (ValueError, TypeError, KeyError, FileNotFoundError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``jaxkd``.

    Args:
        arguments: the words after ``jaxkd``; those of the process by default.

    Returns:
        The exit code: 0 good, 1 failure, 2 wrong usage.
    """
    parser = argparse.ArgumentParser(
        prog="jaxkd",
        description="Knowledge distillation and model compression for JAX.",
    )
    parser.add_argument("--version", action="version", version=f"jaxkd {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in _COMMANDS:
        command.add_to(commands)
    try:
        parsed = parser.parse_args(arguments)
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax narrates its work
    warnings.showwarning = _show_warning
    return _run(parsed)


def _run(parsed: argparse.Namespace) -> int:
    try:
        parsed.run(parsed)
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("jaxkd: interrupted.", file=sys.stderr)
        return 1
    except _USAGE as error:
        print(f"jaxkd: {_sentence(error)}", file=sys.stderr)
        return 2
    except (RuntimeError, ArithmeticError, ImportError, OSError) as error:
        print(f"jaxkd: {_sentence(error)}", file=sys.stderr)
        return 1
    return 0


def _sentence(error: Exception) -> str:
    # A KeyError prints its message in quotes.
    return str(error.args[0] if isinstance(error, KeyError) else error)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"jaxkd: warning: {message}", file=sys.stderr)
