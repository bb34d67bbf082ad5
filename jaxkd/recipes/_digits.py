"""Handwritten digits, 8×8 pixels, shipped with scikit-learn."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jax import numpy as jnp

from jaxkd._extras import require
from jaxkd._types import Batch, PRNGKey

NUM_CLASSES = 10
ABOUT = (
    "scikit-learn's handwritten digits, 8 × 8 pixels; the scores are those of the test "
    "split, which no model has seen."
)
_TEST, _VALIDATION = 500, 297


class Digits(NamedTuple):
    """The dataset in three parts, the same in every run.

    Attributes:
        train: 1,000 examples: ``image`` ``[n, 8, 8, 1]`` float32 in ``[0, 1]``, and
            ``label`` ``[n]`` int32.
        validation: 297 examples, on which settings are chosen.
        test: 500 examples, on which nothing is.
    """

    train: dict[str, np.ndarray]
    validation: dict[str, np.ndarray]
    test: dict[str, np.ndarray]


def load_digits() -> Digits:
    """Loads the 1,797 digits that come with scikit-learn.

    Returns:
        :class:`Digits`; the parts are stratified by class.

    Raises:
        ModuleNotFoundError: if scikit-learn is not installed.
    """
    raw = require("sklearn.datasets", "demo", "the digits' dataset").load_digits()
    model_selection = require("sklearn.model_selection", "demo")
    images = (raw.images[..., None] / 16).astype(np.float32)
    labels = raw.target.astype(np.int32)
    rest, test = model_selection.train_test_split(
        np.arange(len(labels)), test_size=_TEST, stratify=labels, random_state=0
    )
    train, validation = model_selection.train_test_split(
        rest, test_size=_VALIDATION, stratify=labels[rest], random_state=0
    )

    def part(rows: Any) -> dict[str, np.ndarray]:
        return {"image": images[rows], "label": labels[rows]}

    return Digits(part(train), part(validation), part(test))


def hide_labels(
    arrays: dict[str, np.ndarray], *, keep: int, seed: int
) -> dict[str, np.ndarray]:
    """Keeps the labels of a few examples, the same number of each class.

    Args:
        arrays: with ``label``.
        keep: how many labels to keep, a multiple of the number of classes.
        seed: which ones.

    Returns:
        The arrays with ``labelled``, and labels of 0 where that is false, so that no
        hidden label can leak.
    """
    labels = arrays["label"]
    rng = np.random.default_rng(seed)
    labelled = np.zeros(len(labels), bool)
    for label in range(NUM_CLASSES):
        rows = np.flatnonzero(labels == label)
        labelled[rng.choice(rows, keep // NUM_CLASSES, replace=False)] = True
    return {**arrays, "label": np.where(labelled, labels, 0), "labelled": labelled}


@jax.jit
def augment_digits(key: PRNGKey, batch: Batch) -> Batch:
    """Shifts each image by up to one pixel and adds a little noise.

    Args:
        key: a typed key.
        batch: with ``image``.

    Returns:
        The batch with other images; teacher and student see the same.
    """
    images = batch["image"]
    shift_key, noise_key = jax.random.split(key)
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    corners = jax.random.randint(shift_key, (len(images), 2), 0, 3)

    def crop(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (*corner, 0), images.shape[1:])

    shifted = jax.vmap(crop)(padded, corners)
    noise = 0.05 * jax.random.normal(noise_key, images.shape)
    return {**batch, "image": shifted + noise}
