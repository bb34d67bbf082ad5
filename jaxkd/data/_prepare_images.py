"""Image files as TFDS examples."""

import functools
import io
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from jaxkd._extras import require
from jaxkd.data._dataset import class_folder, walk
from jaxkd.data._images import SUFFIXES, check_shape, decode_image

SPLITS = ("train", "validation", "test")
_ORIENTATION = 0x0112  # of EXIF; 1 is upright
_Examples = Callable[[], Iterator[tuple[str, dict[str, Any]]]]


def plan_images(
    source: pathlib.Path, shape: tuple[int, int, int] | None, holdout: float, seed: int
) -> tuple[dict[str, Any], dict[str, _Examples]]:
    """Reads all images once, and says what the dataset will hold.

    Args:
        source: a folder or tar.
        shape: height, width and channels; by default as they are.
        holdout: the share of each class that becomes ``test``, if there are no splits.
        seed: which examples that are.

    Returns:
        The features, and for each split a function that makes its examples.

    Raises:
        ValueError: if a file cannot be read, or a class is only in ``test``.
    """
    tfds = require("tensorflow_datasets", "data", "writing a TFDS dataset")
    check_shape(shape)
    shapes: dict[pathlib.PurePosixPath, tuple[int, ...]] = {}
    for path, content in walk(source, SUFFIXES, None):
        try:
            shapes[path] = decode_image(content, shape).shape
        except ValueError as error:
            raise ValueError(f"cannot read {path}: {error}") from error
    places = _places(sorted(shapes), holdout, seed)
    names = _classes(places)
    common = _common_shape(list(shapes.values()))
    features = {
        "image": tfds.features.Image(shape=common),
        "label": tfds.features.ClassLabel(names=names),
    }

    def examples(split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for path, content in walk(source, SUFFIXES, None):
            own, name = places[path]
            if own == split:
                image = _stored(content, shape, common[2])
                yield str(path), {"image": image, "label": name}

    found = {split for split, _ in places.values()}
    splits = [split for split in SPLITS if split in found]
    return features, {split: functools.partial(examples, split) for split in splits}


def hold_out(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Draws the same share of each class, at least one of two or more.

    Args:
        labels: shape ``[n]``.
        share: in ``(0, 1)``.
        seed: of the draw.

    Returns:
        Booleans, ``[n]``, true for those held out.

    Raises:
        ValueError: if nothing would be held out.
    """
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        held[rng.permutation(rows)[:count]] = True
    if not held.any():
        raise ValueError("there are too few examples to hold some out for a test.")
    return held


_Places = dict[pathlib.PurePosixPath, tuple[str, str]]


def _places(paths: list[pathlib.PurePosixPath], holdout: float, seed: int) -> _Places:
    """The split and the class of each file."""
    depths = {path: _depth(path) for path in paths}
    if any(
        depth is not None and path.parts[depth] == "train"
        for path, depth in depths.items()
    ):
        found: _Places = {}
        for path, depth in depths.items():
            if depth is None:
                raise ValueError(
                    f"{path} lies outside the folders {', '.join(SPLITS)}."
                )
            inside = pathlib.PurePosixPath(*path.parts[depth + 1 :])
            found[path] = (path.parts[depth], class_folder(inside) or "")
        return found
    names = np.array([class_folder(path) for path in paths])
    held = hold_out(names, holdout, seed)
    return {
        path: ("test" if test else "train", str(name))
        for path, name, test in zip(paths, names, held, strict=True)
    }


def _depth(path: pathlib.PurePosixPath) -> int | None:
    # A tar often has one folder around all.
    return next((i for i, part in enumerate(path.parts[:2]) if part in SPLITS), None)


def _classes(places: _Places) -> list[str]:
    names = {name for split, name in places.values() if split == "train"}
    for path, (split, name) in places.items():
        if name not in names:
            raise ValueError(
                f"class {name!r} is in {split} ({path}), but not in train, which has "
                f"{', '.join(sorted(names))}."
            )
    return sorted(names)


def _common_shape(shapes: list[tuple[int, ...]]) -> tuple[int | None, int | None, int]:
    height, width, _ = shapes[0]
    channels = max(shape[2] for shape in shapes)
    if {shape[:2] for shape in shapes} == {(height, width)}:
        return (height, width, channels)
    return (None, None, channels)


def _stored(content: bytes, shape: tuple[int, int, int] | None, channels: int) -> bytes:
    module = require("PIL.Image", "data", "reading images")
    with module.open(io.BytesIO(content)) as image:
        upright = image.getexif().get(_ORIENTATION, 1) == 1
        same = shape is None or image.size == (shape[1], shape[0])
        if upright and same and image.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]:
            return content
    pixels = decode_image(content, shape)
    if pixels.shape[-1] != channels:  # a grey one among colours
        pixels = np.repeat(pixels, channels, axis=-1)
    return encode_png(pixels)


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG.

    Args:
        pixels: uint8, ``[height, width, channels]``.

    Returns:
        The file's content.
    """
    module = require("PIL.Image", "data", "writing images")
    stream = io.BytesIO()
    module.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(
        stream, "PNG"
    )
    return stream.getvalue()
