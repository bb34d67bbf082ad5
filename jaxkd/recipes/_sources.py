"""Image datasets by the words a config has for them."""

import pathlib

import jax
import numpy as np

from jaxkd import _names, data
from jaxkd.recipes._digits import ABOUT, load_digits
from jaxkd.recipes._experiment.value import Splits

_PARTS = ("train", "test")


def load_images(source: str, *, validation: int = 1000) -> Splits:
    """Loads images with labels.

    Args:
        source: ``"digits"``, those that come with scikit-learn; the path of an ``.npz``
            with ``train_images``, ``train_labels``, ``test_images`` and
            ``test_labels``, or ``x_train``, ``y_train`` and so on; a folder with
            ``train`` and ``test`` in it, and in each a folder of images for each
            class; a folder of IDX files, as MNIST is given; or the name of a prepared
            TFDS dataset with ``image`` and ``label``, such as ``"mnist"``.
        validation: how many of the training examples are set aside: the last ones of a
            fixed permutation. The digits have a validation part of their own.

    Returns:
        The splits; ``image`` is float32 in ``[0, 1]``, shape ``[n, h, w, c]``.

    Raises:
        FileNotFoundError: if there is no such dataset; nothing is downloaded.
        KeyError: if an array is missing.
        ValueError: if shapes do not fit, or too few examples are left.
        ModuleNotFoundError: if the extra that reads it is not installed.
    """
    if source == "digits":
        parts = load_digits()
        names = tuple(map(str, range(10)))
        return Splits(parts.train, parts.validation, parts.test, names, ABOUT)
    names: tuple[str, ...] = ()
    if source.endswith(".npz"):
        parts, about = _from_npz(pathlib.Path(source)), f"{pathlib.Path(source).name}."
    elif all((pathlib.Path(source) / part).is_dir() for part in _PARTS):
        parts, names = _from_folder(source)
        about = f"{pathlib.Path(source).name}, a folder of images."
    elif any(pathlib.Path(source).glob("train-images-idx3-ubyte*")):
        parts = {part: data.read_idx(source, split=part).arrays for part in _PARTS}
        about = f"{pathlib.Path(source).name}, files of IDX."
    else:
        parts, about = _from_tfds(source), f"{source}, from TFDS."
    train, test = (_clean(parts[part], f"{source}, {part}") for part in _PARTS)
    if not 0 < validation < len(train["label"]):
        raise ValueError(
            f"{validation} of {len(train['label'])} training examples cannot be set "
            "aside for validation."
        )
    order = np.random.default_rng(0).permutation(len(train["label"]))
    own, held = order[:-validation], order[-validation:]
    classes = 1 + max(int(part["label"].max()) for part in (train, test))
    return Splits(
        {name: x[own] for name, x in train.items()},
        {name: x[held] for name, x in train.items()},
        test,
        names or tuple(map(str, range(classes))),
        about,
    )


def damage_images(test: data.Arrays) -> dict[str, data.Arrays]:
    """Images under noise and blurred, for the report of an experiment.

    Args:
        test: with ``image`` in ``[0, 1]``.

    Returns:
        The same examples, by the name of the damage: noise of standard deviation 0.2,
        and a blur over a twenty-eighth of the height.
    """
    height = np.shape(test["image"])[1]
    ways = {
        "noise": data.augment.noise(std=0.2),
        "blur": data.augment.blur(sigma=height / 28),
    }
    return {
        name: jax.device_get(damage(jax.random.key(0), dict(test)))
        for name, damage in ways.items()
    }


def _from_folder(source: str) -> tuple[dict[str, data.Arrays], tuple[str, ...]]:
    train = data.read_images(source, split="train", dtype=np.uint8)
    test = data.read_images(
        source,
        split="test",
        dtype=np.uint8,
        shape=np.shape(train.arrays["image"])[1:],
        classes=train.classes,
    )
    return {"train": train.arrays, "test": test.arrays}, train.classes


def _from_tfds(source: str) -> dict[str, data.Arrays]:
    try:
        return {part: data.tfds_arrays(source, part) for part in _PARTS}
    except (FileNotFoundError, ModuleNotFoundError) as error:
        raise type(error)(
            f"there is no folder {source!r} of images; as the name of a TFDS dataset: "
            f"{error}"
        ) from error


def _from_npz(file: pathlib.Path) -> dict[str, data.Arrays]:
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}.")
    with np.load(file, allow_pickle=False) as found:
        short = "x_train" in found
    names = ("x_{}", "y_{}") if short else ("{}_images", "{}_labels")
    return {
        part: data.read_npz(
            file,
            columns={
                key: name.format(part)
                for key, name in zip(("image", "label"), names, strict=True)
            },
        ).arrays
        for part in _PARTS
    }


def _clean(arrays: data.Arrays, about: str) -> dict[str, np.ndarray]:
    image = _names.get(arrays, "image", about)
    label = np.asarray(_names.get(arrays, "label", about))
    if image.ndim == 3:
        image = image[..., None]
    if image.ndim != 4 or len(image) != len(label) or label.ndim != 1:
        raise ValueError(
            f"{about}: images must be [n, h, w] or [n, h, w, c] and labels [n], got "
            f"{image.shape} and {label.shape}."
        )
    if image.dtype == np.uint8:
        image = image / np.float32(255)
    return {"image": image.astype(np.float32), "label": label.astype(np.int32)}
