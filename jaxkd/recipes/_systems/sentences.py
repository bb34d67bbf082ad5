"""Labelled sentences in files, and what typing errors make of them."""

import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxkd import data

_PARTS = ("train", "dev", "test")
_TYPOS = {"typos in 1 word of 10": 0.1, "typos in 1 word of 3": 1 / 3}


class Sentences(NamedTuple):
    """Sentences in three parts, each of ``text`` and ``label``.

    Attributes:
        train: what models learn from.
        validation: what the best checkpoint is chosen by.
        test: what is reported.
        classes: the labels, sorted.
    """

    train: data.Arrays
    validation: data.Arrays
    test: data.Arrays
    classes: tuple[str, ...]


def load_sentences(
    source: str, *, encoding: str = "utf-8", labelled: bool = True
) -> Sentences:
    """Reads files of lines: a label, a space and a sentence.

    Args:
        source: a folder, or a path with which the names of the files begin:
            ``texts/TREC`` for ``texts/TREC.train.all`` and ``texts/TREC.test.all``.
            One has ``train`` in its name, one ``test``, and there may be one with
            ``dev``; without it, a tenth of the training part is set aside.
        encoding: of the files.
        labelled: whether there are labels; without them a line is a sentence, and all
            are of one class.

    Returns:
        The parts.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if there are several, a line has no label, one cannot be decoded, a
            label is not among those of the training part, or there are too few.
    """
    found: dict[str, data.Dataset] = {}
    classes: tuple[str, ...] | None = None
    for part in _PARTS:
        file = _file(source, part)
        if file is None and part != "dev":
            raise FileNotFoundError(f"there is no file {source}*{part}*.")
        if file is not None:
            read = data.read_text if labelled else _read_plain
            found[part] = read(file, encoding=encoding, classes=classes)
            classes = tuple(found[part].classes)
    train, test = found["train"].arrays, found["test"].arrays
    names = tuple(found["train"].classes)
    if "dev" in found:
        return Sentences(train, found["dev"].arrays, test, names)
    order = np.random.default_rng(0).permutation(len(train["label"]))
    held = len(order) // 10
    if not held:
        raise ValueError(f"{source}: {len(order)} training sentences are too few.")
    own, rest = (
        {name: x[rows] for name, x in train.items()}
        for rows in (order[held:], order[:held])
    )
    return Sentences(own, rest, test, names)


def misspell(texts: Sequence[str], *, share: float, seed: int = 0) -> list[str]:
    """Texts in which two letters of some words have changed places.

    First and last letters stay, so words of fewer than four do.

    Args:
        texts: the texts.
        share: of the longer words, how many are misspelt.
        seed: of the choice.

    Returns:
        As many texts.
    """
    rng = np.random.default_rng(seed)

    def wrong(word: str) -> str:
        if len(word) < 4 or rng.random() >= share:
            return word
        i = int(rng.integers(1, len(word) - 2))
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]

    return [" ".join(map(wrong, text.split(" "))) for text in texts]


def with_typos(
    arrays: data.Arrays,
    texts: Sequence[str],
    tokenize: Callable[[Sequence[str]], data.Arrays],
) -> dict[str, data.Arrays]:
    """A part of the data, with typing errors in a few words, and in many.

    Args:
        arrays: the part.
        texts: its sentences.
        tokenize: makes of sentences the entries to replace.

    Returns:
        The part by the name of the damage.
    """
    return {
        name: {**arrays, **tokenize(misspell(texts, share=share))}
        for name, share in _TYPOS.items()
    }


def _read_plain(
    file: pathlib.Path, *, encoding: str, classes: Sequence[str] | None
) -> data.Dataset:
    try:
        lines = file.read_bytes().decode(encoding).split("\n")
    except (UnicodeDecodeError, LookupError) as error:
        raise ValueError(
            f"{file} is not {encoding}: {error}; see `encoding`."
        ) from error
    texts = [line.strip() for line in lines if line.strip()]
    if not texts:
        raise ValueError(f"the dataset is empty: {file}.")
    arrays = {"text": np.array(texts, object), "label": np.zeros(len(texts), np.int32)}
    return data.Dataset(arrays, tuple(classes or ("any",)))


def _file(source: str, part: str) -> pathlib.Path | None:
    place = pathlib.Path(source)
    folder, start = (place, "") if place.is_dir() else (place.parent, place.name)
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}.")
    files = sorted(
        file
        for file in folder.iterdir()
        if file.name.startswith(start) and part in file.name[len(start) :]
    )
    if len(files) > 1:
        raise ValueError(
            f"both {files[0].name} and {files[1].name} could be the {part} part; give "
            "more of their names in `data`."
        )
    return files[0] if files else None
