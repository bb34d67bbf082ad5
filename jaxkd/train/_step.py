"""The train step: a pure function, not jitted."""

from typing import Any, Protocol

import jax
import optax
from jax import lax, numpy as jnp

from jaxkd._types import Batch, Metrics
from jaxkd.models import Model, Variables
from jaxkd.objectives import Objective
from jaxkd.train._arguments import check_parts, check_variables
from jaxkd.train._gradients import (
    Carried,
    accumulated,
    agree,
    counts_by,
    make_follow,
    make_forward,
    make_gradients,
    varying,
)
from jaxkd.train._guard import choose, guard_of
from jaxkd.train._state import TrainState, restored


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
            teacher_variables: the teacher's, in any float type or quantized by
                :func:`jaxkd.compress.quantize`; ``None`` without a teacher.
            batch: a dict of arrays. Where an entry ``mask`` is false, an example counts
                for nothing.
            axis_name: the axis under ``pmap`` or ``shard_map``.

        Returns:
            The state after, and the metrics: ``loss``, each term of the objective as it
            is and weighted, and ``update_norm``; with :func:`skip_nonfinite` also
            ``skipped``, and with its loss scale ``loss_scale``.
        """
        ...


def make_train_step(
    student: Model,
    teacher: Model | None,
    objective: Objective,
    tx: optax.GradientTransformation,
    *,
    accumulate: int = 1,
) -> TrainStep:
    """Builds one pure step of distillation, for ``jit``, ``pmap`` or a mesh.

    The teacher runs in evaluation mode, outside the gradient; its variables are an
    argument of the step, so that they are neither in the optimizer nor in the program.
    Means are global: under a mapped axis, numerators and denominators are summed over
    the devices, so a ragged batch gives the same update however it is spread.

    Args:
        student: the model to train.
        teacher: the model to follow; ``None`` to train without. Several are one, see
            :func:`jaxkd.models.join`.
        objective: what to minimise; only the features that it names are captured.
        tx: the optimizer; see :func:`freeze` to keep layers as they are, and
            :func:`skip_nonfinite` to survive NaN.
        accumulate: number of parts in which the batch is worked off, one after the
            other, to save memory. The update is that of the whole batch, masks
            included, except for what couples the examples: BatchNorm, and losses over
            the batch, see one part at a time.

    Returns:
        A :class:`TrainStep`.

    Raises:
        TypeError: if an argument is of another kind than described.
        ValueError: if ``accumulate`` is less than 1.

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
    check_parts(student, teacher, objective, tx)
    if accumulate < 1:
        raise ValueError(f"`accumulate` must be at least 1, got {accumulate}.")
    with_loss = optax.with_extra_args_support(tx)  # such as reduce_on_plateau

    def step(
        state: TrainState,
        teacher_variables: Variables | None,
        batch: Batch,
        *,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        teacher_variables = _as_arrays(teacher_variables)
        guard = guard_of(state.opt_state)
        scale = jnp.float32(1.0) if guard is None else guard.scale
        params = varying(state.params, axis_name)
        carried = Carried(state.model_state, state.objective_state)
        key = _step_key(state, axis_name)
        follow = make_follow(teacher, teacher_variables, objective)
        forward = make_forward(
            student, objective, teacher_variables, state.step, axis_name
        )
        gradients = make_gradients(follow, forward, params, scale, axis_name)
        if accumulate == 1:
            grads, metrics, after = gradients(carried, key, batch, None)
        else:
            counts = counts_by(follow, forward, params, carried, axis_name)
            grads, metrics, after = accumulated(
                counts, gradients, carried, key, batch, accumulate, axis_name
            )
        if axis_name is not None:
            grads, metrics = lax.psum((grads, metrics), axis_name)
            after = agree(after, axis_name)
        opt_state: Any
        updates, opt_state = with_loss.update(
            grads, state.opt_state, state.params, value=metrics["loss"]
        )
        metrics["update_norm"] = optax.tree.norm(updates)
        if guard is not None:
            after = choose(opt_state.skipped == guard.skipped, after, carried)
            metrics |= {"skipped": opt_state.skipped, "loss_scale": guard.scale}
        new = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
            model_state=after.model_state,
            objective_state=after.objective_state,
            key=state.key,
        )
        return new, metrics

    return step


def _step_key(state: TrainState, axis_name: str | None) -> jax.Array:
    key = jax.random.fold_in(state.key, state.step)
    if axis_name is None:
        return key
    return jax.random.fold_in(key, lax.axis_index(axis_name))


def _as_arrays(variables: Variables | None) -> Variables | None:
    if variables is None:
        return None
    check_variables(teacher_variables=variables)
    with jax.named_scope("teacher"):
        return restored(variables)
