"""The state of training."""

import dataclasses
from typing import Any

import jax
import optax
from jax import numpy as jnp
from jaxtyping import Array, Int

from jaxkd import _checks, compress
from jaxkd._types import Batch, Params, PRNGKey, Tree
from jaxkd.models import Model, Variables
from jaxkd.objectives import Objective, View
from jaxkd.train._arguments import (
    check_batch,
    check_key,
    check_parts,
    check_trainable,
    check_variables,
    part,
    start_optimizer,
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a step reads and writes; the teacher is not in it.

    Attributes:
        step: number of updates done.
        params: ``{"student": ..., "objective": ...}``, all that the optimizer trains.
        opt_state: the optimizer's state.
        model_state: the student's state, such as BatchNorm statistics.
        objective_state: the objective's state, such as memory banks.
        key: a typed key, folded with the step at every update and never changed.
    """

    step: Int[Array, ""]
    params: Params
    opt_state: Tree
    model_state: Tree
    objective_state: Tree
    key: PRNGKey

    @property
    def student(self) -> Variables:
        """The student's variables, to evaluate, compress or export."""
        return Variables(self.params["student"], self.model_state)


def init_state(
    key: PRNGKey,
    student: Model,
    teacher: Model | None,
    objective: Objective,
    tx: optax.GradientTransformation,
    batch: Batch,
    *,
    variables: Variables | None = None,
    teacher_variables: Variables | None = None,
) -> TrainState:
    """Makes the state to begin with, and finds mistakes before anything runs.

    Student, teacher and objective are traced on the shapes of the batch: wrong feature
    names, missing entries of the batch and class counts that differ raise here.

    Args:
        key: a typed key, ``jax.random.key(seed)``.
        student: the model to train.
        teacher: the model to follow; ``None`` to train without.
        objective: what to minimise.
        tx: the optimizer.
        batch: a batch of arrays like those to come.
        variables: the student's variables to start from; drawn from ``key`` by
            default. They are copied: donation never touches the caller's arrays.
        teacher_variables: the teacher's, of which only shapes are read; by default they
            are those of ``teacher.init``.

    Returns:
        A :class:`TrainState`.

    Raises:
        ValueError: if shapes do not fit, a label of this batch is out of range, the
            batch is empty, or :func:`jaxkd.compress.keep_sparse` is not the last link.
        KeyError: if a feature or an entry of the batch is missing.
        TypeError: if ``key`` is not a typed key, or another argument is of another
            kind than described.

    Examples:
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxkd import models, objectives, train
        >>> student = models.from_linen(models.MLP(hidden=(8,), classes=3))
        >>> batch = {"image": jnp.ones((2, 4)), "label": jnp.array([0, 2])}
        >>> state = train.init_state(
        ...     jax.random.key(0),
        ...     student,
        ...     None,
        ...     objectives.hard_label(),
        ...     optax.sgd(0.1),
        ...     batch,
        ... )
        >>> int(state.step), list(state.params)
        (0, ['objective', 'student'])
    """
    check_key(key)
    check_parts(student, teacher, objective, tx)
    check_variables(variables=variables, teacher_variables=teacher_variables)
    check_batch(batch)
    init_key, objective_key, run_key = jax.random.split(key, 3)
    if variables is None:
        variables = student.init(init_key, batch)
    check_trainable(variables.params)
    if teacher is not None and teacher_variables is None:
        teacher_variables = jax.eval_shape(teacher.init, init_key, dict(batch))
    view = _shapes(student, teacher, objective, variables, teacher_variables, batch)
    objective_params, objective_state = objective.init(objective_key, view)
    jax.eval_shape(objective.apply, objective_params, objective_state, view)
    _check_labels(batch, view)
    params = {"student": variables.params, "objective": objective_params}
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=start_optimizer(tx, params),
        model_state=variables.state,
        objective_state=objective_state,
        key=run_key,
    )
    return copy(state)


def copy(tree: Tree) -> Tree:
    """Copies every array, so that donating the result eats nothing of the caller's.

    Args:
        tree: a tree of arrays, typed keys among them.

    Returns:
        A tree of the same values in buffers of its own.
    """
    return jax.tree.map(_copy_leaf, tree)


def _copy_leaf(x: Any) -> jax.Array:
    if jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key):
        data = jnp.copy(jax.random.key_data(x))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(x))
    return jnp.copy(x)


def restored(variables: Variables) -> Variables:
    """Variables with quantized parameters as arrays again.

    Args:
        variables: a model's.

    Returns:
        The same, in which every leaf is an array.

    Raises:
        TypeError: if they are no :class:`~jaxkd.models.Variables`.
    """
    check_variables(variables=variables)
    return variables._replace(params=compress.dequantize(variables.params))


def _shapes(
    student: Model,
    teacher: Model | None,
    objective: Objective,
    variables: Variables,
    teacher_variables: Variables | None,
    batch: Batch,
) -> View:
    """What the objective will see, as shapes."""

    def run(own: Any, followed: Any, batch: Any) -> View:
        key, out = jax.random.key(0), None
        if teacher is not None:
            followed = restored(followed)
            params, state = followed
            names = objective.teacher_features
            with part("teacher"):
                out = teacher.apply(params, state, batch, features=names)
        params, state = own
        names = objective.student_features
        with part("student"):
            own = student.apply(
                params, state, batch, rng=key, train=True, features=names
            )
        step = jnp.zeros((), jnp.int32)
        return View(own, out, batch, step, key, None, followed)

    return jax.eval_shape(run, variables, teacher_variables, dict(batch))


def _check_labels(batch: Batch, view: View) -> None:
    if "label" in batch and view.student.logits.ndim == batch["label"].ndim + 1:
        labels = batch["label"]
        if jnp.issubdtype(labels.dtype, jnp.integer):
            _checks.check_label_range(labels, view.student.logits.shape[-1])
