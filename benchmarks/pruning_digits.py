"""Pruning with distillation, on digits: once or in rounds, with a teacher or without.

    python benchmarks/pruning_digits.py --data digits.npz

The file holds 28 by 28 digits: `train_images`, `train_labels`, `test_images`,
`test_labels`. LeNet-300-100, LeNet-5 and a small ResNet with BatchNorm are trained,
cut to a tenth of their parameters by Taylor importance (`recipes.prune_and_distil`),
and trained again: in one round or in three, on labels or on the unpruned model's soft
targets too, with as many steps in all. The last step is measured, no best-of. Times are
medians of one batch, the models of a network taking turns. Prints Markdown.

With `--labels 1000`, so few images, the same number of each class, have labels when the
cut network is scored and trained again: labels alone train on these, soft targets on
all images, with hard labels where there are any. The unpruned network has seen all.
"""

import argparse
import functools
import itertools
import pathlib
import platform
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from coding import NETWORKS, accuracy, initial
from jax import numpy as jnp

import jaxkd
from jaxkd import compress, losses, recipes, report

BATCH, LATENCY_BATCH = 64, 32


class Network(NamedTuple):
    """`apply(variables, x, train)` gives logits, or logits and new statistics."""

    apply: Callable[..., Any]
    variables: Callable[[int], Any]


def stateless(apply):
    def run(variables, x, train=False):
        logits = apply(variables["params"], x)
        return (logits, variables["stats"]) if train else logits

    return run


def conv(x, kernel, stride=1):
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), "SAME", dimension_numbers=numbers
    )


def resnet(variables, x, train=False):
    """Three residual blocks of two convolutions, on images of half the size."""
    params, stats = variables["params"], dict(variables["stats"])

    def layer(name, x, stride=1):
        x = conv(x, params[name]["kernel"], stride)
        mean, var = stats[name]["mean"], stats[name]["var"]
        if train:
            mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
            move = lambda old, new: 0.9 * old + 0.1 * new
            stats[name] = jax.tree.map(move, stats[name], {"mean": mean, "var": var})
        x = (x - mean) * jax.lax.rsqrt(var + 1e-5)
        return x * params[name]["scale"] + params[name]["bias"]

    x = jax.nn.relu(layer("stem", x[..., None], 2))
    for i, stride in enumerate((1, 2, 2)):
        y = jax.nn.relu(layer(f"block{i}a", x, stride))
        y = layer(f"block{i}b", y)
        x = jax.nn.relu(y + layer(f"skip{i}", x, stride))
    logits = x.mean((1, 2)) @ params["head"]["kernel"]
    return (logits, stats) if train else logits


def resnet_variables(seed, widths=(16, 32, 64)):
    shapes = {"stem": (3, 3, 1, widths[0])}
    before = widths[0]
    for i, width in enumerate(widths):
        shapes |= {
            f"block{i}a": (3, 3, before, width),
            f"block{i}b": (3, 3, width, width),
            f"skip{i}": (1, 1, before, width),
        }
        before = width
    params = initial(shapes | {"head": (before, 10)}, seed)
    for name, shape in shapes.items():
        params[name]["scale"] = jnp.ones(shape[-1])
    del params["head"]["bias"]
    stats = {
        name: {"mean": jnp.zeros(shape[-1]), "var": jnp.ones(shape[-1])}
        for name, shape in shapes.items()
    }
    return {"params": params, "stats": stats}


def networks():
    plain = {
        name: Network(
            stateless(apply),
            lambda seed, shapes=shapes: {"params": initial(shapes, seed), "stats": {}},
        )
        for name, (apply, shapes) in NETWORKS.items()
    }
    return plain | {"ResNet": Network(resnet, resnet_variables)}


class Soft(NamedTuple):
    """How a teacher's soft targets are weighed; hard labels have 1 minus the weight."""

    temperature: float
    weight: float


class Data(NamedTuple):
    """Images, of which some have labels."""

    images: Any
    labels: Any
    labelled: Any

    def taught(self):
        """Those which have labels."""
        rows = np.flatnonzero(self.labelled)
        return Data(*(part[rows] for part in self))


def fit(apply, variables, data, steps, *, rate, seed, teacher=None, soft=None):
    """Adam with a cosine, on the labels alone, or on soft targets of all images too."""
    data = data.taught() if soft is None else data
    tx = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def loss(params, stats, given, batch):
        x, y, labelled = batch
        logits, stats = apply({"params": params, "stats": stats}, x, train=True)
        hard = losses.masked_mean(losses.cross_entropy(logits, y), labelled).value
        if soft is None or teacher is None:
            return hard, stats
        targets = teacher.apply(given, x)
        kl = losses.soft_target_kl(logits, targets, temperature=soft.temperature)
        return (1 - soft.weight) * hard + soft.weight * kl.mean(), stats

    # A loop in Python: convolutions inside `scan` are many times slower on a CPU.
    @jax.jit
    def step(params, stats, state, given, i):
        key = jax.random.fold_in(jax.random.key(seed), i)
        rows = jax.random.randint(key, (BATCH,), 0, len(data.images))
        batch = Data(*(part[rows] for part in data))
        gradient, stats = jax.grad(loss, has_aux=True)(params, stats, given, batch)
        updates, state = tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), stats, state

    given = None if teacher is None else teacher.variables
    params, stats = variables["params"], variables["stats"]
    state = tx.init(params)
    for i in range(steps):
        params, stats, state = step(params, stats, state, given, i)
    return {"params": params, "stats": stats}


