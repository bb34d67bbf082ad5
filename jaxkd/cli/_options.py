"""What the commands that run a recipe have in common."""

import argparse
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any


def add_run_options(parser: argparse.ArgumentParser, out: str) -> None:
    """Adds the options of a run.

    Args:
        parser: of the command.
        out: the default folder.
    """
    parser.add_argument(
        "--config",
        type=pathlib.Path,
        metavar="FILE",
        help="the settings, a file of JSON; what it leaves out has its default",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one setting: steps=100, widths=[8,16], or stages.1.steps=100, the "
        "first stage being number 1; can be given many times",
    )
    parser.add_argument(
        "--out",
        "--folder",
        type=pathlib.Path,
        default=pathlib.Path(out),
        metavar="DIR",
        help="folder of the run (default: %(default)s)",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="show no progress, only the result"
    )
    add_logger_option(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in DIR, from its last checkpoints and with its settings",
    )


def add_logger_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--log``.

    Args:
        parser: of the command.
    """
    parser.add_argument(
        "--log",
        action="append",
        default=[],
        metavar="LOGGER",
        help="also write curves for `tensorboard` or `wandb`; can be given twice",
    )


def run_recipe(
    name: str,
    parsed: argparse.Namespace,
    *,
    config: Mapping[str, Any] | None = None,
    changes: Sequence[str] = (),
) -> Any:
    """Runs a recipe with the settings that the options say, and shows what came out.

    Args:
        name: the recipe's.
        parsed: the words of the command line, those of :func:`add_run_options`.
        config: settings by name, instead of those in ``--config``.
        changes: as those of ``--set``.

    Returns:
        What the recipe returned.
    """
    from jaxkd import recipes, report

    recipe = recipes.find_recipe(name)
    settings = recipes.to_json(recipe.config())
    if parsed.resume and recipes.read_config(parsed.out) is not None:
        found, saved = recipes.read_run(parsed.out)
        if found != name:
            raise ValueError(f"{parsed.out} holds a run of {found!r}, not of {name!r}.")
        settings = recipes.to_json(saved)
    if config is None and parsed.config is not None:
        config = read_json(parsed.config)
    settings = recipes.change({**settings, **(config or {})}, [*changes, *parsed.set])
    chosen = recipes.from_json(recipe.config, settings)
    loggers = [report.find_logger(name) for name in parsed.log]
    options = {"resume": parsed.resume, "quiet": parsed.quiet, "loggers": loggers}
    result = recipe.run(chosen, parsed.out, **options)
    console = report.make_console()
    report.print_table(console, result.rows)
    for paragraph in getattr(result, "words", ()):
        console.print(paragraph, end="\n\n")
    where = f"{parsed.out}/report.html and {parsed.out}/report.md"
    console.print(f"Report:  {where}", soft_wrap=True)
    return result


def read_json(file: pathlib.Path) -> dict[str, Any]:
    """Settings by name, from a file.

    Args:
        file: of JSON.

    Returns:
        The settings.

    Raises:
        ValueError: if it is not there, no JSON, or no table.
    """
    try:
        found = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise ValueError(f"{file} does not exist.") from error
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} must hold settings by name, {{...}}.")
    return found


def say(words: str) -> None:
    """Prints a line, however long.

    Args:
        words: the line.
    """
    from jaxkd import report

    report.make_console().print(words, soft_wrap=True)
