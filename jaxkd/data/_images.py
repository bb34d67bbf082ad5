"""Folders and tars of images."""

import io
import pathlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxkd._extras import require
from jaxkd.data._dataset import ClassOf, Dataset, class_folder, collect, walk

SUFFIXES = (".png", ".jpg", ".jpeg")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def read_images(
    source: str | pathlib.Path,
    *,
    shape: tuple[int, int, int] | None = None,
    split: str | None = None,
    dtype: Any = np.float32,
    classes: Sequence[str] | None = None,
    class_of: ClassOf = class_folder,
) -> Dataset:
    """Reads PNG and JPEG images that lie in a folder for each class.

    Args:
        source: a folder, or a tar, compressed or not.
        shape: height, width, and channels (1 grey, 3 colours, 4 with opacity) to which
            each image is brought, smoothed where it shrinks; by default all must have
            one shape already.
        split: reads only the folder of this name, such as ``"train"``.
        dtype: ``float32`` in ``[0, 1]``, or ``uint8`` as stored.
        classes: the names of the classes, those of the split read before; by default
            those found, sorted.
        class_of: from the path (below the split) to its class, or ``None`` to leave the
            file out; by default the file's folder.

    Returns:
        A :class:`Dataset` of ``image`` ``[n, height, width, channels]`` and ``label``
        ``[n]``, sorted by path.

    Raises:
        FileNotFoundError: if there is no such source.
        ValueError: if there are no images, one cannot be read or is too large to be
            trusted, shapes differ, or a class is none of ``classes``.
        ModuleNotFoundError: if Pillow is not installed.

    Examples:
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> from PIL import Image
        >>> from jaxkd import data
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("cat", "dog"):
        ...     (folder / name).mkdir()
        ...     Image.new("RGB", (4, 3), "white").save(folder / name / "1.png")
        >>> dataset = data.read_images(folder)
        >>> dataset.arrays["image"].shape, dataset.arrays["label"], dataset.classes
        ((2, 3, 4, 3), array([0, 1], dtype=int32), ('cat', 'dog'))
    """
    if np.dtype(dtype) not in (np.dtype(np.uint8), np.dtype(np.float32)):
        raise ValueError(f"`dtype` must be float32 or uint8, got {np.dtype(dtype)}.")
    check_shape(shape)
    images, paths, labels, names = collect(
        walk(source, SUFFIXES, split),
        lambda content: decode_image(content, shape),
        class_of,
        classes,
    )
    for image, path in zip(images, paths, strict=True):
        if image.shape != images[0].shape:
            raise ValueError(
                f"{path} has shape {image.shape}, but {paths[0]} has "
                f"{images[0].shape}; `shape` brings them to one."
            )
    stacked = np.stack(images)
    if np.dtype(dtype) == np.float32:
        stacked = stacked / np.float32(255)
    return Dataset({"image": stacked, "label": labels}, names)


def check_shape(shape: tuple[int, int, int] | None) -> None:
    """Raises unless images can have a shape.

    Args:
        shape: height, width and channels, or ``None``.

    Raises:
        ValueError: if they cannot.
    """
    if shape is None:
        return
    if len(shape) != 3 or min(shape) < 1 or shape[2] not in _MODES:
        raise ValueError(
            f"`shape` must be (height, width, channels), channels 1, 3 or 4, got "
            f"{shape}."
        )


def decode_image(content: bytes, shape: tuple[int, int, int] | None) -> np.ndarray:
    """The pixels of a PNG or JPEG.

    Args:
        content: of the file.
        shape: height, width and channels; by default as stored, colours but for grey
            images.

    Returns:
        uint8, ``[height, width, channels]``.

    Raises:
        ValueError: if it cannot be read, has more than 8 bits a channel, or so many
            pixels that Pillow takes it for an attack.
    """
    image_module = require("PIL.Image", "data", "reading images")
    operations = require("PIL.ImageOps", "data", "reading images")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", image_module.DecompressionBombWarning)
            with image_module.open(io.BytesIO(content), formats=("PNG", "JPEG")) as raw:
                return _pixels(operations.exif_transpose(raw), shape, image_module)
    except (
        image_module.DecompressionBombWarning,
        image_module.DecompressionBombError,
    ) as error:
        raise ValueError(f"it has too many pixels: {error}") from error
    except (OSError, SyntaxError, EOFError) as error:  # what Pillow raises of damage
        raise ValueError(f"it is no PNG or JPEG, or damaged: {error}.") from error


def _pixels(image: Any, shape: tuple[int, int, int] | None, module: Any) -> np.ndarray:
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"it has more than 8 bits a channel (mode {image.mode}).")
    if shape is None:
        image = image.convert("L" if image.mode in {"1", "L"} else "RGB")
    else:
        image = image.convert(_MODES[shape[2]])
        if image.size != (shape[1], shape[0]):
            image = image.resize((shape[1], shape[0]), module.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]
