"""Checkpoints that are verified when they are read.

Orbax writes and reads the arrays. What it does not do, and this module does: notice
that bytes have changed, fall back to an older checkpoint, and tell a checkpoint of
another model, optimizer or teacher from one that is damaged.
"""

import json
import pathlib
import warnings
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self, cast

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from jaxkd import trees
from jaxkd._types import Tree
from jaxkd._version import __version__
from jaxkd.checkpoint._reading import (
    CheckpointError,
    check_finite,
    check_leaves,
    checksum,
    global_array,
    host_shape,
    read_manifest,
    read_state,
    shown,
)

_FORMAT = 1
_policies = ocp.training.preservation_policies


class Restored(NamedTuple):
    """What a checkpoint held.

    Attributes:
        step: its step.
        state: the state, in the structure and on the devices of the target.
        data: the position of the data, as it was given to ``save``.
        metrics: the metrics, as they were given to ``save``.
    """

    step: int
    state: Any
    data: Any
    metrics: dict[str, float]


class Checkpointer:
    """Saves and restores states in a folder, with Orbax.

    Each checkpoint carries a digest of its arrays, the shapes and dtypes of the state,
    and the fingerprint of the teacher, which itself is never saved. Saving is
    asynchronous: the arrays are copied to the host, and training goes on. A checkpoint
    appears under its name when it is whole, so a process killed while saving leaves the
    older ones as they are.

    Examples:
        >>> import tempfile
        >>> import jax.numpy as jnp
        >>> from jaxkd import checkpoint
        >>> state = {"w": jnp.arange(3.0)}
        >>> folder = tempfile.mkdtemp()
        >>> with checkpoint.Checkpointer(folder) as checkpointer:
        ...     checkpointer.save(10, state, data={"batches": 10})
        >>> with checkpoint.Checkpointer(folder) as checkpointer:
        ...     restored = checkpointer.restore(state)
        >>> restored.step, restored.data
        (10, {'batches': 10})
    """

    def __init__(
        self,
        directory: str | pathlib.Path,
        *,
        keep: int = 2,
        best: str | None = None,
        teacher: str | None = None,
    ) -> None:
        """Opens a folder, and makes it if there is none.

        Args:
            directory: the folder.
            keep: how many of the latest checkpoints to keep.
            best: a metric; the checkpoint with the largest is kept besides.
            teacher: the fingerprint of the teacher, ``trees.digest(variables)``.

        Raises:
            CheckpointError: if the folder cannot be written to.
        """
        self._directory: Any = pathlib.Path(directory).absolute()
        self._teacher = teacher
        self._best = best
        policies: list[Any] = [_policies.LatestN(keep)]
        if best is not None:
            policies.append(
                _policies.BestN(
                    get_metric_fn=lambda metrics: metrics[best],
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._orbax = ocp.training.Checkpointer(
                self._directory,
                preservation_policy=cast(
                    Any, _policies.AnyPreservationPolicy(policies)
                ),
            )
        except OSError as error:
            raise CheckpointError(
                f"cannot write checkpoints to {self._directory}: {error}."
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Waits until the last save is on disk.

        Raises:
            CheckpointError: if it could not be written.
        """
        try:
            self._orbax.close()
        except (OSError, ValueError) as error:  # tensorstore's are ValueErrors
            raise CheckpointError(
                f"the last checkpoint in {self._directory} was not written: {error}"
            ) from error

    def save(
        self,
        step: int,
        state: Tree,
        *,
        data: Any = None,
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Saves a state; returns when its arrays are copied.

        Args:
            step: number of updates done.
            state: a tree of arrays, typed keys among them.
            data: the position of the data, of plain values.
            metrics: numbers to keep with it, of which one may choose the best.

        Raises:
            CheckpointError: if the state holds NaN or anything but jax arrays, the
                folder holds this step or a later one, the metric that chooses the best
                is missing, or the previous save could not be written.
        """
        self._check_order(step)
        check_leaves(state)
        state = jax.tree.map(global_array, state)
        host = {path: trees.to_numpy(x) for path, x in trees.flatten(state).items()}
        check_finite(step, host)
        metrics = {name: float(value) for name, value in (metrics or {}).items()}
        self._check_best(metrics)
        manifest = {
            "format": _FORMAT,
            "jaxkd": __version__,
            "step": step,
            "digest": trees.digest(state),
            "leaves": {path: [str(x.dtype), list(x.shape)] for path, x in host.items()},
            "teacher": self._teacher,
            "data": data,
            "metrics": metrics,
        }
        text = json.dumps(manifest, sort_keys=True)
        try:
            self._orbax.wait()
            self._orbax.save_checkpointables_async(
                step,
                {"state": state},
                force=True,
                metrics=cast(Any, metrics or None),
                custom_metadata={"manifest": text, "checksum": checksum(text)},
            )
        except (
            OSError,
            ValueError,
            ocp.training.errors.StepAlreadyExistsError,
        ) as error:
            raise CheckpointError(
                f"cannot save step {step} in {self._directory}: {error}"
            ) from error

    def restore(self, target: Tree, *, best: bool = False) -> Restored | None:
        """Reads the newest checkpoint that is whole, or the best.

        One that is damaged is reported by a warning, set aside under the name
        ``<step>.damaged`` if the folder can be written to, and the one before it is
        tried.

        Args:
            target: a state of the same structure, whose values do not matter, such as
                that of ``train.init_state``; it says on which devices arrays go.
            best: begin with the one of the largest metric, instead of the newest.

        Returns:
            What was saved, or ``None`` if the folder holds no checkpoint.

        Raises:
            CheckpointError: if the checkpoint is of another model, optimizer, teacher
                or format, cannot be read for a reason outside it, or all checkpoints
                are damaged.
        """
        steps = self._steps(best=best)
        for step in steps:
            folder = self._directory / str(step)
            manifest = read_manifest(folder)
            if manifest is not None:
                self._check_manifest(folder, manifest, target)
                state = read_state(folder, target)
                if state is not None and trees.digest(state) == manifest["digest"]:
                    return Restored(step, state, manifest["data"], manifest["metrics"])
            self._set_aside(folder)
        if steps:
            raise CheckpointError(
                f"all {len(steps)} checkpoints in {self._directory} are damaged: see "
                "the warnings. They were set aside: run again to begin this part anew."
            )
        return None

    def _steps(self, *, best: bool = False) -> list[int]:
        """The steps there are, newest or best first."""
        names = (p.name for p in self._directory.iterdir() if p.name.isdecimal())
        steps = sorted(map(int, names), reverse=True)
        if not best:
            return steps
        if self._best is None:
            raise CheckpointError("no metric chooses the best: see `best`.")

        def score(step: int) -> float:
            manifest = read_manifest(self._directory / str(step))
            return (manifest or {}).get("metrics", {}).get(self._best, -np.inf)

        return sorted(steps, key=score, reverse=True)

    def _check_order(self, step: int) -> None:
        later = [found for found in self._steps() if found >= step]
        if later:
            raise CheckpointError(
                f"cannot save step {step}: {self._directory} holds step {max(later)}. "
                "Restore it first, or choose another folder."
            )

    def _check_best(self, metrics: Mapping[str, float]) -> None:
        if self._best is None:
            return
        if not np.isfinite(metrics.get(self._best, np.nan)):
            raise CheckpointError(
                f"{self._best!r} chooses the best checkpoint, but the metrics are "
                f"{dict(metrics)}."
            )

    def _set_aside(self, folder: pathlib.Path) -> None:
        done = f"it was renamed to {folder.name}.damaged"
        if jax.process_index() == 0:
            try:
                _rename_damaged(folder)
            except OSError as error:  # such as a disk that can only be read
                done = f"it could not be renamed ({error.strerror})"
        warnings.warn(
            f"checkpoint {folder} is damaged: {done}, and the one before it is used.",
            stacklevel=3,
        )
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices(f"jaxkd {folder} set aside")
        self._orbax.reload()

    def _check_manifest(
        self, folder: pathlib.Path, manifest: dict[str, Any], target: Tree
    ) -> None:
        if manifest["format"] != _FORMAT:
            raise CheckpointError(
                f"{folder} has format {manifest['format']} (jaxkd "
                f"{manifest['jaxkd']}); this version reads format {_FORMAT}."
            )
        if manifest["teacher"] != self._teacher:
            raise CheckpointError(
                f"{folder} was saved with another teacher (fingerprint "
                f"{manifest['teacher']}, now {self._teacher})."
            )
        saved = {path: tuple(leaf) for path, leaf in manifest["leaves"].items()}
        wanted = {
            path: (str(x.dtype), list(x.shape))
            for path, x in trees.flatten(jax.tree.map(host_shape, target)).items()
        }
        for path in sorted(saved.keys() | wanted.keys()):
            if saved.get(path) != wanted.get(path):
                raise CheckpointError(
                    f"{folder} is of another model or optimizer: {path!r} was saved "
                    f"as {shown(saved.get(path))}, but is here "
                    f"{shown(wanted.get(path))}."
                )


def _rename_damaged(folder: pathlib.Path) -> None:
    aside, number = folder.with_name(f"{folder.name}.damaged"), 1
    while aside.exists():
        number += 1
        aside = folder.with_name(f"{folder.name}.damaged-{number}")
    folder.rename(aside)
