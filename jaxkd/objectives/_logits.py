"""Objectives on logits that have names of their own."""

from jaxkd import _checks, losses
from jaxkd.objectives._base import Objective
from jaxkd.objectives._bridge import logit_objective
from jaxkd.objectives._names import describe


def soft_target(*, temperature: float, where: str | None = None) -> Objective:
    r"""Follow the teacher's softened distribution: :func:`losses.soft_target_kl`.

    Args:
        temperature: :math:`\tau > 0`, or a schedule; the factor :math:`\tau^2` is
            included.
        where: an entry of the batch, true for the examples that count; all by default.

    Returns:
        An :class:`Objective` of one term, ``"soft_target"``.

    Raises:
        ValueError: if the temperature is not positive; at ``init_state``, if student
            and teacher have different classes, or there is no teacher.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.soft_target(temperature=4.0)
        soft_target(temperature=4.0)

    References:
        Hinton et al., `Distilling the Knowledge in a Neural Network
        <https://arxiv.org/abs/1503.02531>`_, 2015, section 2.
    """
    if not callable(temperature):
        _checks.check_positive(temperature=temperature)
    words = describe("soft_target", temperature=temperature, where=where)
    return logit_objective(
        losses.soft_target_kl,
        "soft_target",
        "label",
        where,
        words,
        temperature=temperature,
    )


def hard_label(*, label: str = "label", where: str | None = None) -> Objective:
    """Predict the true classes: :func:`losses.cross_entropy`.

    Args:
        label: the entry of the batch with integer labels.
        where: an entry of the batch, true for the examples that count, such as those
            which have a label; all by default.

    Returns:
        An :class:`Objective` of one term, ``"hard_label"``.

    Raises:
        KeyError: at ``init_state``, if the batch has no such entry.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.hard_label(where="labelled")
        hard_label(where='labelled')
    """
    shown = {} if label == "label" else {"label": label}
    words = describe("hard_label", **shown, where=where)
    return logit_objective(losses.cross_entropy, "hard_label", label, where, words)


def logit_mse(*, where: str | None = None) -> Objective:
    """Match the teacher's logits: :func:`losses.logit_mse`.

    Args:
        where: an entry of the batch, true for the examples that count; all by default.

    Returns:
        An :class:`Objective` of one term, ``"logit_mse"``.

    Raises:
        ValueError: at ``init_state``, if student and teacher have different classes, or
            there is no teacher.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.logit_mse()
        logit_mse()

    References:
        Ba and Caruana, `Do Deep Nets Really Need to be Deep?
        <https://arxiv.org/abs/1312.6184>`_, 2014, equation 1.
    """
    words = describe("logit_mse", where=where)
    return logit_objective(losses.logit_mse, "logit_mse", "label", where, words)
