"""Objectives on embeddings: of both sides, against memories and queues."""

from typing import Any

import flax.linen as nn
import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _checks, _names, losses
from jaxkd._types import Params, PRNGKey, Tree
from jaxkd.objectives._base import Objective, Term, Terms, View
from jaxkd.objectives._bridge import mean_of
from jaxkd.objectives._modules import match_positions, trained_objective
from jaxkd.objectives._names import (
    Loss,
    check_hyperparameters,
    describe,
    name_of,
    positional,
)
from jaxkd.objectives._reduce import counted, mean_over_batch, teacher_of


class Embeddings(nn.Module):
    """A linear map of each side's feature, pooled over its positions.

    Attributes:
        student: channels of the student's embedding; ``None`` for the feature itself.
        teacher: the same of the teacher's.
    """

    student: int | None
    teacher: int | None

    @nn.compact
    def __call__(
        self,
        student: Array,
        teacher: Array,
        *,
        where: Array | None = None,
        axis_name: str | None = None,
    ) -> tuple[Array, Array]:
        """Returns both embeddings, shape ``[batch, channels]``."""
        s, t = match_positions(student, ()), match_positions(teacher, ())
        if self.student is not None:
            s = nn.Dense(self.student, name="student")(s)
        if self.teacher is not None:
            t = nn.Dense(self.teacher, name="teacher")(t)
        return s, t


def on_embeddings(
    loss: Loss, *, student: str, teacher: str, width: int = 128, **hyperparameters: Any
) -> Objective:
    """Any loss on features, of linear embeddings of both sides that are trained.

    Maps and tokens are pooled first. This is how CC (``losses.neighbour_correlation``)
    is trained, and relations of features that are wide.

    Args:
        loss: a loss of :mod:`jaxkd.losses` on features.
        student: the student's feature.
        teacher: the teacher's.
        width: channels of both embeddings.
        **hyperparameters: the loss's own; a schedule is called at each step.

    Returns:
        An :class:`Objective` of one term, named after the loss.

    Raises:
        TypeError: if the loss has no such hyperparameter.
        ValueError: at ``init_state``, if there is no teacher.
        KeyError: at ``init_state``, if a model has no such feature.

    Examples:
        >>> from jaxkd import losses, objectives
        >>> objectives.on_embeddings(
        ...     losses.neighbour_correlation, student="pool", teacher="pool"
        ... )
        on_embeddings(neighbour_correlation, student='pool', teacher='pool', width=128)

    References:
        Peng et al., `Correlation Congruence for Knowledge Distillation
        <https://arxiv.org/abs/1904.01802>`_, 2019, section 3.
    """
    name = name_of(loss)
    _checks.check_positive(width=width)
    check_hyperparameters(loss, hyperparameters)

    def terms(view: View, pair: tuple[Array, Array]) -> Terms:
        counts = pair[0].shape[:1]
        mean = mean_of(loss, name, pair, view, counts, None, **hyperparameters)
        return {name: Term(mean, jnp.float32(1.0))}

    return trained_objective(
        name,
        module=lambda view: Embeddings(width, width),
        inputs=lambda view: _pair(view, name, student, teacher),
        terms=terms,
        student=(student,),
        teacher=(teacher,),
        shown=describe(
            "on_embeddings",
            name,
            student=student,
            teacher=teacher,
            width=width,
            **hyperparameters,
        ),
    )


def contrastive_representation(
    *,
    student: str,
    teacher: str,
    size: int,
    negatives: int = 16384,
    width: int = 128,
) -> Objective:
    """Tell an example from others by the other side's embedding of it: CRD.

    :func:`losses.contrastive_representation` of trained linear embeddings, with a
    memory of both sides' embeddings of all examples. The memory is state: it is saved,
    resumed, and can be split over devices by ``rules`` on ``"objective_state"``. Where
    the step is mapped, each device draws negatives of its own.

    Args:
        student: the student's feature, as a rule the pooled one.
        teacher: the teacher's.
        size: number of training examples; the batch's ``index`` is in ``[0, size)``.
        negatives: how many other examples each is compared with.
        width: channels of the embeddings.

    Returns:
        An :class:`Objective`. The paper's weight is 0.8.

    Raises:
        ValueError: if a number is not positive; at ``init_state``, if there is no
            teacher.
        KeyError: at ``init_state``, if a model has no such feature, or the batch no
            ``index``.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.contrastive_representation(
        ...     student="pool", teacher="pool", size=50_000
        ... ).description
        "contrastive_representation(student='pool', teacher='pool', size=50000)"

    References:
        Tian et al., `Contrastive Representation Distillation
        <https://arxiv.org/abs/1910.10699>`_, 2020, section 3.
    """
    name = "contrastive_representation"
    _checks.check_positive(size=size, negatives=negatives, width=width)

    def embed(params: Params, view: View) -> tuple[Array, Array]:
        pair: Any = Embeddings(width, width).apply(
            {"params": params}, *_pair(view, name, student, teacher)
        )
        return pair

    def init(key: PRNGKey, view: View) -> tuple[Params, Tree]:
        _names.get(view.batch, "index", name)
        pair = _pair(view, name, student, teacher)
        params = Embeddings(width, width).lazy_init(key, *pair)["params"]
        own = jax.random.fold_in(key, 1)
        return params, losses.contrast_memory(own, size=size, channels=width)

    def apply(params: Params, state: Any, view: View) -> tuple[Terms, Tree]:
        pair, index = embed(params, view), jnp.asarray(view.batch["index"])
        others = losses.uniform_negatives(view.key, index, size=size, number=negatives)
        spread: dict[str, Any] = {
            "where": counted(view.batch, index.shape, None, name),
            "axis_name": view.axis_name,
        }
        fixed = jax.lax.stop_gradient(pair)
        memory = losses.calibrate_memory(state, *fixed, index, others, **spread)
        values = losses.contrastive_representation(*pair, index, others, memory)
        mean = mean_over_batch(view.batch, values, None, name)
        after = losses.update_memory(memory, *fixed, index, **spread)
        return {name: Term(mean, jnp.float32(1.0))}, after

    words = describe(name, student=student, teacher=teacher, size=size)
    return Objective(init, apply, (student,), (teacher,), words)


