"""What a distillation step costs, beside the least that it could cost.

    python benchmarks/step.py

Compares one jitted step of `train.make_train_step` (soft targets and hard labels, Adam)
with the sum of its parts written by hand in plain JAX: the teacher's forward pass, and
the student's gradient step on given teacher logits. FLOPs are those of the compiled
programs; times are medians over rounds in which the contenders take turns, and the
ratio is the median of the rounds' ratios. Also counts the optimizer's leaves.
"""

import argparse
import statistics
import time
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
from jax import numpy as jnp

import jaxkd
from jaxkd import models, objectives, train


class Transformer(nn.Module):
    """A small encoder with a classification head."""

    layers: int
    width: int
    classes: int = 10

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(self.width)(x)
        for _ in range(self.layers):
            x = x + nn.MultiHeadDotProductAttention(num_heads=4)(nn.LayerNorm()(x))
            y = nn.Dense(4 * self.width)(nn.LayerNorm()(x))
            x = x + nn.Dense(self.width)(nn.gelu(y))
        return nn.Dense(self.classes)(jnp.mean(x, axis=1))


PAIRS = {
    "MLP 784-1200-1200 → 784-256": (
        models.MLP(hidden=(1200, 1200), classes=10),
        models.MLP(hidden=(256,), classes=10),
        (784,),
    ),
    "CNN + BatchNorm 64-128-256 → 16-32": (
        models.CNN(widths=(64, 128, 256), classes=10),
        models.CNN(widths=(16, 32), classes=10),
        (16, 16, 3),
    ),
    "transformer 6 × 128 → 2 × 64": (
        Transformer(layers=6, width=128),
        Transformer(layers=2, width=64),
        (32, 16),
    ),
}


def make_batch(shape, size):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(size, *shape)).astype(np.float32)
    return {"image": image, "label": rng.integers(0, 10, size).astype(np.int32)}


def by_hand(module, tx, batch):
    """A gradient step on given teacher logits, as one would write it without jaxkd."""
    norm = isinstance(module, models.CNN)

    def loss_fn(params, stats, teacher):
        variables = {"params": params, **stats}
        if norm:
            logits, stats = module.apply(
                variables, batch["image"], train=True, mutable=["batch_stats"]
            )
        else:
            logits = module.apply(variables, batch["image"])
        log_q = jax.nn.log_softmax(logits / 4)
        log_p = jax.nn.log_softmax(teacher / 4)
        soft = 16 * jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1))
        labels = jnp.asarray(batch["label"])
        hard = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
        return 0.9 * soft + 0.1 * hard.mean(), stats

    def step(params, stats, opt_state, teacher):
        grad = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, stats), grads = grad(params, stats, teacher)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), stats, opt_state, loss

    return step


def flops(fn, *args):
    analysis: Any = jax.jit(fn).lower(*args).compile().cost_analysis()
    return analysis["flops"]


def timed(run):
    began = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - began


def measure(name, batch_size, rounds):
    big, small, shape = PAIRS[name]
    teacher, student = models.from_linen(big), models.from_linen(small)
    batch, tx = make_batch(shape, batch_size), optax.adam(1e-3)
    objective = objectives.combine(
        soft=(0.9, objectives.soft_target(temperature=4.0)),
        hard=(0.1, objectives.hard_label()),
    )
    followed = teacher.init(jax.random.key(1), batch)
    key = jax.random.key(0)
    state = train.init_state(key, student, teacher, objective, tx, batch)
    pure = train.make_train_step(student, teacher, objective, tx)

    forward = lambda v: teacher.apply(v.params, v.state, batch).logits
    hand = by_hand(small, tx, batch)
    params, stats = state.student
    own = (params, stats, tx.init(params), jnp.zeros((batch_size, 10)))

    step_flops = flops(pure, state, followed, batch)
    parts_flops = flops(forward, followed) + flops(hand, *own)

    step, run_teacher, run_hand = jax.jit(pure), jax.jit(forward), jax.jit(hand)
    steps, parts = [], []
    for i in range(rounds + 3):
        one = timed(lambda: step(state, followed, batch))
        two = timed(lambda: run_hand(*own[:3], run_teacher(followed)))
        if i >= 3:  # the first compile and warm up
            steps.append(one)
            parts.append(two)
    leaves = jax.tree.leaves(state.opt_state)
    trained = len(jax.tree.leaves(params))
    return {
        "flops": step_flops / parts_flops,
        "time": statistics.median(a / b for a, b in zip(steps, parts, strict=True)),
        "milliseconds": 1000 * statistics.median(steps),
        "gigaflops": step_flops / 1e9,
        "teacher leaves": len(leaves) - 1 - 2 * trained,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=60)
    parsed = parser.parse_args()
    device = jax.devices()[0].device_kind
    print(f"jaxkd {jaxkd.__version__}, jax {jax.__version__}, {device}, ", end="")
    print(f"batch {parsed.batch_size}, {parsed.rounds} rounds\n")
    print(
        "| pair | GFLOP a step | FLOPs ratio | ms a step | time ratio "
        "| teacher leaves in the optimizer |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in PAIRS:
        found = measure(name, parsed.batch_size, parsed.rounds)
        print(
            f"| {name} | {found['gigaflops']:.3f} | {found['flops']:.3f} "
            f"| {found['milliseconds']:.2f} | {found['time']:.3f} "
            f"| {found['teacher leaves']} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
