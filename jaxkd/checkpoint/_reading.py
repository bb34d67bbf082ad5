"""Reading checkpoints, and telling damage from other trouble."""

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec
from orbax.checkpoint import v1 as ocp

from jaxkd import trees
from jaxkd._types import Tree


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be used, and why."""


def shown(leaf: tuple[str, list[int]] | None) -> str:
    """A leaf in words.

    Args:
        leaf: its dtype and shape, or ``None`` if there is none.

    Returns:
        Such as ``"float32[3, 4]"``.
    """
    return "nothing" if leaf is None else f"{leaf[0]}{leaf[1]}"


def host_shape(x: Any) -> jax.ShapeDtypeStruct:
    """What a leaf is on the host, where a typed key is its data.

    Args:
        x: an array, or its shape and dtype.

    Returns:
        Shape and dtype.
    """
    return jax.eval_shape(
        lambda x: (
            jax.random.key_data(x)
            if jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
            else x
        ),
        x,
    )


def global_array(x: jax.Array) -> jax.Array:
    """An array that Orbax can save: with several processes, one of them all.

    Args:
        x: an array; one of this process alone, as ``pmap`` gives, must be the same
            on all.

    Returns:
        The same values.
    """
    if jax.process_count() == 1 or not x.is_fully_addressable:
        return x
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        data = global_array(jax.random.key_data(x))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
    mesh = Mesh(np.array(jax.devices()), ("all",))
    return multihost_utils.host_local_array_to_global_array(x, mesh, PartitionSpec())


def check_leaves(state: Tree) -> None:
    """Raises unless a state holds jax arrays, and at least one.

    Args:
        state: a tree.

    Raises:
        CheckpointError: naming the leaf.
    """
    leaves = trees.flatten(state)
    if not leaves:
        raise CheckpointError("the state holds no arrays.")
    for path, x in leaves.items():
        if not isinstance(x, jax.Array):
            raise CheckpointError(
                f"{path!r} is a {type(x).__name__}; a state holds jax arrays: "
                "jax.tree.map(jnp.asarray, state)."
            )


def check_finite(step: int, host: dict[str, np.ndarray]) -> None:
    """Raises if a state holds NaN.

    Args:
        step: its step, for the message.
        host: its leaves by path.

    Raises:
        CheckpointError: naming the leaf.
    """
    for path, x in host.items():
        # bfloat16 and its like are "void" to NumPy's kinds.
        numbers = x.astype(np.float32) if x.dtype.kind == "V" else x
        if numbers.dtype.kind == "f" and np.isnan(numbers).any():
            raise CheckpointError(
                f"the state at step {step} is not saved: {path!r} holds NaN."
            )


def checksum(text: str) -> str:
    """A digest of a manifest.

    Args:
        text: the manifest.

    Returns:
        32 hexadecimal digits.
    """
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@contextlib.contextmanager
def damage_is_none(folder: pathlib.Path) -> Iterator[None]:
    """Passes over what damaged bytes raise; other trouble is not the checkpoint's.

    Args:
        folder: the checkpoint, for the message.

    Yields:
        Nothing.

    Raises:
        CheckpointError: for trouble outside the checkpoint, such as no memory left.
    """
    try:
        yield
    except FileNotFoundError:
        pass
    except (MemoryError, OSError) as error:
        raise CheckpointError(f"cannot read {folder}: {error!r}.") from error
    except Exception:  # whatever Orbax makes of damaged bytes
        pass


def read_manifest(folder: Any) -> dict[str, Any] | None:
    """The manifest of a checkpoint.

    Args:
        folder: the checkpoint.

    Returns:
        The manifest, or ``None`` if it is damaged.
    """
    with damage_is_none(folder):
        found: Any = ocp.checkpointables_metadata(folder).custom_metadata
        intact = checksum(found["manifest"]) == found["checksum"]
        return json.loads(found["manifest"]) if intact else None
    return None


def read_state(folder: Any, target: Tree) -> Any | None:
    """The arrays of a checkpoint.

    Args:
        folder: the checkpoint.
        target: a state of the same structure.

    Returns:
        The state, or ``None`` if it is damaged.
    """
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def abstract(x: Any) -> jax.ShapeDtypeStruct:
        sharding = getattr(x, "sharding", None) or here
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    with damage_is_none(folder):
        wanted = {"state": jax.tree.map(abstract, target)}
        return ocp.load_checkpointables(folder, wanted)["state"]
    return None
