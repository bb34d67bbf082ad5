"""From files to a TFDS dataset that is read at random, without TensorFlow."""

import contextlib
import io
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from jaxkd import _checks
from jaxkd._extras import require
from jaxkd.data._prepare_images import plan_images
from jaxkd.data._prepare_npz import plan_npz

_VERSION = "1.0.0"
_DESCRIPTION = "Prepared by jaxkd."
_Examples: TypeAlias = Callable[[], Iterator[tuple[str, dict[str, Any]]]]


class Plan(NamedTuple):
    """What a dataset will hold."""

    features: Mapping[str, Any]
    splits: Mapping[str, _Examples]


def prepare(
    source: str | pathlib.Path,
    directory: str | pathlib.Path,
    *,
    name: str,
    shape: tuple[int, int, int] | None = None,
    holdout: float = 0.1,
    seed: int = 0,
) -> pathlib.Path:
    """Writes images or arrays as a TFDS dataset in random-access files.

    The folder appears, complete, when all has gone well. Images are kept as they are
    stored unless they must change, and then become PNG.

    Args:
        source: a folder, or a tar, of PNG and JPEG images in a folder for each class;
            or an ``.npz``. If it has ``train`` and ``test`` (and ``validation``), as
            folders, or as arrays such as ``train_images`` and ``train_labels`` or
            ``x_train`` and ``y_train``, these are the splits.
        directory: the folder of TFDS datasets, ``data_dir``, made if needed.
        name: of the dataset: small letters, digits and ``_``.
        shape: of images, as in :func:`read_images`; by default as they are.
        holdout: if there are no such splits, the share of each class that becomes
            ``test``.
        seed: which examples that are.

    Returns:
        The dataset's folder, ``directory/name/1.0.0``, for
        ``tfds.builder_from_directory``; :func:`from_tfds` and :func:`tfds_arrays` take
        ``name`` and ``data_dir=directory``.

    Raises:
        FileExistsError: if the dataset is there already.
        FileNotFoundError: if there is no such source.
        ValueError: if the source is empty, a file cannot be read, a class is only in
            ``test``, or the name or share is wrong; nothing is written then.
        ModuleNotFoundError: if the extra ``data`` is not installed.

    Examples:
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> from jaxkd import data
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> images = np.zeros((20, 4, 4), np.uint8)
        >>> np.savez(folder / "a.npz", image=images, label=np.arange(20) % 2)
        >>> made = data.prepare(folder / "a.npz", folder, name="tiny")
        >>> data.tfds_arrays("tiny", "train", data_dir=folder)["image"].shape
        (18, 4, 4, 1)
    """
    source, directory = pathlib.Path(source), pathlib.Path(directory)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(
            f"`name` must be small letters, digits and _, a letter first, got {name!r}."
        )
    _checks.check_inside_unit_interval(holdout=holdout)
    target = directory / name / _VERSION
    if target.exists():
        raise FileExistsError(f"{target} exists already, and nothing was written.")
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist.")
    plan = plan_npz if source.suffix == ".npz" else plan_images
    features, splits = plan(source, shape, holdout, seed)
    directory.mkdir(parents=True, exist_ok=True)
    staging = pathlib.Path(tempfile.mkdtemp(prefix=f".{name}-", dir=directory))
    try:
        made = _write(staging, name, Plan(features, splits))
        target.parent.mkdir(exist_ok=True)
        made.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return target


def _write(staging: pathlib.Path, name: str, plan: Plan) -> pathlib.Path:
    tfds = require("tensorflow_datasets", "data", "writing a TFDS dataset")
    require("array_record", "data", "writing a TFDS dataset")

    with tfds.core.registered.skip_registration():

        class Prepared(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version(_VERSION)
            # Where TFDS would look for a description beside the code.
            pkg_dir_path = staging

            def _info(self) -> Any:
                return tfds.core.DatasetInfo(
                    builder=self,
                    description=_DESCRIPTION,
                    features=tfds.features.FeaturesDict(plan.features),
                )

            def _split_generators(self, _: Any) -> dict[str, Any]:
                return {split: make() for split, make in plan.splits.items()}

            def _generate_examples(self) -> Any:
                raise NotImplementedError("the splits are generators themselves.")

    Prepared.name = name
    builder = Prepared(data_dir=str(staging), file_format="array_record")
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    with contextlib.redirect_stdout(io.StringIO()):  # it speaks of a download
        builder.download_and_prepare(download_config=config)
    return pathlib.Path(str(builder.data_path))
