"""``jaxkd tune``."""

import argparse
import pathlib
from typing import Any

from jaxkd.cli._options import read_json, say


def add_to(commands: Any) -> None:
    """Adds the command.

    Args:
        commands: the subparsers of ``jaxkd``.
    """
    parser = commands.add_parser(
        "tune",
        help="search for a recipe's best settings",
        description="Searches for the settings by which a recipe's last model is best "
        "on validation data; a search that was stopped goes on.",
    )
    parser.add_argument("recipe", metavar="RECIPE", help="a name of `jaxkd list`")
    parser.add_argument(
        "--try",
        dest="ranges",
        action="append",
        required=True,
        metavar="NAME=RANGE",
        help="a setting and where to look for it: temperature=1:8, "
        "learning_rate=1e-4:1e-2:log or network=mlp,cnn; can be given many times",
    )
    parser.add_argument(
        "--trials", type=int, default=20, metavar="N", help="how many (default: 20)"
    )
    parser.add_argument(
        "--config",
        type=pathlib.Path,
        metavar="FILE",
        help="the other settings, a file of JSON",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one of the other settings; can be given many times",
    )
    parser.add_argument(
        "--out", type=pathlib.Path, metavar="DIR", help="folder of the search"
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Runs the command.

    Args:
        parsed: the words of the command line.
    """
    from jaxkd import recipes

    out = parsed.out or pathlib.Path("runs") / f"tune-{parsed.recipe}"
    given = {} if parsed.config is None else read_json(parsed.config)
    found = recipes.tune(
        parsed.recipe,
        dict(recipes.read_range(words) for words in parsed.ranges),
        out,
        trials=parsed.trials,
        settings=recipes.change(given, parsed.set),
        quiet=parsed.quiet,
    )
    counts = ", ".join(f"{number} {state}" for state, number in found.trials.items())
    say(f"Trials:  {counts}")
    say(f"Best:    {found.accuracy:.2%} on validation data, with {found.settings}")
    say(f"Report:  {out}/report.html and {out}/report.md")
    say(f"Use it:  jaxkd run {parsed.recipe} --config {out}/best.json")
