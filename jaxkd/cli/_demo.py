"""``jaxkd demo``."""

import argparse
from typing import Any

from jaxkd.cli._options import add_run_options, run_recipe, say

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
    add_run_options(parser, "runs/demo")
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
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Runs the command.

    Args:
        parsed: the words of the command line.
    """
    asked = {"seed": parsed.seed, "steps": parsed.steps}
    changes = [f"{name}={x}" for name, x in asked.items() if x is not None]
    run_recipe("demo", parsed, changes=changes)
    say(f"Try it:  jaxkd predict {parsed.out}/exported/student {parsed.out}/digits.npy")
