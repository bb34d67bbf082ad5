"""Batches from TensorFlow Datasets, read without TensorFlow and without a network."""

import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxkd._extras import require


def from_tfds(
    name: str,
    split: str,
    *,
    batch_size: int,
    seed: int,
    data_dir: str | pathlib.Path | None = None,
) -> Iterator[dict[str, Any]]:
    """Endless, shuffled batches of a prepared TFDS dataset.

    The dataset is read by ``tfds.data_source`` through Grain, so it must have been
    prepared in a random-access format (``array_record``). Nothing is ever downloaded:
    if it is not there, the error says how to prepare it. In a run of many processes,
    each reads its own part of the examples.

    Args:
        name: the dataset's name, such as ``"mnist"`` or ``"mnist/3.0.1"``.
        split: a split, slices allowed: ``"train[:90%]"``.
        batch_size: examples in a batch (of this process).
        seed: of the shuffling.
        data_dir: where TFDS keeps its datasets; its own default if ``None``.

    Returns:
        An iterator of dicts of the dataset's features, ``index`` (the example's place
        in the split) and ``mask``; with ``get_state()`` and ``set_state(state)``, which
        resume exactly.

    Raises:
        FileNotFoundError: if the dataset is not prepared in ``data_dir``.
        ModuleNotFoundError: if the extra ``data`` is not installed.
        ValueError: if the split is empty or unknown, or smaller than a batch.
    """
    grain, source = _open(name, split, data_dir)
    if len(source) == 0:
        raise ValueError(f"the dataset is empty: {name}, split {split!r}.")
    places = grain.MapDataset.range(len(source)).seed(seed)
    own = places[jax.process_index() :: jax.process_count()]
    if len(own) < batch_size:
        raise ValueError(
            f"`batch_size` ({batch_size}) is more than the {len(own)} examples of "
            f"{name}, split {split!r}."
        )
    examples = own.shuffle().repeat().map(lambda place: _example(source, place))
    return iter(examples.batch(batch_size).to_iter_dataset())


def tfds_arrays(
    name: str, split: str, *, data_dir: str | pathlib.Path | None = None
) -> dict[str, np.ndarray]:
    """A whole prepared TFDS split as arrays, for evaluation or for data that fits.

    Args:
        name: the dataset's name.
        split: a split, slices allowed.
        data_dir: where TFDS keeps its datasets; its own default if ``None``.

    Returns:
        A dict of arrays, for :func:`eval_batches` or :class:`TrainBatches`.

    Raises:
        FileNotFoundError: if the dataset is not prepared in ``data_dir``.
        ModuleNotFoundError: if the extra ``data`` is not installed.
        ValueError: if the split is empty or unknown.
    """
    source = tfds_source(name, split, data_dir=data_dir)
    examples = [source[i] for i in range(len(source))]
    return {key: np.stack([e[key] for e in examples]) for key in examples[0]}


def tfds_source(
    name: str, split: str, *, data_dir: str | pathlib.Path | None = None
) -> Any:
    """A prepared TFDS split, to be read at any place, for :func:`grain_batches`.

    Args:
        name: the dataset's name.
        split: a split, slices allowed.
        data_dir: where TFDS keeps its datasets; its own default if ``None``.

    Returns:
        A source: ``len(source)``, and ``source[i]``, a dict of one example.

    Raises:
        FileNotFoundError: if the dataset is not prepared in ``data_dir``.
        ModuleNotFoundError: if the extra ``data`` is not installed.
        ValueError: if the split is empty or unknown.
    """
    _, source = _open(name, split, data_dir)
    if len(source) == 0:
        raise ValueError(f"the dataset is empty: {name}, split {split!r}.")
    return source


def _example(source: Any, place: int) -> dict[str, Any]:
    return {
        **source[place],
        "index": np.int32(place),
        "mask": np.bool_(True),
    }


def _open(name: str, split: str, data_dir: str | pathlib.Path | None) -> Any:
    grain = require("grain", "data", "reading TFDS")
    tfds = require("tensorflow_datasets", "data", "reading TFDS")
    where = str(data_dir) if data_dir is not None else None
    try:
        source = tfds.data_source(
            name,
            split=split,
            data_dir=where,
            download=False,
            try_gcs=False,
            builder_kwargs={"file_format": "array_record"},
        )
    except (tfds.core.DatasetNotFoundError, KeyError) as error:
        raise _not_found(name, where) from error
    except ValueError as error:
        raise ValueError(f"cannot read split {split!r} of {name}: {error}") from error
    return grain, source


def _not_found(name: str, data_dir: str | None) -> FileNotFoundError:
    where = data_dir or "the default folder of TFDS"
    return FileNotFoundError(
        f"{name} is not prepared in {where}, and jaxkd never downloads. On a machine "
        f"with a network run: tfds.builder({name!r}, data_dir={data_dir!r}, "
        "file_format='array_record').download_and_prepare()"
    )
