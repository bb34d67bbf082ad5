"""``jaxkd serve``."""

import argparse
import pathlib
import sys
from typing import Any


def add_to(commands: Any) -> None:
    """Adds the command.

    Args:
        commands: the subparsers of ``jaxkd``.
    """
    parser = commands.add_parser(
        "serve",
        help="answer HTTP requests with an exported model",
        description="Serves an exported model over HTTP: POST /predict with "
        '{"inputs": {name: nested lists}}, and GET /health. Without users or '
        "passwords: on this machine only, unless --host says otherwise.",
    )
    parser.add_argument(
        "artefact", type=pathlib.Path, metavar="ARTEFACT", help="an exported folder"
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument(
        "--port", type=int, default=8000, metavar="N", help="default: %(default)s"
    )
    parser.add_argument(
        "--max-batch",
        type=int,
        default=64,
        metavar="N",
        help="the most examples that are answered at once (default: %(default)s)",
    )
    parser.add_argument(
        "--max-body",
        type=int,
        default=2**20,
        metavar="BYTES",
        help="the most bytes of a request (default: %(default)s)",
    )
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Runs the command.

    Args:
        parsed: the words of the command line.

    Raises:
        ValueError: if there is no such port.
    """
    from jaxkd import deploy

    if not 0 < parsed.port < 2**16:
        raise ValueError(f"--port must be from 1 to 65535, got {parsed.port}.")
    artefact = deploy.load(parsed.artefact)
    address = f"jaxkd: http://{parsed.host}:{parsed.port}/predict"
    deploy.serve(
        artefact,
        host=parsed.host,
        port=parsed.port,
        ready=lambda: print(address, file=sys.stderr),
        max_batch=parsed.max_batch,
        max_body=parsed.max_body,
    )