def taylor(data, cut, groups):
    """Of the first thousand images with labels."""
    x, y, _ = (part[:1000] for part in data.taught())
    loss = lambda v: losses.cross_entropy(cut.apply(v, x), y).mean()
    gradients = jax.jit(jax.grad(loss))(cut.variables)
    return compress.taylor_importance(cut.variables, gradients, groups)


def few(data, options, seed):
    """The data with `--labels` labels left, all by default."""
    if options.labels is None:
        return data
    arrays = {"label": np.asarray(data.labels)}
    left = recipes.hide_labels(arrays, keep=options.labels, seed=seed)
    return Data(data.images, jnp.asarray(left["label"]), jnp.asarray(left["labelled"]))


def cuts(network, data, options, seed):
    """Names and models: the dense one, the one cut and left, those trained again."""
    dense = fit(
        network.apply,
        network.variables(seed),
        data,
        options.steps,
        rate=options.rate,
        seed=seed,
    )
    whole = recipes.Cut(network.apply, dense)
    yield "dense", whole
    data = few(data, options, seed)
    go = functools.partial(
        recipes.prune_and_distil,
        whole,
        [data.images[:LATENCY_BATCH]],
        score=functools.partial(taylor, data),
        shrink=functools.partial(
            compress.shrink, round_to=options.round_to, across=True
        ),
    )
    leave = lambda student, teacher: student.variables
    yield (
        "cut, not trained",
        go(targets=[compress.params(options.left)], distil=leave)[-1],
    )
    pairs = itertools.product(options.temperatures, options.soft_weights)
    ways = [None, *(Soft(*pair) for pair in pairs)]
    for rounds, soft in itertools.product(options.rounds, ways):
        train = lambda student, teacher, rounds=rounds, soft=soft: fit(
            student.apply,
            student.variables,
            data,
            options.tune_steps // rounds,
            rate=options.rate / 2,
            seed=seed + 1,
            teacher=teacher,
            soft=soft,
        )
        name = "one round" if rounds == 1 else f"{rounds} rounds"
        how = (
            f"distilled, T {soft.temperature:g}, weight {soft.weight:g}" if soft else ""
        )
        found = go(targets=targets(options.left, rounds), distil=train)
        yield f"{name}, {how or 'on labels'}", found[-1]


def targets(left, rounds):
    return [compress.params(left ** (r / rounds)) for r in range(1, rounds + 1)]


def sizes(cut, x):
    groups = compress.dependency_groups(cut.apply, cut.variables, x)
    kinds = (compress.params, compress.flops, compress.bytes)
    return [kind(1.0).bound(groups) for kind in kinds]


def table(name, network, digits, options):
    print(f"\n## {name}\n")
    print("| model | accuracy % | parameters | FLOPs an image | bytes | ms | × |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    found: dict[str, list[float]] = {}
    models = {}
    for seed in range(options.seeds):
        for what, cut in cuts(network, digits["train"], options, seed):
            right = accuracy(cut.apply, cut.variables, digits["test"][:2])
            found.setdefault(what, []).append(right)
            models.setdefault(what, cut)  # times are of the first seed
    x = digits["test"].images[:LATENCY_BATCH]
    run = {what: jax.jit(cut.apply) for what, cut in models.items()}
    calls = {
        what: functools.partial(run[what], cut.variables, x)
        for what, cut in models.items()
    }
    times = report.measure_latency(calls, rounds=100)
    for what, cut in models.items():
        params, flops, size = sizes(cut, x)
        right = report.mean_and_std([share / 100 for share in found[what]])
        print(
            f"| {what} | {right} | {params:,} | {flops // len(x):,} | {size:,} "
            f"| {1e3 * times[what]:.2f} | {times['dense'] / times[what]:.2f} |",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--networks", nargs="+", default=[*networks()])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--tune-steps", type=int, default=1500)
    parser.add_argument("--rounds", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--labels", type=int, help="a multiple of ten; all by default")
    # As in coding.py.
    parser.add_argument("--temperatures", type=float, nargs="+", default=[2.0])
    parser.add_argument("--soft-weights", type=float, nargs="+", default=[0.5])
    parser.add_argument("--left", type=float, default=0.1)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--round-to", type=int, default=4)
    options = parser.parse_args()
    with np.load(options.data) as arrays:
        digits = {
            split: Data(
                jnp.asarray(arrays[f"{split}_images"], jnp.float32) / 255,
                jnp.asarray(arrays[f"{split}_labels"], jnp.int32),
                jnp.ones(len(arrays[f"{split}_labels"]), bool),
            )
            for split in ("train", "test")
        }
    versions = f"jax {jax.__version__}, Python {platform.python_version()}"
    print(f"jaxkd {jaxkd.__version__}, {versions}, {jax.devices()[0]}")
    began = time.perf_counter()
    for name in options.networks:
        table(name, networks()[name], digits, options)
    print(f"\n{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