def on_queue(
    loss: Loss, *, student: str, teacher: str, size: int, **hyperparameters: Any
) -> Objective:
    """Any loss against a queue of embeddings of the latest examples: SEED, CompRess.

    The teacher's feature is its embedding; the student's is mapped to as many channels
    by a trained linear map. After each step the batch takes the place of the oldest.
    The loss's anchors come from the queues: ``anchors`` and ``teacher_anchors`` from
    the teacher's, ``student_anchors`` from the student's own.

    Args:
        loss: ``losses.instance_similarity_cross_entropy`` (SEED), ``losses.info_nce``,
            ``losses.anchor_similarity_kl`` (CompRess), or one in the same form.
        student: the student's feature, as a rule the pooled one.
        teacher: the teacher's.
        size: how many embeddings a queue holds, such as 65,536.
        **hyperparameters: the loss's own; a schedule is called at each step.

    Returns:
        An :class:`Objective` of one term, named after the loss. No labels are needed.

    Raises:
        TypeError: if the loss has no such hyperparameter.
        ValueError: if the size is not positive; at ``init_state``, if there is no
            teacher.
        KeyError: at ``init_state``, if a model has no such feature.

    Examples:
        >>> from jaxkd import losses, objectives
        >>> objectives.on_queue(
        ...     losses.info_nce, student="pool", teacher="pool", size=1024
        ... )
        on_queue(info_nce, student='pool', teacher='pool', size=1024)

    References:
        Fang et al., `SEED: Self-supervised Distillation For Visual Representation
        <https://arxiv.org/abs/2101.04731>`_, 2021, section 3.
    """
    name = name_of(loss)
    _checks.check_positive(size=size)
    check_hyperparameters(loss, hyperparameters)
    sides = ["student" if "student" in a else "teacher" for a in positional(loss)[2:]]

    def module(view: View) -> Embeddings:
        return Embeddings(_pair(view, name, student, teacher)[1].shape[-1], None)

    def init(key: PRNGKey, view: View) -> tuple[Params, Tree]:
        pair = _pair(view, name, student, teacher)
        params = module(view).lazy_init(key, *pair)["params"]
        keys = {side: jax.random.fold_in(key, len(side)) for side in sorted(set(sides))}
        channels = pair[1].shape[-1]
        return params, {
            side: losses.embedding_queue(own, size=size, channels=channels)
            for side, own in keys.items()
        }

    def apply(params: Params, state: Tree, view: View) -> tuple[Terms, Tree]:
        pair: Any = module(view).apply(
            {"params": params}, *_pair(view, name, student, teacher)
        )
        arrays = [*pair, *(state[side].embeddings for side in sides)]
        mean = mean_of(loss, name, arrays, view, (), None, **hyperparameters)
        where = counted(view.batch, pair[0].shape[:1], None, name)
        latest = jax.lax.stop_gradient({"student": pair[0], "teacher": pair[1]})
        after = {
            side: losses.update_queue(
                queue, latest[side], where=where, axis_name=view.axis_name
            )
            for side, queue in state.items()
        }
        return {name: Term(mean, jnp.float32(1.0))}, after

    words = describe(
        "on_queue", name, student=student, teacher=teacher, size=size, **hyperparameters
    )
    return Objective(init, apply, (student,), (teacher,), words)


def _pair(view: View, reader: str, student: str, teacher: str) -> tuple[Any, Any]:
    features = teacher_of(view, reader).features
    return view.student.features[student], features[teacher]
