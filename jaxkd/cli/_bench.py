"""``jaxkd bench``."""

import argparse
import pathlib
from typing import Any

from jaxkd.cli._options import say


def add_to(commands: Any) -> None:
    """Adds the command.

    Args:
        commands: the subparsers of ``jaxkd``.
    """
    parser = commands.add_parser(
        "bench",
        help="compare exported models: size, latency, throughput",
        description="Measures exported models side by side, each in a fresh process, "
        "in turn, on random inputs. Ratios are to the first; times are medians.",
    )
    parser.add_argument(
        "artefacts",
        type=pathlib.Path,
        nargs="+",
        metavar="ARTEFACT",
        help="an exported folder",
    )
    parser.add_argument(
        "--batch",
        type=int,
        nargs="+",
        default=[1, 256],
        metavar="N",
        help="lengths of batches (default: 1 256)",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=20,
        metavar="N",
        help="how often each is timed (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Runs the command.

    Args:
        parsed: the words of the command line.
    """
    from jaxkd import deploy

    kinds = {path: deploy.load(path).manifest["kind"] for path in parsed.artefacts}
    runnable = [path for path, kind in kinds.items() if kind != "safetensors"]
    for path in kinds:
        if path not in runnable:
            say(f"{path} holds weights alone, which cannot be run: left out.")
    if not runnable:
        raise ValueError("there is nothing to measure: no artefact can be run.")
    found = deploy.measure_together(
        runnable, batch_sizes=parsed.batch, rounds=parsed.rounds
    )
    print(deploy.table(found))
