"""One step on many devices."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxkd._types import Batch, Metrics, Tree
from jaxkd.models import Variables
from jaxkd.train._state import TrainState, check_batch, copy
from jaxkd.train._step import TrainStep

Device: TypeAlias = Any  # jax.Device

_AXIS = "data"


def data_mesh(devices: list[Device] | None = None) -> Mesh:
    """A mesh of one axis, ``"data"``, over devices.

    Args:
        devices: the devices; all there are by default.

    Returns:
        A mesh whose axis is of type ``Auto``, for :func:`jit_step`.
    """
    devices = jax.devices() if devices is None else devices
    return Mesh(np.array(devices), (_AXIS,), axis_types=(AxisType.Auto,))


def jit_step(step: TrainStep, mesh: Mesh | None = None) -> TrainStep:
    """Compiles a step, with the batch spread over the devices of a mesh.

    The numbers are those of one device, for a batch of any length; XLA adds the
    gradients up. If the length is no multiple of the number of devices, each of them
    computes the whole batch. The state that this step returned is donated to the next
    call (its buffers are reused); a state that you bring is copied first, so none of
    your arrays is eaten.

    Args:
        step: a pure step, of :func:`make_train_step`.
        mesh: a mesh of one axis; by default :func:`data_mesh` of all devices.

    Returns:
        A step of the same signature.

    Examples:
        >>> from jaxkd import models, objectives, train
        >>> import optax
        >>> student = models.from_linen(models.MLP(hidden=(8,), classes=3))
        >>> objective, tx = objectives.hard_label(), optax.sgd(0.1)
        >>> step = train.jit_step(train.make_train_step(student, None, objective, tx))
    """
    mesh = data_mesh() if mesh is None else mesh
    everywhere = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec(mesh.axis_names[0]))
    compiled = jax.jit(step, donate_argnums=0, out_shardings=everywhere)

    def spread(batch: Batch) -> Batch:
        # A batch that cannot be split is computed by every device: padding it would
        # change what BatchNorm sees.
        divides = check_batch(batch) % mesh.size == 0
        return jax.device_put(dict(batch), split if divides else everywhere)

    return _bring(compiled, everywhere, spread)


def pmap_step(step: TrainStep, devices: list[Device] | None = None) -> TrainStep:
    """Compiles a step under :func:`jax.pmap`, with the batch spread over devices.

    The state has no leading device axis: nothing is replicated or unreplicated by hand.
    A batch of any length is padded by :func:`pad_batch`. Donation and losses are as
    with :func:`jit_step`. What differs: each device draws its own dropout, and
    BatchNorm normalises by the batch of its device, padding included (the running
    statistics are averaged).

    Args:
        step: a pure step, of :func:`make_train_step`.
        devices: the devices; all there are by default.

    Returns:
        A step of the same signature.

    Examples:
        >>> from jaxkd import models, objectives, train
        >>> import optax
        >>> student = models.from_linen(models.MLP(hidden=(8,), classes=3))
        >>> objective, tx = objectives.hard_label(), optax.sgd(0.1)
        >>> step = train.pmap_step(train.make_train_step(student, None, objective, tx))
    """
    devices = jax.devices() if devices is None else devices
    everywhere = NamedSharding(data_mesh(devices), PartitionSpec())
    mapped = jax.pmap(
        partial(step, axis_name=_AXIS),
        axis_name=_AXIS,
        in_axes=(None, None, 0),
        out_axes=None,
        devices=devices,
        donate_argnums=0,
    )

    def spread(batch: Batch) -> Batch:
        rows = (len(devices), -1)
        padded = pad_batch(batch, len(devices))
        return {k: np.reshape(x, rows + np.shape(x)[1:]) for k, x in padded.items()}

    return _bring(mapped, everywhere, spread)


def pad_batch(batch: Batch, multiple: int) -> dict[str, np.ndarray]:
    """Pads a batch to a multiple of a length, by rows that are masked.

    The padding repeats rows of the batch, so that it looks like data to BatchNorm.

    Args:
        batch: a dict of arrays with one leading axis.
        multiple: the length of the result is a multiple of this.

    Returns:
        The batch with an entry ``mask``, false for padding.

    Raises:
        ValueError: if the batch is empty or its arrays differ in length.

    Examples:
        >>> import numpy as np
        >>> from jaxkd import train
        >>> train.pad_batch({"x": np.ones(3)}, 2)["mask"]
        array([ True,  True,  True, False])
    """
    length = check_batch(batch)
    missing = -length % multiple
    if "mask" not in batch:
        batch = {**batch, "mask": np.ones(length, bool)}
    if not missing:
        return dict(batch)
    rows = np.arange(length + missing)
    padded = {name: np.asarray(x)[rows % length] for name, x in batch.items()}
    padded["mask"] = padded["mask"] & (rows < length)
    return padded


def place(tree: Tree, sharding: NamedSharding) -> Tree:
    """Copies a tree to devices, into buffers of its own: safe to donate.

    Args:
        tree: a tree of arrays, typed keys among them.
        sharding: where to.

    Returns:
        A tree of the same values.
    """
    return jax.device_put(copy(tree), sharding)


def _bring(
    compiled: Callable[..., tuple[TrainState, Metrics]],
    everywhere: NamedSharding,
    spread: Callable[[Batch], Batch],
) -> TrainStep:
    """Brings a caller's arrays to the devices of a compiled step."""
    placed: list[Any] = [None, None]  # the caller's teacher, and our copy of it
    returned: list[TrainState] = []

    def run(
        state: TrainState,
        teacher_variables: Variables | None,
        batch: Batch,
        *,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        if not _same_arrays(teacher_variables, placed[0]):
            placed[:] = [
                jax.tree.map(lambda x: x, teacher_variables),
                jax.device_put(teacher_variables, everywhere),
            ]
        own = bool(returned) and returned.pop() is state
        state = state if own else place(state, everywhere)
        state, metrics = compiled(state, placed[1], spread(batch))
        returned.append(state)
        return state, metrics

    return run


def _same_arrays(a: Tree, b: Tree) -> bool:
    """Whether two trees hold the very same arrays."""
    ours, theirs = jax.tree.leaves(a), jax.tree.leaves(b)
    same = len(ours) == len(theirs)
    return same and all(x is y for x, y in zip(ours, theirs, strict=True))
