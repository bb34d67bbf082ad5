"""Arrays of an ``.npz`` as TFDS examples."""

import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxkd._extras import require
from jaxkd.data._arrays import check_arrays
from jaxkd.data._dataset import encode
from jaxkd.data._prepare_images import SPLITS, encode_png, hold_out
from jaxkd.data._tables import read_arrays

_NAMES = {"images": "image", "labels": "label", "y": "label"}
_Examples = Callable[[], Iterator[tuple[str, dict[str, Any]]]]


def plan_npz(
    source: pathlib.Path, shape: tuple[int, int, int] | None, holdout: float, seed: int
) -> tuple[dict[str, Any], dict[str, _Examples]]:
    """Reads the arrays, and says what the dataset will hold.

    Args:
        source: the file.
        shape: must be ``None``: arrays are kept as they are.
        holdout: the share of each class that becomes ``test``, if there are no splits.
        seed: which examples that are.

    Returns:
        The features, and for each split a function that makes its examples.

    Raises:
        ValueError: if arrays differ between splits, or do not fit each other.
    """
    if shape is not None:
        raise ValueError("`shape` is of image files; arrays are kept as they are.")
    splits = _splits(read_arrays(source), holdout, seed)
    splits = {split: check_arrays(arrays) for split, arrays in splits.items()}
    kinds = {split: _kinds(arrays) for split, arrays in splits.items()}
    for split, found in kinds.items():
        if found != kinds["train"]:
            raise ValueError(f"{split} has {found}, but train has {kinds['train']}.")
    features, splits = _features(splits)
    make = {split: functools.partial(_examples, x) for split, x in splits.items()}
    return features, make


def _splits(
    arrays: dict[str, np.ndarray], holdout: float, seed: int
) -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, array in arrays.items():
        first, _, last = key.partition("_")
        split, entry = (first, last) if first in SPLITS else (last, first)
        if split in SPLITS:
            found.setdefault(split, {})[_entry(entry, array)] = array
    if "train" in found:
        if sum(map(len, found.values())) < len(arrays):
            raise ValueError(f"some of {list(arrays)} are of no split.")
        return {split: found[split] for split in SPLITS if split in found}
    whole = check_arrays({_entry(key, x): x for key, x in arrays.items()})
    length = len(next(iter(whole.values())))
    label = whole.get("label")
    if label is None or not _is_label("label", label):
        label = np.zeros(length, int)
    held = hold_out(label, holdout, seed)
    return {
        "train": {name: x[~held] for name, x in whole.items()},
        "test": {name: x[held] for name, x in whole.items()},
    }


def _entry(name: str, array: np.ndarray) -> str:
    if name == "x" and array.dtype == np.uint8 and array.ndim in {3, 4}:
        return "image"
    return _NAMES.get(name, name)


def _is_images(name: str, array: np.ndarray) -> bool:
    if name != "image" or array.dtype != np.uint8:
        return False
    return array.ndim == 3 or (array.ndim == 4 and array.shape[-1] in {1, 3, 4})


def _is_label(name: str, array: np.ndarray) -> bool:
    return name == "label" and array.ndim == 1 and array.dtype.kind in "Uiu"


def _kinds(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    return {
        name: f"{'text' if x.dtype.kind == 'U' else x.dtype} {list(x.shape[1:])}"
        for name, x in sorted(arrays.items())
    }


def _features(
    splits: dict[str, dict[str, np.ndarray]],
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    tfds = require("tensorflow_datasets", "data", "writing a TFDS dataset")
    features: dict[str, Any] = {}
    for name, x in splits["train"].items():
        if _is_images(name, x):
            size = x.shape[1:] if x.ndim == 4 else (*x.shape[1:], 1)
            features[name] = tfds.features.Image(shape=size, encoding_format="png")
        elif _is_label(name, x):
            features[name], splits = _labels(tfds, splits)
        elif x.dtype.kind in "biuf":
            features[name] = tfds.features.Tensor(shape=x.shape[1:], dtype=x.dtype)
        else:
            raise ValueError(
                f"array {name!r} is neither numbers nor labels: {x.dtype}."
            )
    return features, splits


def _labels(tfds: Any, splits: dict[str, dict[str, Any]]) -> tuple[Any, Any]:
    train = splits["train"]["label"]
    if train.dtype.kind == "U":
        _, names = encode(train.tolist(), None)
        feature = tfds.features.ClassLabel(names=list(names))
    else:
        names = None
        low = min(int(x["label"].min()) for x in splits.values())
        if low < 0:
            raise ValueError(f"labels must be 0 or more, got {low}.")
        count = 1 + max(int(x["label"].max()) for x in splits.values())
        feature = tfds.features.ClassLabel(num_classes=count)
    numbers = {
        split: {
            **x,
            "label": encode(x["label"].tolist(), names)[0] if names else x["label"],
        }
        for split, x in splits.items()
    }
    return feature, numbers


def _examples(arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, dict[str, Any]]]:
    length = len(next(iter(arrays.values())))
    for i in range(length):
        example: dict[str, Any] = {}
        for name, x in arrays.items():
            if _is_images(name, x):
                example[name] = encode_png(x[i] if x.ndim == 4 else x[i][..., None])
            elif _is_label(name, x):
                example[name] = int(x[i])
            else:
                example[name] = x[i]
        yield f"{i:012d}", example
