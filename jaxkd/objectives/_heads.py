"""Objectives with classifiers of their own, or with the teacher's."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import flax.linen as nn
import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _names, losses
from jaxkd._types import Batch, Params, PRNGKey, Tree
from jaxkd.models import BatchNorm, Model, Out, Variables
from jaxkd.objectives._base import Objective, Term, Terms, View
from jaxkd.objectives._modules import (
    Projectors,
    Shape,
    linear_adapter,
    match_positions,
    trained_objective,
)
from jaxkd.objectives._names import Names, describe, names_of
from jaxkd.objectives._reduce import mean_over_batch, teacher_of

# From the teacher's variables and its last feature to its logits.
Head: TypeAlias = Callable[[Variables, Array], Array]


def representation_regression(
    *, student: str, teacher: str, head: Head, beta: float = 5.0
) -> Objective:
    r"""Match the teacher's last feature, and what the teacher's head makes of it: SRRL.

    .. math::
        \mathrm{mse}(\bar c(f_s), \bar f_t) + \beta \, \mathrm{mse}(h(c(f_s)), t)

    with a trained :math:`c` (linear, batch normalization, ReLU), means over the
    positions, and the teacher's frozen head :math:`h`.

    Args:
        student: the student's last feature.
        teacher: the teacher's, in front of its head.
        head: ``(teacher_variables, feature) -> logits``.
        beta: weight of the second part.

    Returns:
        An :class:`Objective` of two terms, ``"feature"`` and ``"logits"``.

    Raises:
        ValueError: at ``init_state``, if there is no teacher, or the head gives logits
            of another shape than the teacher.
        KeyError: at ``init_state``, if a model has no such feature.

    Examples:
        >>> from jaxkd import objectives
        >>> def head(variables, pooled):
        ...     layer = variables.params["head"]
        ...     return pooled @ layer["kernel"] + layer["bias"]
        >>> objectives.representation_regression(
        ...     student="pool", teacher="pool", head=head
        ... )
        representation_regression(student='pool', teacher='pool', beta=5.0)

    References:
        Yang et al., `Knowledge Distillation via Softmax Regression Representation
        Learning <https://openreview.net/forum?id=ZzwDy_wiWv>`_, 2021, section 3.
    """
    name = "representation_regression"

    def terms(view: View, projected: dict[str, Array]) -> Terms:
        followed = teacher_of(view, name)
        made, wanted = projected[student], followed.features[teacher]
        logits = head(_variables_of(view, name), made)
        feature = losses.feature_mse(match_positions(made, ()), _pooled(wanted))
        matched = losses.logit_mse(logits, followed.logits)
        mean = lambda values: mean_over_batch(view.batch, values, None, name)
        return {
            "feature": Term(mean(feature), jnp.float32(1.0)),
            "logits": Term(mean(matched), jnp.float32(beta)),
        }

    adapter = linear_adapter(normalize=True, activate=True)
    return trained_objective(
        name,
        module=lambda view: Projectors(
            {student: adapter(teacher_of(view, name).features[teacher].shape)}
        ),
        inputs=lambda view: ({student: view.student.features[student]},),
        terms=terms,
        student=(student,),
        teacher=(teacher,),
        shown=describe(name, student=student, teacher=teacher, beta=beta),
    )


class ReusedHeadProjector(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each with batch normalization and ReLU: SimKD.

    Attributes:
        shape: the teacher's.
        factor: the inner convolutions have this times fewer channels.
    """

    shape: Shape
    factor: int = 2

    @nn.compact
    def __call__(
        self,
        x: Array,
        *,
        where: Array | None = None,
        axis_name: str | None = None,
        train: bool = True,
    ) -> Array:
        """Returns the feature, of the teacher's shape."""
        positions, channels = self.shape[1:-1], self.shape[-1]
        x = match_positions(x, positions)
        inner = max(channels // self.factor, 1)
        windows = [(n,) * len(positions) for n in (1, 3, 1)]
        for i, (width, window) in enumerate(
            zip((inner, inner, channels), windows, strict=True), start=1
        ):
            if positions:
                x = nn.Conv(width, window, use_bias=False, name=f"conv{i}")(x)
            else:
                x = nn.Dense(width, use_bias=False, name=f"conv{i}")(x)
            norm = BatchNorm(name=f"norm{i}")
            x = nn.relu(norm(x, where=where, axis_name=axis_name, train=train))
        return x


def reused_head(*, student: str, teacher: str, factor: int = 2) -> Objective:
    """Match the teacher's last feature, to use the teacher's classifier: SimKD.

    The trained projector is part of the model that is used in the end: make it with
    :func:`reused_head_model`. No other loss is needed.

    Args:
        student: the student's last feature, a map or a vector.
        teacher: the teacher's, in front of its head.
        factor: the projector is this times narrower inside.

    Returns:
        An :class:`Objective`.

    Raises:
        ValueError: at ``init_state``, if there is no teacher.
        KeyError: at ``init_state``, if a model has no such feature.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.reused_head(student="block3", teacher="block3")
        reused_head(student='block3', teacher='block3', factor=2)

    References:
        Chen et al., `Knowledge Distillation with the Reused Teacher Classifier
        <https://arxiv.org/abs/2203.14001>`_, 2022, section 3.
    """
    name = "reused_head"

    def terms(view: View, made: Array) -> Terms:
        wanted = teacher_of(view, name).features[teacher]
        values = losses.feature_mse(made, wanted)
        mean = mean_over_batch(view.batch, values, None, name)
        return {name: Term(mean, jnp.float32(1.0))}

    return trained_objective(
        name,
        module=lambda view: ReusedHeadProjector(
            teacher_of(view, name).features[teacher].shape, factor
        ),
        inputs=lambda view: (view.student.features[student],),
        terms=terms,
        student=(student,),
        teacher=(teacher,),
        shown=describe(name, student=student, teacher=teacher, factor=factor),
    )


def reused_head_model(
    student: Model, *, feature: str, shape: Shape, head: Head, factor: int = 2
) -> Model:
    """The student, :func:`reused_head`'s projector and the teacher's head, as one.

    Args:
        student: the student.
        feature: the student's feature that was projected.
        shape: of the teacher's feature, ``[batch, *positions, channels]``; its batch is
            not read.
        head: ``(teacher_variables, feature) -> logits``.
        factor: as in :func:`reused_head`.

    Returns:
        A :class:`~jaxkd.models.Model` for evaluation and export. Its variables are
        dicts of the ``student``'s, the ``projector``'s (``params["objective"]`` and
        ``objective_state`` of training) and the ``teacher``'s.

    Examples:
        >>> import jax, jax.numpy as jnp
        >>> from jaxkd import models, objectives
        >>> student = models.from_linen(models.MLP((8,), 3))
        >>> model = objectives.reused_head_model(
        ...     student,
        ...     feature="dense1",
        ...     shape=(1, 16),
        ...     head=lambda variables, x: x @ variables.params,
        ... )
        >>> batch = {"image": jnp.ones((2, 4))}
        >>> params, state = model.init(jax.random.key(0), batch)
        >>> params["teacher"] = jnp.ones((16, 3))
        >>> model.apply(params, state, batch).logits.shape
        (2, 3)
    """
    projector = ReusedHeadProjector(tuple(shape), factor)

    def init(key: PRNGKey, batch: Batch) -> Variables:
        params, state = student.init(key, batch)
        seen = jax.eval_shape(
            lambda: student.apply(params, state, batch, features=(feature,)).features
        )
        made = dict(projector.lazy_init(key, seen[feature]))
        parts = {"student": params, "projector": made.pop("params"), "teacher": {}}
        states = {"student": state, "projector": made, "teacher": {}}
        return Variables(parts, states)

    def apply(
        params: Params,
        state: Tree,
        batch: Batch,
        *,
        rng: PRNGKey | None = None,
        train: bool = False,
        features: Sequence[str] = (),
        axis_name: str | None = None,
    ) -> Out:
        wanted = (*features, feature)
        own = student.apply(params["student"], state["student"], batch, features=wanted)
        x: Any = projector.apply(
            {"params": params["projector"], **state["projector"]},
            own.features[feature],
            train=False,
        )
        logits = head(Variables(params["teacher"], state["teacher"]), x)
        found = {name: own.features[name] for name in features}
        return Out(logits, found, state)

    return Model(init, apply)


class Exits(nn.Module):
    """A classifier on each feature: the mean over the positions, then a linear map.

    Attributes:
        classes: number of classes.
    """

    classes: int

    @nn.compact
    def __call__(
        self,
        features: dict[str, Array],
        *,
        where: Array | None = None,
        axis_name: str | None = None,
    ) -> dict[str, Array]:
        """Returns logits, shape ``[batch, classes]``, by the feature's name."""
        logits = {}
        for name, x in features.items():
            hidden = nn.Dense(x.shape[-1], name=f"{name.replace('/', '_')}_dense")
            x = nn.relu(hidden(match_positions(x, ())))
            head = nn.Dense(self.classes, name=f"{name.replace('/', '_')}_head")
            logits[name] = head(x)
        return logits


def exits(*, student: Names, exponent: float = 1.0, label: str = "label") -> Objective:
    """Let classifiers on the student's stages follow the teacher's logits: OFA-KD.

    :func:`losses.target_enhanced_cross_entropy` at each stage. As only logits are
    compared, teacher and student may be of different families.

    Args:
        student: the student's features, one for each exit.
        exponent: how much the label counts more than in the teacher's prediction.
        label: the entry of the batch with integer labels.

    Returns:
        An :class:`Objective` of one term for each exit; add the same loss at the last
        layer, ``on_logits(losses.target_enhanced_cross_entropy)``.

    Raises:
        ValueError: at ``init_state``, if there is no teacher.
        KeyError: at ``init_state``, if the student has no such feature, or the batch no
            labels.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.exits(student=["block1", "block2"])
        exits(student=['block1', 'block2'], exponent=1.0)

    References:
        Hao et al., `One-for-All: Bridge the Gap Between Heterogeneous Architectures in
        Knowledge Distillation <https://arxiv.org/abs/2310.19444>`_, 2023, section 3.
    """
    name, ours = "exits", names_of(student)

    def terms(view: View, logits: dict[str, Array]) -> Terms:
        followed = teacher_of(view, name).logits
        labels = _names.get(view.batch, label, name)
        found = {}
        for s in ours:
            values = losses.target_enhanced_cross_entropy(
                logits[s], followed, labels, exponent=exponent
            )
            mean = mean_over_batch(view.batch, values, None, name)
            found[s] = Term(mean, jnp.float32(1.0))
        return found

    return trained_objective(
        name,
        module=lambda view: Exits(teacher_of(view, name).logits.shape[-1]),
        inputs=lambda view: ({s: view.student.features[s] for s in ours},),
        terms=terms,
        student=ours,
        teacher=(),
        shown=describe(name, student=student, exponent=exponent),
    )


def _variables_of(view: View, reader: str) -> Variables:
    if view.teacher_variables is None:
        raise ValueError(f"{reader} needs the teacher's variables for its head.")
    return view.teacher_variables


def _pooled(x: Array) -> Array:
    return match_positions(x, ())
