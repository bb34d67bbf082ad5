"""An objective with a temperature that is trained against the student."""

import jax
from jax import numpy as jnp

from jaxkd import _checks, losses
from jaxkd._types import Params, PRNGKey, Tree
from jaxkd.losses import Mean
from jaxkd.objectives._base import (
    Objective,
    Term,
    Terms,
    View,
    Weight,
    at_step,
    shown,
)
from jaxkd.objectives._reduce import mean_over_batch, teacher_of


def curriculum_temperature(
    *,
    reversal: Weight = 1.0,
    lowest: float = 1.0,
    span: float = 20.0,
    where: str | None = None,
) -> Objective:
    r"""Soft targets at a temperature that learns to make the student's task harder.

    .. math::
        \min_{\theta} \max_{g} \; \tau^2 \, \mathrm{KL}(p \| q), \qquad
        \tau = \tau_0 + r \, \sigma(g)

    One optimizer does both: on its way back to :math:`g`, which starts at 1, the
    gradient is multiplied by :math:`-\lambda`. The paper raises :math:`\lambda` from 0
    to 1 along a cosine over ten epochs, from easy to hard:
    ``lambda step: 1 - optax.cosine_decay_schedule(1.0, ten_epochs)(step)``.

    Args:
        reversal: :math:`\lambda \ge 0`, a number or a schedule.
        lowest: :math:`\tau_0 > 0`, the lowest temperature.
        span: :math:`r > 0`, how far above it the temperature may go.
        where: an entry of the batch, true for the examples that count; all by default.

    Returns:
        An :class:`Objective` of two terms: ``"soft_target"``, and ``"temperature"`` of
        weight 0, for the metrics.

    Raises:
        ValueError: if a number is not positive; at ``init_state``, if there is no
            teacher or the classes differ.

    Examples:
        >>> from jaxkd import objectives
        >>> objectives.curriculum_temperature(reversal=0.5)
        curriculum_temperature(reversal=0.5, lowest=1.0, span=20.0)

    References:
        Li et al., `Curriculum Temperature for Knowledge Distillation
        <https://arxiv.org/abs/2211.16231>`_, 2023, equations 3 to 6.
    """
    _checks.check_positive(lowest=lowest, span=span)
    name = "curriculum_temperature"

    def init(key: PRNGKey, view: View) -> tuple[Params, Tree]:
        return {"g": jnp.ones(())}, {}

    def apply(params: Params, state: Tree, view: View) -> tuple[Terms, Tree]:
        scale = at_step(reversal, view.step)
        g = losses.reverse_gradient(params["g"], scale=scale)
        temperature = lowest + span * jax.nn.sigmoid(g)
        values = losses.soft_target_kl(
            view.student.logits,
            teacher_of(view, name).logits,
            temperature=temperature,
        )
        mean = mean_over_batch(view.batch, values, where, name)
        shown_only = Mean(jax.lax.stop_gradient(temperature), jnp.ones(()))
        terms = {
            "soft_target": Term(mean, jnp.float32(1.0)),
            "temperature": Term(shown_only, jnp.float32(0.0)),
        }
        return terms, state

    words = f"reversal={shown(reversal)}, lowest={lowest}, span={span}"
    return Objective(init, apply, description=f"{name}({words})")
