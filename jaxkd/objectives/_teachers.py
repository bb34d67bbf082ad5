"""Objectives on several teachers: those of a model made by :func:`models.join`.

The sum over teachers is :func:`combine` of one :func:`follow` each; weights are its
weights, and the mean over K teachers is the weight 1/K.
"""

from collections.abc import Mapping

import jax
from jax import numpy as jnp
from jaxtyping import Array

from jaxkd import _checks, _names, losses
from jaxkd._types import Params, PRNGKey, Tree
from jaxkd.models import Out, Variables
from jaxkd.objectives._base import Objective, Term, Terms, View
from jaxkd.objectives._names import describe
from jaxkd.objectives._reduce import mean_over_batch


def follow(teacher: str, objective: Objective) -> Objective:
    """An objective on one of several teachers.

    Args:
        teacher: the teacher's name in :func:`jaxkd.models.join`.
        objective: what to minimise; it names the teacher's features as if there were
            no other.

    Returns:
        An :class:`Objective`.

    Raises:
        ValueError: at ``init_state``, if there is no teacher of that name.

    Examples:
        >>> from jaxkd import objectives
        >>> soft = objectives.soft_target(temperature=4.0)
        >>> objectives.combine(
        ...     a=(0.5, objectives.follow("a", soft)),
        ...     b=(0.5, objectives.follow("b", soft)),
        ... ).teacher_features
        ()
    """

    def narrow(view: View) -> View:
        logits = _several(view, "follow")
        if teacher not in logits:
            raise ValueError(
                f"there is no teacher {teacher!r}; {_names.nearest(teacher, logits)}"
            )
        assert view.teacher is not None
        start = f"{teacher}/"
        features = {
            name.removeprefix(start): value
            for name, value in view.teacher.features.items()
            if name.startswith(start)
        }
        variables = view.teacher_variables
        if variables is not None:
            variables = Variables(variables.params[teacher], variables.state[teacher])
        out = Out(logits[teacher], features)
        return view._replace(teacher=out, teacher_variables=variables)

    return objective._replace(
        init=lambda key, view: objective.init(key, narrow(view)),
        apply=lambda params, state, view: objective.apply(params, state, narrow(view)),
        teacher_features=tuple(f"{teacher}/{f}" for f in objective.teacher_features),
        description=f"follow({teacher!r}, {objective!r})",
    )


def ensemble(objective: Objective) -> Objective:
    r"""An objective on the mean of all teachers' probabilities.

    .. math::
        p = \frac{1}{K} \sum_k \mathrm{softmax}(t_k)

    Its logarithm serves as the one teacher's logits.

    Args:
        objective: what to minimise; one on logits.

    Returns:
        An :class:`Objective`.

    Raises:
        ValueError: if the objective reads features; at ``init_state``, if there is one
            teacher only, or their classes differ.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.ensemble(objectives.soft_target(temperature=1.0))
        ensemble(soft_target(temperature=1.0))
    """
    if objective.teacher_features:
        raise ValueError(
            f"an ensemble has no features, but {objective!r} reads "
            f"{objective.teacher_features}: use objectives.follow."
        )

    def joined(view: View) -> View:
        all_logits = _stack(_several(view, "ensemble"))
        log_p = jax.nn.log_softmax(all_logits)
        mean = jax.nn.logsumexp(log_p, axis=0) - jnp.log(len(all_logits))
        return view._replace(teacher=Out(mean), teacher_variables=None)

    def init(key: PRNGKey, view: View) -> tuple[Params, Tree]:
        return objective.init(key, jax.eval_shape(joined, _arrays_of(view)))

    return objective._replace(
        init=init,
        apply=lambda params, state, view: objective.apply(params, state, joined(view)),
        description=f"ensemble({objective!r})",
    )


def confidence_weighted(
    *, temperature: float, label: str = "label", where: str | None = None
) -> Objective:
    r"""Soft targets of several teachers, each weighted by how well it knows the label.

    .. math::
        \sum_k w_k \, \tau^2 \, \mathrm{KL}(p_k \| q), \qquad
        w_k = \frac{1}{K - 1} \Big(1 - \frac{e^{\mathrm{CE}_k}}
                                            {\sum_j e^{\mathrm{CE}_j}}\Big)

    The weights are per example: :math:`\mathrm{CE}_k` is the cross-entropy of teacher
    :math:`k` at temperature 1. They sum to 1.

    Args:
        temperature: :math:`\tau > 0`; the factor :math:`\tau^2` is included.
        label: the entry of the batch with integer labels.
        where: an entry of the batch, true for the examples that count; all by default.

    Returns:
        An :class:`Objective` of one term, ``"confidence_weighted"``.

    Raises:
        ValueError: if the temperature is not positive; at ``init_state``, if there is
            one teacher only, or classes differ.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.confidence_weighted(temperature=4.0)
        confidence_weighted(temperature=4.0)

    References:
        Zhang et al., `Confidence-Aware Multi-Teacher Knowledge Distillation
        <https://arxiv.org/abs/2201.00007>`_, 2022, section 2.1.
    """
    _checks.check_positive(temperature=temperature)
    name = "confidence_weighted"

    def apply(params: Params, state: Tree, view: View) -> tuple[Terms, Tree]:
        teachers = _stack(_several(view, name))
        labels = _names.get(view.batch, label, name)
        entropies = jnp.stack([losses.cross_entropy(t, labels) for t in teachers])
        weights = (1 - jax.nn.softmax(entropies, axis=0)) / (len(teachers) - 1)
        divergences = jnp.stack(
            [
                losses.soft_target_kl(view.student.logits, t, temperature=temperature)
                for t in teachers
            ]
        )
        values = jnp.sum(weights * divergences, axis=0)
        mean = mean_over_batch(view.batch, values, where, name)
        return {name: Term(mean, jnp.float32(1.0))}, state

    words = describe(name, temperature=temperature, where=where)
    return Objective(lambda key, view: ({}, {}), apply, description=words)


def _several(view: View, reader: str) -> Mapping[str, Array]:
    """The logits of all teachers."""
    logits = None if view.teacher is None else view.teacher.logits
    if not isinstance(logits, Mapping) or (len(logits) < 2 and reader != "follow"):
        raise ValueError(
            f"{reader} is for several teachers, but there is "
            f"{'none' if logits is None else 'one'}: join them, "
            "models.join(a=..., b=...)."
        )
    return logits


def _stack(logits: Mapping[str, Array]) -> Array:
    shapes = {name: x.shape for name, x in logits.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"the teachers' logits have different shapes: {shapes}.")
    return jnp.stack(list(logits.values()))


def _arrays_of(view: View) -> View:
    """Without what is no array, for tracing."""
    return view._replace(axis_name=None)
