"""``jaxkd predict``."""

import argparse
import pathlib
import zipfile
from typing import Any

# What NumPy raises for files that are none of its own, or say that they are huge.
_NO_ARRAYS = (ValueError, EOFError, OSError, MemoryError, zipfile.BadZipFile)


def add_to(commands: Any) -> None:
    """Adds the command.

    Args:
        commands: the subparsers of ``jaxkd``.
    """
    parser = commands.add_parser(
        "predict",
        help="run an exported model",
        description="Runs an exported model on the arrays of a file and prints the "
        "most likely class of each example, one a line.",
    )
    parser.add_argument(
        "artefact", type=pathlib.Path, metavar="ARTEFACT", help="an exported folder"
    )
    parser.add_argument(
        "input",
        type=pathlib.Path,
        metavar="INPUT",
        help="a .npy file of inputs, the first axis counting examples; or a .npz file "
        "with one array for each input",
    )
    parser.add_argument(
        "--logits",
        type=pathlib.Path,
        metavar="FILE",
        help="also write the logits, to a new .npy file",
    )
    parser.set_defaults(run=run)


def run(parsed: argparse.Namespace) -> None:
    """Runs the command.

    Args:
        parsed: the words of the command line.

    Raises:
        ValueError: if a file does not fit.
    """
    import numpy as np

    from jaxkd import deploy

    artefact = deploy.load(parsed.artefact)
    logits = np.asarray(artefact.predict(_read(parsed.input, artefact.manifest)))
    if parsed.logits is not None:
        with parsed.logits.open("xb") as stream:
            np.save(stream, logits)
    best = np.argmax(logits, axis=-1) if logits.ndim > 1 else logits
    for answer in best.reshape(len(logits), -1):
        print(*answer)


def _read(file: pathlib.Path, manifest: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    try:
        with file.open("rb") as stream:
            found = np.load(stream, allow_pickle=False)
            if not isinstance(found, np.ndarray):
                return dict(found)
    except FileNotFoundError as error:
        raise ValueError(f"{file} does not exist.") from error
    except _NO_ARRAYS as error:
        raise ValueError(f"{file} is no .npy or .npz file of plain arrays.") from error
    names = list(manifest["inputs"])
    if len(names) != 1:
        raise ValueError(
            f"the model has {len(names)} inputs ({', '.join(names)}): give a .npz file "
            "with these names."
        )
    return {names[0]: found}
