"""Where arrays live: meshes, rules from paths to partitions, placement."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np
from jax import numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxkd import trees
from jaxkd._types import Batch, Tree
from jaxkd.train._arguments import check_batch
from jaxkd.train._state import TrainState, copy

Device: TypeAlias = Any  # jax.Device
#: From the path, the shape and the mesh to a partition.
Partition: TypeAlias = Callable[[str, tuple[int, ...], Mesh], PartitionSpec]
#: Pairs of a regular expression over paths and a partition, the first match wins; or a
#: function for all leaves.
ShardingRules: TypeAlias = Sequence[tuple[str, PartitionSpec]] | Partition

DATA_AXIS = "data"


def data_mesh(devices: Sequence[Device] | None = None) -> Mesh:
    """A mesh of one axis, ``"data"``, over devices.

    Args:
        devices: the devices; all there are, of all processes, by default.

    Returns:
        A mesh whose axis is of type ``Auto``, for :func:`jit_step`.
    """
    devices = jax.devices() if devices is None else devices
    return Mesh(np.array(devices), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def fsdp(axis: str = DATA_AXIS, *, min_size: int = 2**14) -> Partition:
    """Rules that spread every large array over an axis of the mesh.

    Each array is split along its longest dimension that the axis divides; XLA gathers
    it where it is used. Memory per device falls by the length of the axis.

    Args:
        axis: the mesh's axis.
        min_size: arrays with fewer numbers stay whole on every device.

    Returns:
        Rules for :func:`jit_step`.

    Examples:
        >>> from jaxkd import train
        >>> tuple(train.fsdp(min_size=8)("kernel", (4, 16), train.data_mesh()))
        (None, 'data')
    """

    def partition(path: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        size = mesh.shape[axis]
        fitting = [n for n in shape if n % size == 0]
        if not fitting or np.prod(shape) < min_size:
            return PartitionSpec()
        longest = shape.index(max(fitting))
        return PartitionSpec(*(None,) * longest, axis)

    return partition


def shardings(tree: Tree, mesh: Mesh, rules: ShardingRules = ()) -> Tree:
    """A sharding for each leaf, by rules over paths.

    Args:
        tree: a tree of arrays or of their shapes.
        mesh: where to.
        rules: see :data:`ShardingRules`; what no rule matches is replicated.

    Returns:
        A tree of :class:`jax.sharding.NamedSharding`.

    Raises:
        ValueError: if a partition does not fit an array, or has an axis the mesh has
            not, or a rule matches no path.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jax.sharding import PartitionSpec as P
        >>> from jaxkd import train
        >>> rules = [("kernel$", P(None, "data"))]
        >>> params = {"kernel": jnp.ones((2, 8)), "bias": jnp.ones(8)}
        >>> placed = train.shardings(params, train.data_mesh(), rules)
        >>> tuple(placed["bias"].spec), tuple(placed["kernel"].spec)
        ((), (None, 'data'))
    """
    if callable(rules):
        partition = rules
        specs = trees.map_with_path(lambda p, x: partition(p, np.shape(x), mesh), tree)
    else:
        specs = trees.assign(tree, rules, default=PartitionSpec())
    flat = trees.flatten(specs)

    def sharding(path: str, x: Any) -> NamedSharding:
        problem = _misfit(flat[path], np.shape(x), mesh)
        if problem is not None:
            raise ValueError(
                f"{path!r}, of shape {np.shape(x)}, cannot be partitioned by "
                f"{flat[path]}: {problem}."
            )
        return NamedSharding(mesh, flat[path])

    return trees.map_with_path(sharding, tree)


def state_shardings(state: TrainState, mesh: Mesh, rules: ShardingRules = ()) -> Any:
    """The shardings of a train state under rules, as :func:`jit_step` uses them.

    To restore a checkpoint to where it goes on:
    ``checkpointer.restore(train.place(state, train.state_shardings(state, mesh)))``.

    Args:
        state: the state, or its shapes.
        mesh: where to.
        rules: see :func:`jit_step`.

    Returns:
        A :class:`TrainState` of :class:`jax.sharding.NamedSharding`.

    Raises:
        ValueError: see :func:`shardings`.

    Examples:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxkd import models, objectives, train
        >>> batch = {"image": jnp.ones((2, 4)), "label": jnp.array([0, 2])}
        >>> student = models.from_linen(models.MLP(hidden=(8,), classes=3))
        >>> state = train.init_state(
        ...     jax.random.key(0),
        ...     student,
        ...     None,
        ...     objectives.hard_label(),
        ...     optax.sgd(0.1),
        ...     batch,
        ... )
        >>> placed = train.state_shardings(state, train.data_mesh())
        >>> tuple(placed.params["student"]["head"]["kernel"].spec)
        ()
    """
    ruled = shardings(
        {
            **state.params,
            "model_state": state.model_state,
            "objective_state": state.objective_state,
        },
        mesh,
        rules,
    )
    params = {name: ruled[name] for name in state.params}
    shapes = {path: np.shape(x) for path, x in trees.flatten(state.params).items()}
    places = dict(zip(shapes, jax.tree.leaves(params), strict=True))
    everywhere: Any = NamedSharding(mesh, PartitionSpec())

    def like_its_parameter(path: str, x: Any) -> NamedSharding:
        parts = path.split("/")
        suffixes = ("/".join(parts[i:]) for i in range(len(parts)))
        found = next((s for s in suffixes if shapes.get(s) == np.shape(x)), None)
        return everywhere if found is None else places[found]

    return TrainState(
        step=everywhere,
        params=params,
        opt_state=trees.map_with_path(like_its_parameter, state.opt_state),
        model_state=ruled["model_state"],
        objective_state=ruled["objective_state"],
        key=everywhere,
    )


def _misfit(spec: PartitionSpec, shape: tuple[int, ...], mesh: Mesh) -> str | None:
    """Why a partition does not fit a shape; ``None`` if it does."""
    if len(spec) > len(shape):
        return f"it has {len(shape)} dimensions"
    for size, entry in zip(shape, spec, strict=False):
        names = (entry,) if isinstance(entry, str) else tuple(entry or ())
        for name in names:
            if name not in mesh.shape:
                return f"the mesh has the axes {tuple(mesh.shape)} and no {name!r}"
        parts = int(np.prod([mesh.shape[name] for name in names], dtype=int))
        if size % parts:
            return f"{size} does not divide into {parts}"
    return None


def place(tree: Tree, sharding: Any) -> Tree:
    """Copies a tree to devices, into buffers of its own: safe to donate.

    With several processes, each must bring the same values, or global arrays.

    Args:
        tree: a tree of arrays, typed keys among them.
        sharding: where to: one sharding, or a tree of them.

    Returns:
        A tree of the same values.
    """
    if jax.process_count() == 1:
        return jax.device_put(copy(tree), sharding)
    if isinstance(sharding, NamedSharding):
        sharding = jax.tree.map(lambda _: sharding, tree)
    return jax.tree.map(_place_globally, tree, sharding)


def bring(tree: Tree, sharding: Any) -> Tree:
    """As :func:`place`, but without a copy where the arrays are there already."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return place(tree, sharding)


def _place_globally(x: Any, sharding: NamedSharding) -> jax.Array:
    if jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key):
        data = _place_globally(jax.random.key_data(x), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
    if isinstance(x, jax.Array) and x.sharding.device_set == sharding.device_set:
        return jax.jit(jnp.copy, out_shardings=sharding)(x)
    host = trees.to_numpy(x)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def pad_batch(batch: Batch, multiple: int) -> dict[str, np.ndarray]:
    """Pads a batch to a multiple of a length, by rows that are masked.

    Losses and BatchNorm count only what the mask counts, so padding changes nothing.

    Args:
        batch: a dict of arrays with one leading axis, typed keys among them.
        multiple: the length of the result is a multiple of this.

    Returns:
        The batch with an entry ``mask``, false for padding.

    Raises:
        TypeError: if an entry is no array.
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
    padded = {name: _take(x, rows % length) for name, x in batch.items()}
    mask = padded["mask"].astype(bool)
    mask[length:] = False
    return {**padded, "mask": mask}


def _take(x: Any, rows: np.ndarray) -> Any:
    key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)  # NumPy has no such arrays
    return x[rows] if key else np.asarray(x)[rows]
