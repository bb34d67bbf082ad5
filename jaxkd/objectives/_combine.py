"""Weighted sums of objectives."""

import jax

from jaxkd._types import Params, PRNGKey, Tree
from jaxkd.objectives._base import (
    Objective,
    Term,
    Terms,
    View,
    Weight,
    at_step,
    shown,
)

_TAKEN = ("loss", "update_norm")


def combine(**terms: tuple[Weight, Objective]) -> Objective:
    r"""The weighted sum :math:`\sum_i w_i L_i` of named objectives.

    Each appears in the metrics under its name, as it is, and under ``name/weighted``.

    Args:
        **terms: pairs ``(weight, objective)``. A weight is a number, or a schedule: a
            function from the number of updates done to a scalar, such as those of
            optax.

    Returns:
        An :class:`Objective`; the parts' parameters and states stand under their names.

    Raises:
        ValueError: if there are no terms, or one has the name of another metric.
        TypeError: if a term is not such a pair.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.combine(
        ...     soft=(0.9, objectives.soft_target(temperature=4.0)),
        ...     hard=(0.1, objectives.hard_label()),
        ... )
        combine(soft=(0.9, soft_target(temperature=4.0)), hard=(0.1, hard_label()))
    """
    _check_terms(terms)
    parts = {name: objective for name, (_, objective) in terms.items()}

    def init(key: PRNGKey, view: View) -> tuple[Params, Tree]:
        keys = {name: jax.random.fold_in(key, i) for i, name in enumerate(parts)}
        made = {name: part.init(keys[name], view) for name, part in parts.items()}
        params = {name: params for name, (params, _) in made.items()}
        return params, {name: state for name, (_, state) in made.items()}

    def apply(params: Params, state: Tree, view: View) -> tuple[Terms, Tree]:
        found: Terms = {}
        states = {}
        for name, (weight, part) in terms.items():
            inner, states[name] = part.apply(params[name], state[name], view)
            for path, term in inner.items():
                full = name if len(inner) == 1 else f"{name}/{path}"
                found[full] = Term(term.mean, term.weight * at_step(weight, view.step))
        return found, states

    features = [p.student_features for p in parts.values()]
    teacher_features = [p.teacher_features for p in parts.values()]
    words = ", ".join(f"{n}=({shown(w)}, {o!r})" for n, (w, o) in terms.items())
    return Objective(
        init, apply, _union(features), _union(teacher_features), f"combine({words})"
    )


def _check_terms(terms: dict[str, tuple[Weight, Objective]]) -> None:
    if not terms:
        raise ValueError("combine needs at least one term: name=(weight, objective).")
    for name, term in terms.items():
        if name in _TAKEN:
            raise ValueError(f"a term cannot be called {name!r}: a metric is.")
        pair = isinstance(term, tuple) and len(term) == 2
        if not pair or not isinstance(term[1], Objective):
            raise TypeError(f"`{name}` must be (weight, objective), got {term!r}.")


def _union(names: list[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for group in names for name in group))
