"""What a caller may bring to training, and what is said of what is wrong."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import optax
from jax import numpy as jnp

from jaxkd import _checks, compress
from jaxkd._types import Batch, Params, PRNGKey, Tree
from jaxkd.models import Model, Variables
from jaxkd.objectives import Objective
from jaxkd.train._average import AverageState

#: The states of links that make updates exact, so that none may follow.
_SPARSE = (compress.KeepSparseState, compress.DynamicState)


def check_batch(batch: Batch, axis: int = 0) -> int:
    """The number of examples of a batch.

    Args:
        batch: a dict of arrays.
        axis: their axis of examples.

    Returns:
        Its length.

    Raises:
        TypeError: if the batch is no dict, or an entry no array.
        ValueError: if the batch is empty, or its arrays have different lengths.
    """
    _checks.check_batch_type(batch)
    for name, x in batch.items():
        if not hasattr(x, "shape"):
            raise TypeError(
                f"batch[{name!r}] is a {type(x).__name__}; a batch is a dict of arrays."
            )
        if len(x.shape) <= axis:
            raise ValueError(
                f"batch[{name!r}] has shape {x.shape}: each array of a batch has one "
                f"row for each example along axis {axis}."
            )
    lengths = {name: x.shape[axis] for name, x in batch.items()}
    if not lengths or 0 in lengths.values():
        raise ValueError(f"the batch is empty: {lengths}.")
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the arrays of the batch have different lengths: {lengths}.")
    return next(iter(lengths.values()))


def check_key(key: PRNGKey) -> None:
    """Finds a seed or an old key in the place of a typed one.

    Args:
        key: should be of :func:`jax.random.key`.

    Raises:
        TypeError: if it is something else.
    """
    typed = isinstance(key, jax.Array) and jnp.issubdtype(
        key.dtype, jax.dtypes.prng_key
    )
    if not typed:
        raise TypeError("`key` must be a typed key: jax.random.key(seed).")


def check_parts(student: Any, teacher: Any, objective: Any, tx: Any) -> None:
    """Finds arguments in the wrong place.

    Args:
        student: should be a model.
        teacher: should be a model or ``None``.
        objective: should be an objective.
        tx: should be an optimizer.

    Raises:
        TypeError: if one is something else.
    """
    model = (Model, "models.from_linen(module)")
    _check_kind("student", student, *model)
    if teacher is not None:
        _check_kind("teacher", teacher, *model)
    _check_kind("objective", objective, Objective, "objectives.hard_label()")
    if not (hasattr(tx, "init") and hasattr(tx, "update")):  # MultiSteps is no tuple
        raise TypeError(
            "`tx` must be an optimizer of optax, such as optax.adam(1e-3); got a "
            f"{type(tx).__name__}."
        )


def check_variables(**variables: Any) -> None:
    """Finds parameters that are no :class:`~jaxkd.models.Variables`.

    Args:
        **variables: what should be some, or ``None``, under the names by which the
            caller knows them.

    Raises:
        TypeError: if one is something else.
    """
    for name, value in variables.items():
        if value is not None:
            _check_kind(name, value, Variables, "models.Variables(params, state)")


def _check_kind(name: str, value: Any, kind: type, example: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(
            f"`{name}` must be of type {kind.__name__}, such as {example}; got a "
            f"{type(value).__name__}."
        )


def check_trainable(params: Params) -> None:
    """Finds parameters that gradients cannot move.

    Args:
        params: the student's.

    Raises:
        TypeError: if they are quantized.
    """
    whole = compress.dequantize(params)
    if jax.tree.structure(whole) != jax.tree.structure(params):
        raise TypeError(
            "`variables` are quantized, and integers cannot be trained: start from "
            "compress.dequantize(params), or train through the rounding of "
            "compress.fake_quantize."
        )


def start_optimizer(tx: optax.GradientTransformation, params: Params) -> Tree:
    """The optimizer's state, if the chain keeps what it promises.

    Args:
        tx: the optimizer.
        params: all that it trains.

    Returns:
        ``tx.init(params)``.

    Raises:
        ValueError: if another link follows one that keeps weights at zero.
    """
    state = tx.init(params)
    links = list(_links(state))
    sparse = [i for i, link in enumerate(links) if isinstance(link, _SPARSE)]
    after = links[sparse[0] :] if sparse else []
    if not all(isinstance(link, (*_SPARSE, AverageState)) for link in after):
        raise ValueError(
            "what keeps zeros must be the last link of the chain, as in optax.chain("
            "optax.adam(1e-3), compress.keep_sparse(0.8)): a link behind it makes "
            "pruned weights other than zero again."
        )
    return state


def _links(state: Tree) -> Iterator[Tree]:
    """The states of a chain's links, and of the chains among them."""
    if type(state) is not tuple:  # NamedTuples are states of one link
        yield state
        return
    for inner in state:
        yield from _links(inner)


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """A named scope of the program, whose name errors carry too.

    Args:
        name: ``"student"``, ``"teacher"`` or ``"loss"``.

    Yields:
        Nothing.
    """
    with jax.named_scope(name):
        try:
            yield
        except Exception as error:
            error.add_note(f"This happened in the {name}.")
            raise
