"""One step on many devices: under jit over a mesh, under pmap, under shard_map."""

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxkd._types import Batch, Metrics, Tree
from jaxkd.models import Variables
from jaxkd.train._arguments import check_batch, check_variables
from jaxkd.train._sharding import (
    DATA_AXIS,
    Device,
    ShardingRules,
    bring,
    data_mesh,
    pad_batch,
    place,
    shardings,
    state_shardings,
)
from jaxkd.train._state import TrainState
from jaxkd.train._step import TrainStep


def jit_step(
    step: TrainStep,
    mesh: Mesh | None = None,
    *,
    rules: ShardingRules = (),
    teacher_rules: ShardingRules = (),
    batch_axis: int = 0,
) -> TrainStep:
    """Compiles a step, with the batch spread over the devices of a mesh.

    The numbers are those of one device, for a batch of any length (see
    :func:`pad_batch`); XLA adds the gradients up. The state that this step returned is
    donated to the next call (its buffers are reused); a state that you bring is copied
    first, so none of your arrays is eaten. With several processes, each brings its own
    share of the batch, of one length, and the same state.

    Args:
        step: a pure step, of :func:`make_train_step`.
        mesh: a mesh whose first axis splits the batch; by default :func:`data_mesh` of
            all devices. Its axes must be of type ``Auto``.
        rules: how to split the state: partitions by regular expressions over paths
            that begin with ``student/``, ``objective/``, ``model_state/`` or
            ``objective_state/``, such as ``("^student/.*kernel$", P(None, "model"))``;
            or :func:`fsdp`. The optimizer's memory of a parameter is split like it. By
            default all is on every device.
        teacher_rules: how to split the teacher's variables; paths begin with
            ``params/`` or ``state/``.
        batch_axis: the axis of the batch's rows; 1 for :func:`scan_steps`.

    Returns:
        A step of the same signature.

    Raises:
        ValueError: if an axis of the mesh is not ``Auto``; at the first call, if a rule
            matches nothing, or a partition does not fit.

    Examples:
        >>> from jaxkd import models, objectives, train
        >>> import optax
        >>> student = models.from_linen(models.MLP(hidden=(8,), classes=3))
        >>> objective, tx = objectives.hard_label(), optax.sgd(0.1)
        >>> step = train.jit_step(train.make_train_step(student, None, objective, tx))
    """
    mesh = data_mesh() if mesh is None else mesh
    _check_auto(mesh)
    everywhere = NamedSharding(mesh, PartitionSpec())
    compiled: dict[Any, tuple[Tree, Callable[..., Any]]] = {}

    def compile_for(state: TrainState) -> tuple[Tree, Callable[..., Any]]:
        structure = jax.tree.structure(state)
        if structure not in compiled:
            where = state_shardings(state, mesh, rules)
            # Pinned, or XLA may choose others for the state it returns.
            fn = jax.jit(step, donate_argnums=0, out_shardings=(where, everywhere))
            compiled[structure] = where, fn
        return compiled[structure]

    def place_teacher(teacher: Variables | None) -> Tree:
        check_variables(teacher_variables=teacher)
        tree = {} if teacher is None else teacher._asdict()
        placed = bring(tree, shardings(tree, mesh, teacher_rules))
        return None if teacher is None else Variables(**placed)

    return _bring(
        lambda state: compile_for(state)[1],
        lambda state: place(state, compile_for(state)[0]),
        place_teacher,
        partial(_spread, mesh, batch_axis),
    )


def shard_map_step(
    step: TrainStep,
    mesh: Mesh | None = None,
    *,
    check: bool = True,
    batch_axis: int = 0,
) -> TrainStep:
    """Compiles a step under :func:`jax.shard_map`: each device works on its own rows.

    As under ``pmap``, the devices talk only where the step says so; but here the
    program is checked: an output that could differ between devices is an error when
    the step is traced. Run a new objective or model through it once. Losses, BatchNorm
    and donation are as with :func:`jit_step`; each device draws its own dropout.

    Args:
        step: a pure step, of :func:`make_train_step`.
        mesh: a mesh of one axis; by default :func:`data_mesh` of all devices.
        check: prove that all outputs are equal on all devices (``check_vma``).
        batch_axis: the axis of the batch's rows; 1 for :func:`scan_steps`.

    Returns:
        A step of the same signature.

    Raises:
        ValueError: if the mesh has several axes.

    Examples:
        >>> from jaxkd import models, objectives, train
        >>> import optax
        >>> student = models.from_linen(models.MLP(hidden=(8,), classes=3))
        >>> objective, tx = objectives.hard_label(), optax.sgd(0.1)
        >>> pure = train.make_train_step(student, None, objective, tx)
        >>> step = train.shard_map_step(pure)
    """
    mesh = data_mesh() if mesh is None else mesh
    _check_auto(mesh)
    if len(mesh.axis_names) > 1:
        raise ValueError(
            f"shard_map_step takes a mesh of one axis, got {mesh.axis_names}; for "
            "others there is jit_step."
        )
    axis = next(iter(mesh.shape))
    whole, rows = PartitionSpec(), PartitionSpec(*(None,) * batch_axis, axis)
    everywhere = NamedSharding(mesh, whole)
    mapped = jax.shard_map(
        partial(step, axis_name=axis),
        mesh=mesh,
        in_specs=(whole, whole, rows),
        out_specs=whole,
        check_vma=check,
    )
    compiled = jax.jit(mapped, donate_argnums=0)
    return _bring(
        lambda state: compiled,
        lambda state: place(state, everywhere),
        lambda teacher: bring(teacher, everywhere),
        partial(_spread, mesh, batch_axis),
    )


