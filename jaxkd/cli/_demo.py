"""``jaxkd demo``."""

import argparse
import dataclasses
import pathlib
from typing import Any

_DESCRIPTION = """\
Distils, prunes, quantizes and exports a real model in about a minute.

A teacher learns scikit-learn's handwritten digits from all labels. A student eight
times smaller gets 50 labels and the teacher's soft targets. It is compared with the
same student trained alone, then pruned to 80 % zeros, quantized to int8 and exported.
Everything is done for three seeds. Nothing is downloaded.
"""


def add_to(commands: Any) -> None:
    """Adds the command.

    Args:
        commands: the subparsers of ``jaxkd``.
    """
    parser = commands.add_parser(
        "demo",
        help="distil, prune, quantize and export a real model",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/demo"),
        metavar="DIR",
        help="folder of the run (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="the first of the three seeds (default: 0)",
    )
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="updates of each model; fine-tuning takes half as many (default: 600)",
    )
    parser.add_argument(
        "--quiet", action="store_true", help="show no progress, only the result"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="continue the run in DIR, from its last checkpoints and with its settings",
    )
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Runs the command.

    Args:
        parsed: the words of the command line.
    """
    from jaxkd import recipes, report

    asked = {"seed": parsed.seed, "steps": parsed.steps}
    asked = {name: value for name, value in asked.items() if value is not None}
    found = recipes.read_config(parsed.out) if parsed.resume else None
    config = recipes.DemoConfig()
    if found is not None:
        config = recipes.DemoConfig.from_json(found["config"])
    config = dataclasses.replace(config, **asked)
    out, console = parsed.out, report.make_console()
    result = recipes.demo(config, out, resume=parsed.resume, quiet=parsed.quiet)
    report.print_table(console, result.rows)
    for paragraph in result.words:
        console.print(paragraph, end="\n\n")
    console.print(f"Report:  {out}/report.md and {out}/report.png", soft_wrap=True)
    example = f"jaxkd predict {out}/exported/student {out}/digits.npy"
    console.print(f"Try it:  {example}", soft_wrap=True)
