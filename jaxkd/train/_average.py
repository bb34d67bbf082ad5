"""A running average of the parameters, as an optax transformation."""

from typing import Any, NamedTuple

import jax
import optax
from jax import numpy as jnp

from jaxkd import _checks
from jaxkd._types import Params, Tree


class AverageState(NamedTuple):
    """The state of :func:`average_params`.

    Attributes:
        average: a tree like the parameters.
    """

    average: Params


def average_params(decay: float) -> optax.GradientTransformation:
    r"""Keeps an exponential moving average of the parameters; the last link of a chain.

    .. math::
        \bar\theta_0 = \theta_0, \qquad
        \bar\theta_{t+1} = \delta \, \bar\theta_t + (1 - \delta) \, \theta_{t+1}

    It changes no update. The average is in the optimizer's state, so it is saved,
    resumed and sharded with it; :func:`averaged` finds it.

    Args:
        decay: :math:`\delta` in ``[0, 1]``, such as 0.999.

    Returns:
        A transformation.

    Raises:
        ValueError: if ``decay`` is outside; at ``update``, without parameters.

    Examples:
        >>> import jax.numpy as jnp, optax
        >>> from jaxkd import train
        >>> tx = optax.chain(optax.sgd(1.0), train.average_params(0.5))
        >>> params = jnp.array([2.0])
        >>> updates, state = tx.update(jnp.array([2.0]), tx.init(params), params)
        >>> print(optax.apply_updates(params, updates), train.averaged(state))
        [0.] [1.]

    References:
        Tarvainen and Valpola, `Mean teachers are better role models
        <https://arxiv.org/abs/1703.01780>`_, 2017, equation 1.
    """
    _checks.check_fraction(decay=decay)

    def init(params: Params) -> AverageState:
        return AverageState(jax.tree.map(jnp.asarray, params))

    def update(
        updates: Tree, state: Any, params: Params = None
    ) -> tuple[Tree, AverageState]:
        if params is None:
            raise ValueError("average_params needs the parameters: tx.update(g, s, p).")
        new = optax.apply_updates(params, updates)
        return updates, AverageState(
            jax.tree.map(
                lambda a, p: (decay * a + (1 - decay) * p).astype(a.dtype),
                state.average,
                new,
            )
        )

    return optax.GradientTransformation(init, update)


def averaged(opt_state: Tree) -> Params:
    """The average that :func:`average_params` keeps, out of an optimizer's state.

    Args:
        opt_state: the state of the whole optimizer; ``averaged(state.opt_state)
            ["student"]`` of a train state's.

    Returns:
        A tree like the parameters.

    Raises:
        ValueError: if there is none, or more than one.

    Examples:
        >>> import jax.numpy as jnp
        >>> from jaxkd import train
        >>> print(train.averaged(train.average_params(0.9).init(jnp.ones(1))))
        [1.]
    """
    is_average = lambda x: isinstance(x, AverageState)
    leaves = jax.tree.leaves(opt_state, is_leaf=is_average)
    found = [x.average for x in leaves if is_average(x)]
    if len(found) != 1:
        raise ValueError(
            f"the optimizer's state has {len(found)} averages, wanted one: make the "
            "optimizer with optax.chain(..., train.average_params(decay))."
        )
    return found[0]
