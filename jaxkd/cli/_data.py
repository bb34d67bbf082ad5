"""``jaxkd data``."""

import argparse
import pathlib
import re
from typing import Any

_DESCRIPTION = """\
Turns a folder or a tar of images (a folder for each class, in train/ and test/ if there
are such), or an .npz, into a TFDS dataset. It is read by its name and --out, with
jaxkd.data.from_tfds, or by tfds.builder_from_directory.
"""


def add_to(commands: Any) -> None:
    """Adds the command.

    Args:
        commands: the subparsers of ``jaxkd``.
    """
    parser = commands.add_parser("data", help="make a TFDS dataset of images or arrays")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    prepare = actions.add_parser(
        "prepare",
        help="make a TFDS dataset of images or arrays",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    prepare.add_argument("source", type=pathlib.Path, metavar="SOURCE")
    prepare.add_argument(
        "--out",
        type=pathlib.Path,
        required=True,
        metavar="DIR",
        help="the folder of TFDS datasets; made if needed",
    )
    prepare.add_argument(
        "--name", help="of the dataset (default: that of SOURCE, in small letters)"
    )
    prepare.add_argument(
        "--shape",
        metavar="H,W,C",
        help="bring images to a height, width and channels: 32,32,3",
    )
    prepare.add_argument(
        "--holdout",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="without folders train/ and test/, the share of each class that becomes "
        "the split test (default: %(default)s)",
    )
    prepare.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Runs the command.

    Args:
        parsed: the words of the command line.
    """
    from jaxkd import data

    name = parsed.name or _name_of(parsed.source)
    folder = data.prepare(
        parsed.source,
        parsed.out,
        name=name,
        shape=_shape_of(parsed.shape),
        holdout=parsed.holdout,
    )
    print(folder)


def _name_of(source: pathlib.Path) -> str:
    words = re.sub(r"\W+", "_", source.name.split(".")[0].lower()).strip("_")
    return words if words[:1].isalpha() else f"data_{words}".rstrip("_")


def _shape_of(words: str | None) -> tuple[int, int, int] | None:
    if words is None:
        return None
    try:
        height, width, channels = map(int, words.split(","))
    except ValueError as error:
        raise ValueError(
            f"--shape must be height,width,channels, got {words!r}."
        ) from error
    return height, width, channels
