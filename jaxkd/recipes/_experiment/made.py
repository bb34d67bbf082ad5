"""Training examples that are made of the teacher, and kept with the run."""

import pathlib
from typing import Any

import numpy as np

from jaxkd import data, report
from jaxkd.models import Variables
from jaxkd.recipes._experiment.value import MakeExamples

_SHOWN = 10


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
    file = _file(folder, name, seed)
    if not file.is_file():
        arrays = make(teacher, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        staging = file.with_suffix(".part")
        with staging.open("wb") as stream:  # so that the file is whole or not there
            found: dict[str, Any] = {key: np.asarray(x) for key, x in arrays.items()}
            np.savez(stream, **found)
        staging.replace(file)
    return data.read_npz(file).arrays


def draw_made(
    folder: pathlib.Path, title: str, name: str, seed: int
) -> list[report.Part]:
    """Draws ten of the images that were made to train on, over all of them.

    Args:
        folder: the run's folder.
        title: what the student is called.
        name: of the file.
        seed: the seed.

    Returns:
        One part of the report; none if the examples are no images.
    """
    found = data.read_npz(_file(folder, name, seed)).arrays.get("image")
    if found is None or found.ndim != 4:
        return []
    rows = np.linspace(0, len(found) - 1, min(_SHOWN, len(found))).astype(int)
    title, file = f"What “{title}” learned from", folder / f"made-{name}.png"
    captions = [f"image {row:,}" for row in rows]
    report.plot_images(found[rows], captions, file, title=title)
    words = f"{len(found):,} images; no real one is among them."
    return [report.Part(title, [words], picture=file)]


def _file(folder: pathlib.Path, name: str, seed: int) -> pathlib.Path:
    return folder / "made" / f"seed{seed}" / f"{name}.npz"
