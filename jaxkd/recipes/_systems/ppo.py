"""Proximal policy optimization, as short as it can be: what makes a teacher policy."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import numpy as jnp

from jaxkd import models
from jaxkd._types import Batch, PRNGKey
from jaxkd.models import Model, Variables

_ENVIRONMENTS, _LENGTH = 32, 128
_PASSES, _PARTS = 4, 8
_DISCOUNT, _LAMBDA, _CLIP, _ENTROPY = 0.99, 0.95, 0.2, 0.01


class Policy(NamedTuple):
    """What is trained together.

    Attributes:
        actor: from states to the logits of actions.
        critic: from states to the return that is expected.
    """

    actor: Any
    critic: Any


def train_policy(
    model: Model, environments: Any, *, seed: int, rounds: int, learning_rate: float
) -> Variables:
    r"""Trains a policy by proximal policy optimization (PPO).

    .. math::
        L = -\min(\rho A, \mathrm{clip}(\rho, 0.8, 1.2) A)
            + \tfrac12 (V(s) - R)^2 - 0.01\, H(\pi(s)), \qquad
        \rho = \frac{\pi(a \mid s)}{\pi_\text{old}(a \mid s)}

    with generalized advantages :math:`A` (discount 0.99, :math:`\lambda` 0.95). A round
    is 4,096 steps of the environments and 32 updates.

    Args:
        model: the policy, from ``state`` to the logits of actions; without a state.
        environments: a vector of 32 environments of gymnasium, which resets those that
            are over at their next step. It is closed by the caller.
        seed: of initial values, actions and environments.
        rounds: how many rounds.
        learning_rate: of Adam, falling to 0.

    Returns:
        The policy's variables; the same for the same seed.

    References:
        Schulman et al., `Proximal Policy Optimization Algorithms
        <https://arxiv.org/abs/1707.06347>`_, 2017, section 5.
    """
    critic = models.from_linen(
        models.MLP(hidden=(64, 64), classes=1), inputs=("state",)
    )
    key = jax.random.key(seed)
    state, _ = environments.reset(seed=seed)
    actor_key, critic_key = jax.random.split(key)
    params = Policy(
        model.init(actor_key, {"state": state}).params,
        critic.init(critic_key, {"state": state}).params,
    )
    updates = rounds * _PASSES * _PARTS
    tx = optax.chain(
        optax.clip_by_global_norm(0.5),
        optax.adam(optax.linear_schedule(learning_rate, 0.0, updates)),
    )
    memory = tx.init(params)
    act = _make_act(model)
    improve = _make_improve(model, critic, tx)
    over = np.zeros(_ENVIRONMENTS, bool)
    for number in range(rounds):
        own = jax.random.fold_in(key, number)
        steps, state, over = _play(act, environments, params.actor, state, over, own)
        params, memory = improve(params, memory, steps, state, own)
    return Variables(params.actor)


def _make_act(model: Model) -> Any:
    @jax.jit
    def act(params: Any, state: Any, key: PRNGKey) -> tuple[jax.Array, jax.Array]:
        logits = jax.nn.log_softmax(model.apply(params, {}, {"state": state}).logits)
        action = jax.random.categorical(key, logits)
        return action, jnp.take_along_axis(logits, action[:, None], axis=1)[:, 0]

    return act


def _play(
    act: Any, environments: Any, params: Any, state: Any, over: Any, key: PRNGKey
) -> tuple[Batch, np.ndarray, np.ndarray]:
    """Steps in all environments, arrays of shape ``[length, environments, ...]``."""
    rows = []
    for own in jax.random.split(key, _LENGTH):
        action, log_prob = jax.device_get(act(params, state, own))
        following, reward, ended, cut, _ = environments.step(action)
        rows.append(
            {
                "state": state,
                "action": action,
                "log_prob": log_prob,
                "reward": reward,
                "ended": ended,
                "over": ended | cut,
                "counts": ~over,  # a step that only resets teaches nothing
            }
        )
        state, over = following, ended | cut
    return jax.tree.map(lambda *x: np.stack(x), *rows), state, over


def _advantages(steps: Batch, values: jax.Array, following: jax.Array) -> jax.Array:
    """Generalized advantages; ``following`` are the values after the last step."""
    nexts = jnp.concatenate([values[1:], following[None]])
    going_on = jnp.where(steps["ended"], 0.0, nexts)
    surprise = steps["reward"] + _DISCOUNT * going_on - values

    def back(later: jax.Array, now: Any) -> tuple[jax.Array, jax.Array]:
        own, over = now
        total = own + jnp.where(over, 0.0, _DISCOUNT * _LAMBDA * later)
        return total, total

    start = jnp.zeros_like(following)
    _, found = jax.lax.scan(back, start, (surprise, steps["over"]), reverse=True)
    return found


def _loss(model: Model, critic: Model, params: Policy, rows: Batch) -> jax.Array:
    logits = jax.nn.log_softmax(model.apply(params.actor, {}, rows).logits)
    log_prob = jnp.take_along_axis(logits, rows["action"][:, None], axis=1)[:, 0]
    ratio = jnp.exp(log_prob - rows["log_prob"])
    clipped = jnp.clip(ratio, 1 - _CLIP, 1 + _CLIP)
    gain = jnp.minimum(ratio * rows["advantage"], clipped * rows["advantage"])
    entropy = -jnp.sum(jnp.exp(logits) * logits, axis=-1)
    value = critic.apply(params.critic, {}, rows).logits[:, 0]
    each = 0.5 * (value - rows["returns"]) ** 2 - gain - _ENTROPY * entropy
    counts = rows["counts"]
    return jnp.sum(jnp.where(counts, each, 0.0)) / jnp.maximum(jnp.sum(counts), 1)


def _make_improve(model: Model, critic: Model, tx: optax.GradientTransformation) -> Any:
    grad = jax.grad(functools.partial(_loss, model, critic))

    def update(carry: Any, rows: Batch) -> tuple[Any, None]:
        params, memory = carry
        changes, memory = tx.update(grad(params, rows), memory, params)
        return (optax.apply_updates(params, changes), memory), None

    @jax.jit
    def improve(
        params: Policy, memory: Any, steps: Batch, last: Any, key: PRNGKey
    ) -> tuple[Policy, Any]:
        value = lambda state: critic.apply(params.critic, {}, {"state": state}).logits
        flat = steps["state"].reshape(-1, steps["state"].shape[-1])
        values = value(flat).reshape(_LENGTH, -1)
        advantage = _advantages(steps, values, value(last)[:, 0])
        returns, counts = advantage + values, steps["counts"]
        mean = jnp.mean(advantage, where=counts)
        scaled = (advantage - mean) / (jnp.std(advantage, where=counts) + 1e-8)
        rows = {**steps, "advantage": scaled, "returns": returns}
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows)

        def once(key: PRNGKey) -> jax.Array:
            return jax.random.permutation(key, len(flat)).reshape(_PARTS, -1)

        orders = jax.vmap(once)(jax.random.split(key, _PASSES))
        parts = jax.tree.map(lambda x: x[orders.reshape(_PASSES * _PARTS, -1)], rows)
        (params, memory), _ = jax.lax.scan(update, (params, memory), parts)
        return params, memory

    return improve
