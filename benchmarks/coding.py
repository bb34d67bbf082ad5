"""Real bytes: LeNet-300-100 and LeNet-5, pruned, clustered and saved.

    python benchmarks/coding.py DIGITS.npz

The file holds 28 by 28 digits: `train_images`, `train_labels`, `test_images`,
`test_labels`. Each network is trained, pruned while it is trained on, and clustered,
and its centroids are trained; pruned and clustered ones are distilled from the dense.
The last step is measured, no best-of. Sizes are those of files of `save_tree`, read
back and compared. Then, the break-even of sparse products. Prints Markdown.
"""

import argparse
import functools
import pathlib
import statistics
import tempfile
import time

import jax
import numpy as np
import optax
from jax import numpy as jnp

from jaxkd import compress, losses, trees

BATCH = 128


def lenet300(params, x):
    x = x.reshape(len(x), -1)
    for name in ("fc1", "fc2"):
        x = jax.nn.relu(x @ params[name]["kernel"] + params[name]["bias"])
    return x @ params["fc3"]["kernel"] + params["fc3"]["bias"]


def lenet5(params, x):
    x = x[..., None]
    for name in ("conv1", "conv2"):
        x = jax.lax.conv_general_dilated(
            x,
            params[name]["kernel"],
            (1, 1),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = x + params[name]["bias"]
        n, height, width, channels = x.shape
        # The gradient of `reduce_window` is many times slower on a CPU.
        x = x.reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
    x = x.reshape(len(x), -1)
    x = jax.nn.relu(x @ params["fc1"]["kernel"] + params["fc1"]["bias"])
    return x @ params["fc2"]["kernel"] + params["fc2"]["bias"]


NETWORKS = {
    "LeNet-300-100": (
        lenet300,
        {"fc1": (784, 300), "fc2": (300, 100), "fc3": (100, 10)},
    ),
    "LeNet-5": (
        lenet5,
        {
            "conv1": (5, 5, 1, 20),
            "conv2": (5, 5, 20, 50),
            "fc1": (800, 500),
            "fc2": (500, 10),
        },
    ),
}


def initial(shapes, seed):
    init = jax.nn.initializers.he_normal()
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    return {
        name: {"kernel": init(key, shape), "bias": jnp.zeros(shape[-1])}
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def train(loss, params, tx, data, steps, seed):
    """`steps` updates of `loss(params, images, labels)`, compiled as one loop."""
    images, labels = data

    @jax.jit
    def run(params):
        def step(carry, i):
            params, state = carry
            key = jax.random.fold_in(jax.random.key(seed), i)
            rows = jax.random.randint(key, (BATCH,), 0, len(images))
            gradient = jax.grad(loss)(params, images[rows], labels[rows])
            updates, state = tx.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        carry = (params, tx.init(params))
        return jax.lax.scan(step, carry, jnp.arange(steps))[0][0]

    return run(params)


def distillation(apply, teacher):
    def loss(params, images, labels):
        logits = apply(params, images)
        soft = losses.soft_target_kl(logits, apply(teacher, images), temperature=2.0)
        return (0.5 * losses.cross_entropy(logits, labels) + 0.5 * soft).mean()

    return loss


def through(loss, integers):
    """The loss of the floating leaves of a tree, the others being given."""

    def of_floats(floats, images, labels):
        params = compress.dequantize(trees.merge(floats, integers))
        return loss(params, images, labels)

    return of_floats


def stages(apply, shapes, data, options, seed):
    """Names and trees, each made from the one before."""
    cross_entropy = lambda p, x, y: losses.cross_entropy(apply(p, x), y).mean()
    adam = lambda steps: optax.adam(optax.cosine_decay_schedule(1e-3, steps))
    dense = train(
        cross_entropy,
        initial(shapes, seed),
        adam(options.steps),
        data,
        options.steps,
        seed,
    )
    yield "dense", dense
    loss, steps = distillation(apply, dense), options.prune_steps
    sparsity = compress.cubic(options.sparsity, begin=1, end=steps // 2)
    keep = compress.keep_sparse(sparsity, across=True, every=50)
    tx = optax.chain(adam(steps), keep)
    pruned = train(loss, dense, tx, data, steps, seed + 1)
    yield f"pruned to {100 * options.sparsity:g} % zeros", pruned
    clustered = compress.cluster(pruned, bits=options.bits)
    yield f"clustered to {2**options.bits} values", clustered
    is_float = jax.tree.map(lambda x: jnp.issubdtype(x.dtype, jnp.floating), clustered)
    floats, integers = trees.split(clustered, is_float)
    steps = options.cluster_steps
    tuned = train(through(loss, integers), floats, adam(steps), data, steps, seed + 2)
    yield "centroids trained", trees.merge(tuned, integers)


def accuracy(apply, params, data):
    images, labels = data
    predict = jax.jit(lambda p, x: jnp.argmax(apply(p, x), axis=-1))
    found = [predict(params, part) for part in np.array_split(images, 10)]
    return 100 * float(np.mean(np.concatenate(found) == np.asarray(labels)))


def saved(params, folder):
    """Bytes of the file, and seconds to read it; back to the same bits."""
    file = folder / "params.jkd"
    size = compress.save_tree(params, file).num_bytes
    start = time.perf_counter()
    back = compress.load_tree(file, like=params)
    seconds = time.perf_counter() - start
    assert trees.digest(back) == trees.digest(params)
    return size, seconds


def table(name, options, digits, folder):
    apply, shapes = NETWORKS[name]
    print(f"\n## {name}\n")
    print("| stage | seed | accuracy % | non-zeros | bytes | × | ms to load |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for seed in range(options.seeds):
        first = None
        for stage, params in stages(apply, shapes, digits["train"], options, seed):
            arrays = compress.dequantize(params)
            size, seconds = saved(params, folder)
            first = first or size
            zeros = trees.sparsity(arrays)
            print(
                f"| {stage} | {seed} | {accuracy(apply, arrays, digits['test']):.2f} "
                f"| {round(trees.count(arrays) * (1 - zeros)):,} | {size:,} "
                f"| {first / size:.1f} | {1000 * seconds:.0f} |",
                flush=True,
            )


def break_even(size=1024, rounds=7):
    print("\n## Sparse products\n")
    print(f"Dense time over BCSR time of `x @ kernel`, {size} × {size}, float32.\n")
    sparsities, batches = (0.7, 0.8, 0.9, 0.95, 0.98), (1, 32, 256)
    print("| batch | " + " | ".join(f"{100 * s:g} %" for s in sparsities) + " |")
    print("| ---: |" + " ---: |" * len(sparsities))
    kernel = {"kernel": jax.random.normal(jax.random.key(0), (size, size))}
    run = jax.jit(compress.sparse_matmul)
    for batch in batches:
        x, ratios = jax.random.normal(jax.random.key(1), (batch, size)), []
        for sparsity in sparsities:
            dense = compress.magnitude_prune(kernel, sparsity)[0]
            small = compress.to_sparse(dense, min_sparsity=0.5)["kernel"]
            times = [
                [clock(functools.partial(run, x, k)) for k in (dense["kernel"], small)]
                for _ in range(rounds)
            ]
            ratios.append(statistics.median(a / b for a, b in times[1:]))
        print(f"| {batch} | " + " | ".join(f"{r:.2f}" for r in ratios) + " |")


def clock(call, calls=10):
    jax.block_until_ready(call())
    start = time.perf_counter()
    for _ in range(calls):
        jax.block_until_ready(call())
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("digits", type=pathlib.Path)
    parser.add_argument("--networks", nargs="+", default=[*NETWORKS], choices=NETWORKS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--prune-steps", type=int, default=2500)
    parser.add_argument("--cluster-steps", type=int, default=400)
    parser.add_argument("--sparsity", type=float, default=0.95)
    parser.add_argument("--bits", type=int, default=4)
    options = parser.parse_args()
    with np.load(options.digits) as arrays:
        digits = {
            split: (
                jnp.asarray(arrays[f"{split}_images"], jnp.float32) / 255,
                jnp.asarray(arrays[f"{split}_labels"], jnp.int32),
            )
            for split in ("train", "test")
        }
    with tempfile.TemporaryDirectory() as folder:
        for name in options.networks:
            table(name, options, digits, pathlib.Path(folder))
    break_even()


if __name__ == "__main__":
    main()
