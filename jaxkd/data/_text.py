"""Labelled texts, and their tokens."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxkd._extras import require
from jaxkd.data._dataset import (
    ClassOf,
    Dataset,
    class_folder,
    collect,
    encode,
    walk,
)


def read_text(
    source: str | pathlib.Path,
    *,
    separator: str = " ",
    encoding: str = "utf-8",
    split: str | None = None,
    classes: Sequence[str] | None = None,
    class_of: ClassOf = class_folder,
) -> Dataset:
    r"""Reads texts with labels.

    Args:
        source: a file with one example a line, its label first; or a folder or a tar
            with a folder for each class and in it a ``.txt`` for each text.
        separator: between the label and the text of a line.
        encoding: of the text, such as ``"latin-1"``.
        split: of a folder or tar, reads only the folder of this name.
        classes: the names of the classes, those of the split read before; by default
            those found, sorted.
        class_of: as in :func:`read_images`.

    Returns:
        A :class:`Dataset` of ``text`` ``[n]``, Python strings, and ``label`` ``[n]``.
        Replace ``text`` by what :func:`tokenize` makes of it before training.

    Raises:
        FileNotFoundError: if there is no such source.
        ValueError: if there are no texts, one cannot be decoded, a line has no label,
            or a class is none of ``classes``.

    Examples:
        >>> import pathlib, tempfile
        >>> from jaxkd import data
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "train"
        >>> _ = file.write_text("bad dull\ngood a joy\n")
        >>> dataset = data.read_text(file)
        >>> dataset.arrays["text"].tolist(), dataset.arrays["label"].tolist()
        (['dull', 'a joy'], [0, 1])
    """
    source = pathlib.Path(source)
    if source.is_dir() or ".tar" in source.suffixes or source.suffix == ".tgz":
        texts, _, labels, names = collect(
            walk(source, (".txt",), split),
            lambda content: content.decode(encoding),
            class_of,
            classes,
        )
        return Dataset({"text": _strings(texts), "label": labels}, names)
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist.")
    pairs = list(_lines(source, separator, encoding))
    if not pairs:
        raise ValueError(f"the dataset is empty: {source}.")
    labels, names = encode([label for label, _ in pairs], classes)
    return Dataset({"text": _strings([t for _, t in pairs]), "label": labels}, names)


def tokenize(
    texts: Sequence[str] | Sequence[tuple[str, str]] | np.ndarray,
    tokenizer: Any,
    *,
    max_length: int,
) -> dict[str, np.ndarray]:
    """The tokens of texts, all of one length.

    Args:
        texts: strings, or pairs of them.
        tokenizer: a ``tokenizers.Tokenizer``, which is not changed, or the path of a
            ``tokenizer.json``. Its own padding and truncation are not used.
        max_length: tokens to which each text is padded or cut.

    Returns:
        ``tokens`` ``[n, max_length]``, int32, and ``attention_mask``, booleans, true
        where there is no padding; for :class:`TrainBatches`, with the labels.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if there are no texts, or no room for one.
        ModuleNotFoundError: if ``tokenizers`` is not installed.

    Examples:
        >>> import tokenizers
        >>> from jaxkd import data
        >>> words = tokenizers.models.WordLevel({"?": 0, "a": 1, "b": 2}, unk_token="?")
        >>> tokenizer = tokenizers.Tokenizer(words)
        >>> tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        >>> data.tokenize(["a b", "b"], tokenizer, max_length=3)["tokens"].tolist()
        [[1, 2, 0], [2, 0, 0]]
    """
    module = require("tokenizers", "text", "tokenizing")
    if not isinstance(tokenizer, module.Tokenizer):
        file = pathlib.Path(tokenizer)
        if not file.is_file():
            raise FileNotFoundError(f"there is no tokenizer {file}.")
        tokenizer = module.Tokenizer.from_file(str(file))
    own = module.Tokenizer.from_str(tokenizer.to_str())
    if len(texts) == 0:
        raise ValueError("`texts` is empty.")
    special = own.num_special_tokens_to_add(isinstance(texts[0], tuple))
    if max_length <= special:
        raise ValueError(
            f"`max_length` must be more than the {special} special tokens, got "
            f"{max_length}."
        )
    padding = _padding(own)
    own.no_padding()
    own.enable_truncation(max_length)
    tokens = np.full((len(texts), max_length), padding, np.int32)
    mask = np.zeros(tokens.shape, bool)
    for row, encoding in enumerate(own.encode_batch(list(texts))):
        tokens[row, : len(encoding.ids)] = encoding.ids
        mask[row, : len(encoding.ids)] = True
    return {"tokens": tokens, "attention_mask": mask}


def _padding(tokenizer: Any) -> int:
    if tokenizer.padding:
        return tokenizer.padding["pad_id"]
    named = (tokenizer.token_to_id(name) for name in ("[PAD]", "<pad>"))
    return next((number for number in named if number is not None), 0)


def _lines(
    file: pathlib.Path, separator: str, encoding: str
) -> Iterator[tuple[str, str]]:
    try:
        whole = file.read_bytes().decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        raise ValueError(
            f"{file} is not {encoding}: {error}; see `encoding`."
        ) from error
    # Not splitlines: texts have other characters that it would take for line ends.
    for number, line in enumerate(whole.split("\n"), 1):
        label, found, text = line.rstrip("\r").partition(separator)
        if found:
            yield label, text
        elif label:
            raise ValueError(f"{file}, line {number}, has no {separator!r}: {line!r}.")


def _strings(texts: Sequence[str]) -> np.ndarray:
    array = np.empty(len(texts), object)
    array[:] = texts
    return array
