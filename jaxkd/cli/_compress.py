"""``jaxkd compress``."""

import argparse
from typing import Any

from jaxkd.cli._options import add_run_options, run_recipe, say

_DESCRIPTION = """\
Compresses a model in stages: any sequence of distil, fine_tune, prune, shrink,
quantize, factorize, cluster and export. Each stage is measured; a run that was killed
goes on with --resume. The model is a CNN for the images that `data` names (by default
scikit-learn's handwritten digits), trained first; for your own, call
jaxkd.recipes.compress.

A config is JSON: {"floor": 0.95, "stages": [{"stage": "shrink", "keep": 0.25},
{"stage": "quantize", "steps": 200}, {"stage": "export", "formats": ["stablehlo"]}]}.
"""


def add_to(commands: Any) -> None:
    """Adds the command.

    Args:
        commands: the subparsers of ``jaxkd``.
    """
    parser = commands.add_parser(
        "compress",
        help="compress a model in stages, each measured",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_run_options(parser, "runs/compress")
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Runs the command.

    Args:
        parsed: the words of the command line.
    """
    from jaxkd import recipes

    run_recipe("compress", parsed)
    _, config = recipes.read_run(parsed.out)
    stage = config.names()[0]
    say(f"Try it:  jaxkd export {parsed.out} --to stablehlo --model {stage}")
