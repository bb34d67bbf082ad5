"""Freezing by path: no update, and no optimizer memory."""

import optax

from jaxkd import trees
from jaxkd._types import Params

_LABELS = ("train", "frozen")


def freeze(
    tx: optax.GradientTransformation, rules: trees.Rules
) -> optax.GradientTransformation:
    """Restricts an optimizer to the parameters that are not frozen.

    Frozen parameters are masked out by :func:`optax.partition`: their updates are zero,
    weight decay does not reach them, they take no optimizer memory, and gradient
    clipping inside ``tx`` does not count them. So clipping belongs inside:
    ``freeze(optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3)), rules)``.

    Distillation with :func:`make_train_step` needs this for layers of the student
    only; its teacher is an argument of the step and never among the parameters. If you
    keep teacher and student in one tree, freeze the teacher with
    ``[("^teacher/", "frozen")]``, and take no gradient of it.

    Args:
        tx: any optax optimizer.
        rules: pairs of a regular expression and ``"train"`` or ``"frozen"``; the first
            that matches a path wins. What no rule matches is trained.

    Returns:
        An optimizer of the whole tree.

    Raises:
        ValueError: for another label; at ``init``, if a rule matches no path.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> from jaxkd import train
        >>> params = {"teacher": {"w": jnp.ones(2)}, "student": {"w": jnp.ones(2)}}
        >>> tx = train.freeze(optax.adamw(0.1), [("^teacher/", "frozen")])
        >>> updates, state = tx.update(params, tx.init(params), params)
        >>> print(updates["teacher"]["w"], updates["student"]["w"] < 0)
        [0. 0.] [ True  True]
    """
    rules = tuple(rules)
    for pattern, label in rules:
        if label not in _LABELS:
            raise ValueError(
                f"the rule {pattern!r} says {label!r}; it must say 'train' or 'frozen'."
            )

    def labels(params: Params) -> Params:
        return trees.assign(params, rules, default="train")

    return optax.partition({"train": tx, "frozen": optax.set_to_zero()}, labels)
