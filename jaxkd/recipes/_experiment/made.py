"""Training examples that are made of the teacher, and kept with the run."""

import pathlib
from typing import Any

import numpy as np

from jaxkd import data
from jaxkd.models import Variables
from jaxkd.recipes._experiment.value import MakeExamples


def made_examples(
    folder: pathlib.Path,
    name: str,
    make: MakeExamples,
    teacher: Variables,
    seed: int,
) -> data.Arrays:
    """Makes examples, or reads those that an earlier attempt made.

    Args:
        folder: the run's folder; they are kept in ``made/seedN`` of it.
        name: of the file.
        make: makes them.
        teacher: the teacher's variables.
        seed: the seed.

    Returns:
        A dict of arrays.
    """
    file = made_file(folder, name, seed)
    if not file.is_file():
        arrays = make(teacher, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        staging = file.with_suffix(".part")
        with staging.open("wb") as stream:  # so that the file is whole or not there
            found: dict[str, Any] = {key: np.asarray(x) for key, x in arrays.items()}
            np.savez(stream, **found)
        staging.replace(file)
    return data.read_npz(file).arrays


def made_file(folder: pathlib.Path, name: str, seed: int) -> pathlib.Path:
    """Where examples are kept.

    Args:
        folder: the run's folder.
        name: of the file.
        seed: the seed.

    Returns:
        A path.
    """
    return folder / "made" / f"seed{seed}" / f"{name}.npz"
