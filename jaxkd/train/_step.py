"""The train step: a pure function, not jitted."""

from typing import Protocol

import jax
import optax
from jax import numpy as jnp

from jaxkd._types import Batch, Metrics, Params, Scalar, Tree
from jaxkd.losses import Mean
from jaxkd.models import Model, Out, Variables
from jaxkd.objectives import Objective, Terms, View
from jaxkd.train._state import TrainState


class TrainStep(Protocol):
    """``step(state, teacher, batch) -> (state, metrics)``."""

    def __call__(
        self,
        state: TrainState,
        teacher_variables: Variables | None,
        batch: Batch,
        *,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        """Does one update.

        Args:
            state: the state before.
            teacher_variables: the teacher's; ``None`` without a teacher.
            batch: a dict of arrays. Where an entry ``mask`` is false, an example counts
                for nothing.
            axis_name: the axis under ``pmap`` or ``shard_map``.

        Returns:
            The state after, and the metrics: ``loss``, each term of the objective as it
            is and weighted, and ``update_norm``.
        """
        ...


def make_train_step(
    student: Model,
    teacher: Model | None,
    objective: Objective,
    tx: optax.GradientTransformation,
) -> TrainStep:
    """Builds one pure step of distillation, for ``jit``, ``pmap`` or a mesh.

    The teacher runs in evaluation mode, outside the gradient; its variables are an
    argument of the step, so that they are neither in the optimizer nor in the program.
    Means are global: under a mapped axis, numerators and denominators are summed over
    the devices, so a ragged batch gives the same update however it is spread.

    Args:
        student: the model to train.
        teacher: the model to follow; ``None`` to train without.
        objective: what to minimise; only the features that it names are captured.
        tx: the optimizer; see :func:`freeze` to keep layers as they are.

    Returns:
        A :class:`TrainStep`.

    Examples:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxkd import models, objectives, train
        >>> teacher = models.from_linen(models.MLP(hidden=(32,), classes=3))
        >>> student = models.from_linen(models.MLP(hidden=(8,), classes=3))
        >>> objective, tx = objectives.soft_target(temperature=2.0), optax.adam(0.01)
        >>> batch = {"image": jax.random.normal(jax.random.key(0), (16, 4))}
        >>> teacher_variables = teacher.init(jax.random.key(1), batch)
        >>> state = train.init_state(
        ...     jax.random.key(2), student, teacher, objective, tx, batch
        ... )
        >>> step = jax.jit(train.make_train_step(student, teacher, objective, tx))
        >>> state, first = step(state, teacher_variables, batch)
        >>> for _ in range(50):
        ...     state, last = step(state, teacher_variables, batch)
        >>> bool(last["loss"] < first["loss"] / 2)
        True
    """
    with_loss = optax.with_extra_args_support(tx)  # such as reduce_on_plateau

    def step(
        state: TrainState,
        teacher_variables: Variables | None,
        batch: Batch,
        *,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        key = _step_key(state, axis_name)
        mapped = {} if axis_name is None else {"axis_name": axis_name}
        followed = _follow(teacher, teacher_variables, batch, objective)

        def loss_fn(params: Params) -> tuple[Scalar, tuple[Metrics, Tree, Tree]]:
            with jax.named_scope("student"):
                out = student.apply(
                    params["student"],
                    state.model_state,
                    batch,
                    rng=jax.random.fold_in(key, 0),
                    train=True,
                    features=objective.student_features,
                    **mapped,
                )
            with jax.named_scope("loss"):
                own = jax.random.fold_in(key, 1)
                view = View(
                    out,
                    followed,
                    batch,
                    state.step,
                    own,
                    axis_name,
                    teacher_variables,
                )
                terms, objective_state = objective.apply(
                    params["objective"], state.objective_state, view
                )
                loss, metrics = _weighted_sum(terms, axis_name)
            return loss, (metrics, out.state, objective_state)

        grads, (metrics, model_state, objective_state) = jax.grad(
            loss_fn, has_aux=True
        )(_varying(state.params, axis_name))
        if axis_name is not None:
            grads, metrics = jax.lax.psum((grads, metrics), axis_name)
            model_state = _average_state(model_state, axis_name)
        updates, opt_state = with_loss.update(
            grads, state.opt_state, state.params, value=metrics["loss"]
        )
        metrics["update_norm"] = optax.tree.norm(updates)
        new = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
            model_state=model_state,
            objective_state=objective_state,
            key=state.key,
        )
        return new, metrics

    return step


def _follow(
    teacher: Model | None,
    variables: Variables | None,
    batch: Batch,
    objective: Objective,
) -> Out | None:
    if teacher is None:
        return None
    if variables is None:
        raise ValueError("the step was made with a teacher: pass its variables.")
    with jax.named_scope("teacher"):
        return teacher.apply(*variables, batch, features=objective.teacher_features)


def _weighted_sum(terms: Terms, axis_name: str | None) -> tuple[Scalar, Metrics]:
    """This device's share of the loss and of the metrics; the shares add up."""
    shares: Metrics = {}
    for name, (mean, weight) in terms.items():
        count = mean.count if axis_name is None else jax.lax.psum(mean.count, axis_name)
        shares[name] = Mean(mean.total, count).value
        shares[f"{name}/weighted"] = weight * shares[name]
    loss = sum(
        (shares[f"{name}/weighted"] for name in terms), start=jnp.zeros((), jnp.float32)
    )
    return loss, {"loss": loss, **shares}


def _step_key(state: TrainState, axis_name: str | None) -> jax.Array:
    key = jax.random.fold_in(state.key, state.step)
    if axis_name is None:
        return key
    return jax.random.fold_in(key, jax.lax.axis_index(axis_name))


def _varying(params: Params, axis_name: str | None) -> Params:
    # shard_map(check_vma=True) sums the gradients of replicated parameters by itself;
    # marked as varying they are this device's own, as under pmap, and summed once.
    if axis_name is None:
        return params
    return jax.lax.pcast(params, axis_name, to="varying")


def _average_state(state: Tree, axis_name: str) -> Tree:
    """One state for all devices: running statistics are averaged."""

    def average(x: jax.Array) -> jax.Array:
        floating = jnp.issubdtype(x.dtype, jnp.floating)
        return jax.lax.pmean(x, axis_name) if floating else x

    return jax.tree.map(average, state)
