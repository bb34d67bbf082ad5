"""``jaxkd report``."""

import pathlib
from typing import Any

from jaxkd.cli._options import say


def add_to(commands: Any) -> None:
    """Adds the command.

    Args:
        commands: the subparsers of ``jaxkd``.
    """
    parser = commands.add_parser(
        "report",
        help="compare runs: a table, a plot, a page",
        description="Compares finished runs, and writes a table (report.md), a plot "
        "(report.png) and a page that needs no network (report.html).",
    )
    parser.add_argument(
        "runs", type=pathlib.Path, metavar="DIR", nargs="+", help="the runs' folders"
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/report"),
        metavar="DIR",
        help="where the report goes (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(parsed: Any) -> None:
    """Runs the command.

    Args:
        parsed: the words of the command line.
    """
    from jaxkd import recipes, report

    rows = recipes.compare_runs(parsed.runs, parsed.out)
    report.print_table(report.make_console(), rows)
    say(f"Report:  {parsed.out}/report.html and {parsed.out}/report.md")
