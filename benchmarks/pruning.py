"""What pruning gives: removed structure, masks without a sort, training kept sparse.

    python benchmarks/pruning.py

Half of the units of an MLP, a CNN and a transformer are removed, by `dependency_groups`
and `shrink`; the same model with the same units zeroed, and with as many zeros spread
over its weights, stands beside it. Every program holds its weights, as an exported one
does; the last batch of each model is the one with the most examples a second. Then the
masks of 8 million weights are compared
with sorting them, and a training step with `keep_sparse` between two drawings of the
masks with the step without. Times are medians over rounds in which the contenders take
turns; a ratio is the median of the rounds' ratios.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
from jax import numpy as jnp

import jaxkd
from jaxkd import compress, trees


class MLP(nn.Module):
    """Four hidden layers."""

    widths: tuple[int, ...] = (1024, 1024, 1024, 1024)

    @nn.compact
    def __call__(self, x):
        for width in self.widths:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(10)(x)


class CNN(nn.Module):
    """Three stages of two convolutions with BatchNorm."""

    widths: tuple[int, ...] = (64, 64, 128, 128, 256, 256)

    @nn.compact
    def __call__(self, x):
        for i, width in enumerate(self.widths):
            x = nn.Conv(width, (3, 3), strides=2 if i in (2, 4) else 1)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
        return nn.Dense(10)(x.mean(axis=(1, 2)))


class Transformer(nn.Module):
    """Encoder blocks of width 256."""

    heads: tuple[int, ...] = (8, 8, 8, 8)
    hidden: tuple[int, ...] = (1024, 1024, 1024, 1024)

    @nn.compact
    def __call__(self, ids):
        x = nn.Embed(2000, 256, name="embed")(ids)
        for i, (heads, hidden) in enumerate(zip(self.heads, self.hidden, strict=True)):
            attention = nn.MultiHeadDotProductAttention(
                heads, qkv_features=32 * heads, out_features=256, name=f"att{i}"
            )
            x = x + attention(nn.LayerNorm()(x))
            y = nn.gelu(nn.Dense(hidden, name=f"up{i}")(nn.LayerNorm()(x)))
            x = x + nn.Dense(256, name=f"down{i}")(y)
        return nn.Dense(10)(nn.LayerNorm()(x).mean(axis=1))


def rebuild_mlp(widths):
    return MLP(tuple(widths[f"params/Dense_{i}/kernel:1"] for i in range(4))).apply


def rebuild_cnn(widths):
    return CNN(tuple(widths[f"params/Conv_{i}/kernel:3"] for i in range(6))).apply


def rebuild_transformer(widths):
    heads = tuple(widths[f"params/att{i}/key/kernel:1"] for i in range(4))
    return Transformer(
        heads, tuple(widths[f"params/up{i}/kernel:1"] for i in range(4))
    ).apply


def models():
    """Name, module, batches of three sizes, rebuild, and which groups shrink."""
    key, image = jax.random.key(0), (32, 32, 3)
    normal = lambda n, *shape: jax.random.normal(key, (n, *shape))
    ids = lambda n: jax.random.randint(key, (n, 64), 0, 2000)
    return [
        ("MLP", MLP(), [normal(n, 784) for n in (1, 32, 256)], rebuild_mlp, "kernel"),
        ("CNN", CNN(), [normal(n, *image) for n in (1, 8, 16)], rebuild_cnn, "kernel"),
        (
            "transformer",
            Transformer(),
            [ids(n) for n in (1, 4, 16)],
            rebuild_transformer,
            "heads",
        ),
    ]


def chosen(scores: dict[str, Any], what: str) -> dict[str, Any]:
    """Heads and feed-forward widths of the transformer; all of the others."""
    if what != "heads":
        return scores
    return {k: s for k, s in scores.items() if k.endswith("key/kernel:1") or "/up" in k}


def rounds_of(contenders: dict[str, Callable[[], Any]], rounds: int, calls: int):
    """Seconds per call of each contender in each round."""
    for run in contenders.values():
        jax.block_until_ready(run())
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            for _ in range(calls):
                jax.block_until_ready(run())
            times[name].append((time.perf_counter() - start) / calls)
    return times


def ratio(times: dict[str, list[float]], a: str, b: str) -> float:
    return statistics.median(x / y for x, y in zip(times[a], times[b], strict=True))


def shrunk(name, module, batches, rebuild, what):
    """The contenders as functions of a batch, and the report."""
    variables = module.init(jax.random.key(0), batches[0])
    groups = compress.dependency_groups(module.apply, variables, batches[0])
    scores = chosen(compress.l2_importance(variables, groups), what)
    total, stay = sum(g.size for g in groups), sum(len(s) for s in scores.values())
    target = compress.units(total - stay // 2)
    smaller, report = compress.shrink(
        variables, groups, scores, target=target, rebuild=rebuild
    )
    zeroed = compress.zero_units(variables, groups, report.kept)
    sparse = compress.magnitude_prune(variables["params"], 0.5)[0]
    holding = lambda apply, weights: jax.jit(functools.partial(apply, weights))
    runs = {
        "dense": holding(module.apply, variables),
        "smaller": holding(report.apply, smaller),
        "zeroed": holding(module.apply, zeroed),
        "sparse": holding(module.apply, {**variables, "params": sparse}),
    }
    got, want = runs["smaller"](batches[0]), runs["zeroed"](batches[0])
    assert np.allclose(got, want, atol=1e-5 * np.abs(want).max()), name
    return runs, report


def structured(rounds: int, calls: int) -> None:
    print("| model, half the units removed | parameters | FLOPs | bytes ", end="")
    print("| dense, examples/s | smaller, examples/s | smaller | zeroed | 50 % zeros |")
    print("|---|---|---|---|---:|---:|---:|---:|---:|")
    for name, module, batches, rebuild, what in models():
        runs, report = shrunk(name, module, batches, rebuild, what)
        sizes = [
            f"{report.before[u]:,} → {report.after[u]:,}"
            for u in ("parameters", "FLOPs", "bytes")
        ]
        for x in batches:
            fixed = {k: functools.partial(run, x) for k, run in runs.items()}
            times = rounds_of(fixed, rounds, calls)
            faster = [ratio(times, "dense", c) for c in list(runs)[1:]]
            rates = [len(x) / statistics.median(times[c]) for c in list(runs)[:2]]
            cells = [f"{name}, batch {len(x)}", *sizes, *(f"{r:,.0f}" for r in rates)]
            cells += [f"{r:.2f}×" for r in faster]
            print(f"| {' | '.join(cells)} |", flush=True)
            sizes = [""] * 3


def masks(rounds: int) -> None:
    params = {"kernel": jax.random.normal(jax.random.key(0), (2048, 4096))}
    ours = jax.jit(lambda p: compress.magnitude_masks(p, 0.8))
    flat = params["kernel"].reshape(-1)
    sort = jax.jit(lambda x: jnp.sort(jnp.abs(x)))
    times = rounds_of(
        {"masks": lambda: ours(params), "sort": lambda: sort(flat)}, rounds, 1
    )
    for name, values in times.items():
        print(f"{name} of {flat.size:,} weights: {statistics.median(values):.3f} s")
    print(f"masks / sort: {ratio(times, 'masks', 'sort'):.3f}")


def step(rounds: int, calls: int) -> None:
    x = jax.random.normal(jax.random.key(1), (256, 784))
    params = MLP().init(jax.random.key(0), x)["params"]
    print(f"a step of Adam on {trees.count(params):,} parameters, batch {len(x)}")
    plain = optax.adam(1e-3)
    schedule = compress.cubic(0.8, begin=10**6, end=2 * 10**6)
    keep = compress.keep_sparse(schedule, every=1000)
    optimizers = {
        "Adam": plain,
        "with keep_sparse": optax.chain(plain, keep),
        "with forget_pruned": compress.forget_pruned(plain, keep),
    }

    def make(tx):
        def loss(params):
            outputs: Any = MLP().apply({"params": params}, x)
            return jnp.mean(jnp.square(outputs))

        @jax.jit
        def update(params, state):
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            return optax.apply_updates(params, updates), state

        state = tx.init(params)
        return lambda: update(params, state)

    runs = {name: make(tx) for name, tx in optimizers.items()}
    times = rounds_of(runs, rounds, calls)
    for name in list(optimizers)[1:]:
        print(f"{name} / without: {ratio(times, name, 'Adam'):.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=8)
    options = parser.parse_args()
    print(f"jaxkd {jaxkd.__version__}, jax {jax.__version__}, {jax.devices()[0]}\n")
    structured(options.rounds, options.calls)
    print()
    masks(options.rounds)
    print()
    # Of a few per cent: many short rounds.
    step(4 * options.rounds, max(1, options.calls // 2))


if __name__ == "__main__":
    main()
