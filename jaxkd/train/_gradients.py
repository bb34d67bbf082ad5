"""Gradients of the student and the objective, at once or part by part."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
from jax import lax, numpy as jnp

from jaxkd._types import Batch, Metrics, Params, PRNGKey, Scalar, Tree
from jaxkd.losses import Mean
from jaxkd.models import Model, Out, Variables
from jaxkd.objectives import Objective, Terms, View
from jaxkd.train._arguments import check_batch, part


class Carried(NamedTuple):
    """What goes from one forward pass to the next.

    Attributes:
        model_state: the student's.
        objective_state: the objective's.
    """

    model_state: Tree
    objective_state: Tree


#: From a batch to what the teacher returns.
Follow: TypeAlias = Callable[[Batch], Out | None]
#: ``(params, carried, key, batch, followed) -> (terms, carried)``.
Forward: TypeAlias = Callable[..., tuple[Terms, Carried]]
#: ``(carried, key, batch, counts) -> (gradients, metrics, carried)``.
Gradients: TypeAlias = Callable[..., tuple[Tree, Metrics, Carried]]


def make_forward(
    student: Model,
    objective: Objective,
    teacher_variables: Variables | None,
    step: jax.Array,
    axis_name: str | None,
) -> Forward:
    """Student and objective, on one batch.

    Args:
        student: the model to train.
        objective: what to minimise.
        teacher_variables: for objectives that use the teacher's head.
        step: number of updates done.
        axis_name: the mapped axis, if any.

    Returns:
        A function, see :data:`Forward`.
    """
    mapped = {} if axis_name is None else {"axis_name": axis_name}

    def forward(
        params: Params, carried: Carried, key: PRNGKey, batch: Batch, followed: Any
    ) -> tuple[Terms, Carried]:
        with part("student"):
            out = student.apply(
                params["student"],
                carried.model_state,
                batch,
                rng=jax.random.fold_in(key, 0),
                train=True,
                features=objective.student_features,
                **mapped,
            )
        with part("loss"):
            own = jax.random.fold_in(key, 1)
            view = View(out, followed, batch, step, own, axis_name, teacher_variables)
            terms, objective_state = objective.apply(
                params["objective"], carried.objective_state, view
            )
        return terms, Carried(out.state, objective_state)

    return forward


def make_gradients(
    follow: Follow,
    forward: Forward,
    params: Params,
    scale: Scalar,
    axis_name: str | None,
) -> Gradients:
    """This device's share of the gradients and the metrics; the shares add up.

    Args:
        follow: the teacher on a batch; it runs outside the gradient.
        forward: of :func:`make_forward`.
        params: what is differentiated.
        scale: a factor of the loss.
        axis_name: the mapped axis, if any.

    Returns:
        A function, see :data:`Gradients`.
    """

    def gradients(
        carried: Carried, key: PRNGKey, batch: Batch, counts: dict[str, Scalar] | None
    ) -> tuple[Tree, Metrics, Carried]:
        followed = follow(batch)

        def loss_fn(params: Params) -> tuple[Scalar, tuple[Metrics, Carried]]:
            terms, after = forward(params, carried, key, batch, followed)
            found = _global_counts(terms, axis_name) if counts is None else counts
            loss, metrics = _weighted_sum(terms, found)
            return loss * scale, (metrics, after)

        grads, (metrics, after) = jax.grad(loss_fn, has_aux=True)(params)
        return grads, metrics, after

    return gradients


def accumulated(
    counts_of: Callable[[PRNGKey, Batch], dict[str, Scalar]],
    gradients: Gradients,
    carried: Carried,
    key: PRNGKey,
    batch: Batch,
    number: int,
    axis_name: str | None,
) -> tuple[Tree, Metrics, Carried]:
    """The gradients of a batch, part by part.

    Args:
        counts_of: how much of a part counts, for each term.
        gradients: of :func:`make_gradients`.
        carried: states before.
        key: a typed key.
        batch: a dict of arrays.
        number: of parts.
        axis_name: the mapped axis, if any.

    Returns:
        Gradients, metrics, and the states after.
    """
    parts = _split(batch, number)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(number))
    # Where they depend on masks alone, XLA drops the forward pass here.
    each = lax.map(lambda part: counts_of(*part), (keys, parts))
    counts = jax.tree.map(lambda x: jnp.sum(x, axis=0), each)

    def add(total: Any, part: tuple[PRNGKey, Batch]) -> tuple[Any, None]:
        grads, metrics, carried = total
        more_grads, more_metrics, carried = gradients(carried, *part, counts)
        summed = jax.tree.map(jnp.add, (grads, metrics), (more_grads, more_metrics))
        return (*summed, varying(carried, axis_name)), None

    carried = varying(carried, axis_name)
    first = jax.tree.map(lambda x: x[0], (keys, parts))
    shapes = jax.eval_shape(lambda: gradients(carried, *first, counts)[:2])
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    start = (*varying(zeros, axis_name), carried)
    return lax.scan(add, start, (keys, parts))[0]


def counts_by(
    follow: Follow,
    forward: Forward,
    params: Params,
    carried: Carried,
    axis_name: str | None,
) -> Callable[[PRNGKey, Batch], dict[str, Scalar]]:
    """How much of a batch counts on all devices, for each term.

    Args:
        follow: the teacher on a batch.
        forward: of :func:`make_forward`.
        params: parameters.
        carried: states before.
        axis_name: the mapped axis, if any.

    Returns:
        ``(key, batch) -> {term: count}``.
    """

    def counts(key: PRNGKey, batch: Batch) -> dict[str, Scalar]:
        terms, _ = forward(params, carried, key, batch, follow(batch))
        return _global_counts(terms, axis_name)

    return counts


def _split(batch: Batch, number: int) -> Batch:
    """Parts of a batch along a new first axis, padded by masked rows.

    Rows are dealt like cards, so that a batch split over devices stays where it is.
    """
    length = check_batch(batch)
    missing = -length % number
    if missing:
        rows = jnp.arange(length + missing)
        batch = {"mask": jnp.ones(length, bool), **batch}
        batch = {name: jnp.asarray(x)[rows % length] for name, x in batch.items()}
        batch["mask"] = batch["mask"].astype(bool).at[length:].set(False)

    def deal(x: Any) -> jax.Array:
        x = jnp.asarray(x)
        return jnp.moveaxis(x.reshape(-1, number, *x.shape[1:]), 1, 0)

    return {name: deal(x) for name, x in batch.items()}


def make_follow(
    teacher: Model | None, variables: Variables | None, objective: Objective
) -> Follow:
    """The teacher, in evaluation mode and without a gradient.

    Args:
        teacher: the model to follow, or ``None``.
        variables: its variables.
        objective: for the features that it reads.

    Returns:
        A function from a batch to the teacher's :class:`~jaxkd.models.Out`.

    Raises:
        ValueError: if there is a teacher without variables.
    """
    if teacher is None:
        return lambda batch: None
    if variables is None:
        raise ValueError("the step was made with a teacher: pass its variables.")

    def follow(batch: Batch) -> Out:
        with part("teacher"):
            out = teacher.apply(*variables, batch, features=objective.teacher_features)
        return lax.stop_gradient(out)

    return follow


def _global_counts(terms: Terms, axis_name: str | None) -> dict[str, Scalar]:
    counts = {name: term.mean.count for name, term in terms.items()}
    return counts if axis_name is None else lax.psum(counts, axis_name)


def _weighted_sum(terms: Terms, counts: dict[str, Scalar]) -> tuple[Scalar, Metrics]:
    """This device's share of the loss and of the metrics; the shares add up."""
    shares: Metrics = {}
    for name, (mean, weight) in terms.items():
        shares[name] = Mean(mean.total, counts[name]).value
        shares[f"{name}/weighted"] = weight * shares[name]
    loss = sum(
        (shares[f"{name}/weighted"] for name in terms), start=jnp.zeros((), jnp.float32)
    )
    return loss, {"loss": loss, **shares}


def varying(tree: Tree, axis_name: str | None) -> Tree:
    """Marks arrays as different on each device.

    Args:
        tree: a tree of arrays.
        axis_name: the mapped axis; nothing to do if ``None``.

    Returns:
        A tree of the same values.
    """
    # shard_map(check_vma=True) sums the gradients of replicated parameters by itself;
    # marked as varying they are this device's own, as under pmap, and summed once.
    if axis_name is None:
        return tree

    def one(x: Any) -> Any:
        kind: Any = jax.typeof(x)
        if axis_name in kind.mat.varying:
            return x
        return lax.pcast(x, axis_name, to="varying")

    return jax.tree.map(one, tree)


def agree(state: Tree, axis_name: str) -> Tree:
    """One state for all devices: what may differ a little is averaged.

    Args:
        state: a tree of arrays.
        axis_name: the mapped axis.

    Returns:
        A tree of the same shapes.
    """

    def one(x: jax.Array) -> jax.Array:
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            data = lax.pmax(jax.random.key_data(x), axis_name)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        return lax.pmean(x, axis_name) if floating else lax.pmax(x, axis_name)

    return jax.tree.map(one, state)
