"""The contender of `peers.py` written by hand: Flax modules, plain JAX, optax."""

from typing import Any

import flax.linen as nn
import jax
import optax
from jax import numpy as jnp
from peers_models import EPSILON, HEADS, RATE, SOFT, TEMPERATURE, network


class Operations:
    """What needs no weights."""

    relu, gelu = staticmethod(jax.nn.relu), staticmethod(jax.nn.gelu)

    @staticmethod
    def pool(x):
        return nn.max_pool(x, (2, 2), (2, 2))

    @staticmethod
    def mean(x):
        return jnp.mean(x, axis=tuple(range(1, x.ndim - 1)))

    @staticmethod
    def attention(qkv):
        batch, length, width = qkv.shape
        qkv = qkv.reshape(batch, length, 3, HEADS, width // 3 // HEADS)
        q, k, v = (qkv[:, :, i].swapaxes(1, 2) for i in range(3))
        scores = q @ k.swapaxes(2, 3) / q.shape[-1] ** 0.5
        mixed = jax.nn.softmax(scores) @ v
        return mixed.swapaxes(1, 2).reshape(batch, length, width // 3)


class Linen(Operations):
    """Layers of Flax Linen."""

    @staticmethod
    def dense(name, width, x):
        return nn.Dense(width, name=name)(x)

    @staticmethod
    def conv(name, width, x):
        return nn.Conv(width, (3, 3), name=name)(x)

    @staticmethod
    def norm(name, x):
        return nn.LayerNorm(epsilon=EPSILON, use_fast_variance=False, name=name)(x)


class Network(nn.Module):
    """The network; `both` returns the feature as well."""

    kind: str
    widths: tuple[int, ...]
    feature: int
    both: bool = False

    @nn.compact
    def __call__(self, x):
        out = network(Linen, self.kind, self.widths, self.feature, x)
        return out if self.both else out[0]


def modules(pair, both=False):
    """The modules of teacher and student."""
    wide = Network(pair.kind, pair.teacher, pair.feature, both)
    return wide, Network(pair.kind, pair.student, pair.feature, both)


def as_params(weights):
    """Numpy weights as Linen has them."""
    return {
        name: {
            "scale" if a.ndim == 1 else "kernel": jnp.asarray(a),
            "bias": jnp.asarray(b),
        }
        for name, (a, b) in weights.items()
    }


def build(problem):
    """By hand: one jitted function, whose state is donated."""
    teacher_params, params = as_params(problem.teacher), as_params(problem.student)
    teacher, student = modules(problem.pair, both=True)
    loss: Any = None
    # begin
    tx = optax.adam(RATE)
    opt_state = tx.init(params)

    def soft_targets(logits, teacher_logits):
        log_q = jax.nn.log_softmax(logits / TEMPERATURE)
        log_p = jax.nn.log_softmax(teacher_logits / TEMPERATURE)
        divergence = jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)
        return TEMPERATURE**2 * jnp.mean(divergence)

    def loss_fn(params, followed, batch):
        logits, feature = student.apply({"params": params}, batch["image"])
        soft = (
            soft_targets(logits, followed[0])
            if problem.method == "kd"
            else jnp.mean((feature - followed[1]) ** 2)
        )
        hard = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        return SOFT * soft + (1 - SOFT) * hard.mean()

    @jax.jit(donate_argnums=(0, 1))
    def step(params, opt_state, teacher_params, batch):
        followed = teacher.apply({"params": teacher_params}, batch["image"])
        loss, grads = jax.value_and_grad(loss_fn)(params, followed, batch)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    def train(start, stop):
        nonlocal params, opt_state, loss
        for i in range(start, stop):
            batch = problem.batch(i)
            params, opt_state, loss = step(params, opt_state, teacher_params, batch)
        return float(loss)

    # end
    return train
