"""``jaxkd run``, ``jaxkd resume`` and ``jaxkd list``."""

import argparse
import pathlib
from typing import Any

from jaxkd.cli._options import add_logger_option, add_run_options, run_recipe, say


def add_to(commands: Any) -> None:
    """Adds the commands.

    Args:
        commands: the subparsers of ``jaxkd``.
    """
    parser = commands.add_parser(
        "run",
        help="run a recipe",
        description="Runs a recipe: a whole experiment, whose settings are those that "
        "`jaxkd list RECIPE` shows.",
    )
    parser.add_argument("recipe", metavar="RECIPE", help="a name of `jaxkd list`")
    add_run_options(parser, "runs/RECIPE")
    parser.set_defaults(run=run)

    parser = commands.add_parser(
        "resume",
        help="continue a run",
        description="Continues a run that was stopped or killed, from its last "
        "checkpoints and with its settings.",
    )
    parser.add_argument("out", type=pathlib.Path, metavar="DIR", help="its folder")
    parser.add_argument(
        "--quiet", action="store_true", help="show no progress, only the result"
    )
    add_logger_option(parser)
    parser.set_defaults(run=resume, config=None, set=[], resume=True)

    parser = commands.add_parser(
        "list",
        help="show the recipes, or the settings of one",
        description="Shows all recipes; with a name, the settings of that one.",
    )
    parser.add_argument("recipe", metavar="RECIPE", nargs="?", help="one of them")
    parser.set_defaults(run=show)


def run(parsed: argparse.Namespace) -> None:
    """Runs a recipe.

    Args:
        parsed: the words of the command line.
    """
    if parsed.out == pathlib.Path("runs/RECIPE"):
        parsed.out = pathlib.Path("runs") / parsed.recipe
    run_recipe(parsed.recipe, parsed)


def resume(parsed: argparse.Namespace) -> None:
    """Continues a run.

    Args:
        parsed: the words of the command line.
    """
    from jaxkd import recipes

    name, _ = recipes.read_run(parsed.out)
    run_recipe(name, parsed)


def show(parsed: argparse.Namespace) -> None:
    """Shows the recipes, or one's settings with their defaults.

    Args:
        parsed: the words of the command line.
    """
    import json

    from jaxkd import recipes

    if parsed.recipe is None:
        width = max(map(len, recipes.RECIPES))
        for name, recipe in recipes.RECIPES.items():
            say(f"{name:<{width}}  {recipe.summary}")
        return
    recipe = recipes.find_recipe(parsed.recipe)
    say(f"{parsed.recipe}: {recipe.summary}")
    for name, value in recipes.to_json(recipe.config()).items():
        say(f"  {name} = {json.dumps(value)}")
