"""``jaxkd export``."""

import argparse
import pathlib
from typing import Any

_DESCRIPTION = """\
Exports a model of a run to other formats, checks each against the model, scores it on
the test split, measures it in a fresh process, and writes a model card beside it.

Formats: stablehlo, safetensors (weights alone), onnx, onnx-int8, litert, litert-int8,
litert-int4; of a run of `text` also huggingface, for transformers.
"""


def add_to(commands: Any) -> None:
    """Adds the command.

    Args:
        commands: the subparsers of ``jaxkd``.
    """
    parser = commands.add_parser(
        "export",
        help="export a run's model to ONNX, LiteRT, StableHLO or safetensors",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder",
        type=pathlib.Path,
        metavar="RUN",
        help="the folder of `jaxkd run`, `jaxkd demo` or `jaxkd compress`",
    )
    parser.add_argument(
        "--to",
        required=True,
        metavar="FORMATS",
        help="formats, separated by commas: onnx,litert-int8",
    )
    parser.add_argument(
        "--model",
        default="student",
        metavar="NAME",
        help="which model: by its folder in RUN/exported, of a compression "
        "student, teacher or a stage such as 2-shrink (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Runs the command.

    Args:
        parsed: the words of the command line.
    """
    from jaxkd import recipes

    formats = [word.strip() for word in parsed.to.split(",")]
    for folder in recipes.export_run(parsed.folder, formats, name=parsed.model):
        print(folder)