def pmap_step(step: TrainStep, devices: Sequence[Device] | None = None) -> TrainStep:
    """Compiles a step under :func:`jax.pmap`, with the batch spread over devices.

    The state has no leading device axis: nothing is replicated or unreplicated by hand.
    A batch of any length is padded by :func:`pad_batch`. Losses, BatchNorm and donation
    are as with :func:`jit_step`; each device draws its own dropout. With several
    processes, each brings its own share of the batch.

    Args:
        step: a pure step, of :func:`make_train_step`.
        devices: the devices; all there are, of all processes, by default.

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
    local = [d for d in devices if d.process_index == jax.process_index()]
    # What pmap takes and returns is local to the process.
    everywhere = NamedSharding(data_mesh(local), PartitionSpec())
    mapped = jax.pmap(
        partial(step, axis_name=DATA_AXIS),
        axis_name=DATA_AXIS,
        in_axes=(None, None, 0),
        out_axes=None,
        devices=devices if jax.process_count() == 1 else None,
        donate_argnums=0,
    )

    def spread(batch: Batch) -> Batch:
        rows = (len(local), -1)
        padded = pad_batch(batch, len(local))
        return {k: np.reshape(x, rows + np.shape(x)[1:]) for k, x in padded.items()}

    return _bring(
        lambda state: mapped,
        lambda state: place(state, everywhere),
        lambda teacher: bring(teacher, everywhere),
        spread,
    )


def _check_auto(mesh: Mesh) -> None:
    if any(kind != AxisType.Auto for kind in mesh.axis_types):
        raise ValueError(
            f"the axes of the mesh are {mesh.axis_types}; they must be Auto: "
            "jax.make_mesh(..., axis_types=(AxisType.Auto,) * n)."
        )


def _spread(mesh: Mesh, batch_axis: int, batch: Batch) -> Batch:
    """Splits the rows of a batch along the first axis of the mesh."""
    axis = next(iter(mesh.shape))
    rows = NamedSharding(mesh, PartitionSpec(*(None,) * batch_axis, axis))
    processes = jax.process_count()
    share = max(mesh.shape[axis] // processes, 1)
    length = check_batch(batch, batch_axis)
    if length % share:
        if batch_axis:
            raise ValueError(
                f"{length} examples in each of the stacked batches do not divide by "
                f"{share} devices: pad them before stacking, train.pad_batch(batch, "
                f"{share})."
            )
        batch = pad_batch(batch, share)
    if mesh.size == 1 and all(type(x) is np.ndarray for x in batch.values()):
        return dict(batch)  # jit brings them to where the state is, and faster
    if processes == 1:
        return jax.device_put(dict(batch), rows)
    return {
        name: jax.make_array_from_process_local_data(rows, np.asarray(x))
        for name, x in batch.items()
    }


def _bring(
    compiled: Callable[[TrainState], Callable[..., tuple[TrainState, Metrics]]],
    place_state: Callable[[TrainState], TrainState],
    place_teacher: Callable[[Variables | None], Tree],
    spread: Callable[[Batch], Batch],
) -> TrainStep:
    """Brings a caller's arrays to the devices of a compiled step."""
    theirs = jax.tree.flatten(None)  # the caller's teacher, and our copy of it
    placed: Tree = None
    returned: TrainState | None = None
    program: Any = None

    def run(
        state: TrainState,
        teacher_variables: Variables | None,
        batch: Batch,
        *,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        nonlocal theirs, placed, returned, program
        given = jax.tree.flatten(teacher_variables)
        if not _same_arrays(given, theirs):
            theirs, placed = given, place_teacher(teacher_variables)
        if state is not returned:
            program, state = compiled(state), place_state(state)
        returned = None  # its buffers are given away, even if the call fails
        state, metrics = program(state, placed, spread(batch))
        returned = state
        return state, metrics

    return run


def _same_arrays(a: tuple[list[Any], Any], b: tuple[list[Any], Any]) -> bool:
    """Whether two flattened trees hold the very same arrays."""
    (ours, structure), (theirs, other) = a, b
    return structure == other and all(map(operator.is_, ours, theirs))
