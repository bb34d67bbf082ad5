"""From a trained model to a small file: bytes, throughput and accuracy, side by side.

    python benchmarks/deploy.py --data mnist.npz --out deploy

`mnist.npz` holds `train_images`, `train_labels`, `test_images`, `test_labels` (uint8,
`[n, 28, 28]`). A CNN, and a transformer over the rows of the image averaged to 14 x 14,
are trained; `recipes.compress` shrinks each, distils and exports it in int8. LeNet-5 is
pruned and clustered, for the size of its file alone. Artefacts are measured in turn,
each in a fresh process; the first is the dense float32 model as XLA runs it. Needs the
extras `onnx` and `litert`. A run that was stopped can be taken up by the same command.
"""

import argparse
import pathlib
import time

import flax.linen as nn
import jax
import numpy as np
import optax

from jaxkd import compress, data, deploy, models, objectives, recipes, report, train

FORMATS = ("onnx-int8", "litert-int8")
WIDTHS = (96, 192, 384)


def load(path, size):
    """Arrays of both splits: square images, averaged to a size, in [0, 1]."""
    with np.load(path) as found:
        cell = 28 // size
        shrink = lambda x: x.reshape(-1, size, cell, size, cell, 1).mean((2, 4)) / 255
        split = lambda name: {
            "image": shrink(found[f"{name}_images"]).astype(np.float32),
            "label": found[f"{name}_labels"].astype(np.int32),
        }
        return split("train"), split("test")


class Rows(nn.Module):
    """A transformer encoder that reads an image row by row."""

    width: int = 128
    heads: tuple[int, ...] = (4, 4, 4)
    sizes: tuple[int, ...] = (32, 32, 32)  # of a head
    hidden: tuple[int, ...] = (512, 512, 512)

    @nn.compact
    def __call__(self, image):
        x = nn.Dense(self.width, name="embed")(image[..., 0])
        place = nn.initializers.normal(0.02)
        x = x + self.param("places", place, (image.shape[1], self.width))
        for i, (heads, size, hidden) in enumerate(
            zip(self.heads, self.sizes, self.hidden, strict=True)
        ):
            attention = nn.MultiHeadDotProductAttention(
                heads,
                qkv_features=heads * size,
                out_features=self.width,
                name=f"attention{i}",
            )
            x = x + attention(nn.LayerNorm(name=f"norm{i}a")(x))
            y = nn.Dense(hidden, name=f"up{i}")(nn.LayerNorm(name=f"norm{i}b")(x))
            x = x + nn.Dense(self.width, name=f"down{i}")(nn.relu(y))
        return nn.Dense(10, name="head")(nn.LayerNorm(name="norm")(x).mean(axis=1))


class LeNet5(nn.Module):
    """Caffe's LeNet-5, of 431,080 parameters."""

    @nn.compact
    def __call__(self, x):
        for i, width in enumerate((20, 50), start=1):
            x = nn.Conv(width, (5, 5), padding="VALID", name=f"conv{i}")(x)
            n, height, rows, c = x.shape
            # The gradient of `reduce_window` is many times slower on a CPU.
            x = x.reshape(n, height // 2, 2, rows // 2, 2, c).max(axis=(2, 4))
        x = nn.relu(nn.Dense(500, name="fc1")(x.reshape(len(x), -1)))
        return nn.Dense(10, name="fc2")(x)


def rebuild_cnn(widths):
    names = [f"params/block{i}/conv/kernel:3" for i in (1, 2, 3)]
    return models.from_linen(models.CNN([widths[name] for name in names], classes=10))


def rebuild_rows(widths):
    of = lambda name, axis: tuple(
        widths[f"params/{name}{i}/kernel:{axis}"] for i in range(3)
    )
    heads, sizes = of_key(widths, 1), of_key(widths, 2)
    width = widths["params/embed/kernel:1"]
    return models.from_linen(Rows(width, heads, sizes, of("up", 1)))


def of_key(widths, axis):
    return tuple(widths[f"params/attention{i}/key/kernel:{axis}"] for i in range(3))


def networks():
    """Name, model, rebuild, image size, learning rate, and what shall stay."""
    return {
        "cnn": (
            models.from_linen(models.CNN(WIDTHS, classes=10)),
            rebuild_cnn,
            28,
            5e-3,
            {"keep": 0.5, "of": "units"},
        ),
        "transformer": (
            models.from_linen(Rows()),
            rebuild_rows,
            14,
            1e-3,
            {"keep": 0.35, "of": "params"},
        ),
    }


def train_teacher(model, arrays, rate, steps, file):
    """Variables of a model that is trained with labels alone, or was."""
    if not file.exists():
        tx = optax.adam(optax.cosine_decay_schedule(rate, steps))
        parts = (model, None, objectives.hard_label(), tx)
        batches = data.TrainBatches(arrays, batch_size=64, seed=0)
        state = train.init_state(jax.random.key(0), *parts, batches.peek())
        step = train.jit_step(train.make_train_step(*parts))
        *_, (state, _) = train.fit(step, state, None, batches, steps=steps)
        compress.save_tree(state.student._asdict(), file)
    saved = compress.load_tree(file)
    return models.Variables(saved["params"], saved.get("state", {}))


def measure(name, options):
    model, rebuild, size, rate, less = networks()[name]
    arrays, test = load(options.data, size)
    began = time.perf_counter()
    file = options.out / f"{name}.jkd"
    teacher = train_teacher(model, arrays, rate, options.teacher_steps, file)
    task = recipes.Task(
        model, teacher, arrays, test, rebuild=rebuild, about=f"MNIST, {size} x {size}"
    )
    shrink = recipes.Shrink(**less, steps=options.steps, learning_rate=rate)
    config = recipes.CompressConfig((shrink, recipes.Export(FORMATS)), temperature=2.0)
    folder = options.out / name
    result = recipes.compress(config, folder, task, resume=True)
    places = [folder / "exported" / f"student-{kind}" for kind in FORMATS]
    places = [folder / "exported" / "teacher", *places]
    found = deploy.measure_together(
        places, batch_sizes=(1, 8, 256), rounds=options.rounds
    )
    print(f"\n## {name}\n\n{deploy.table(found)}\n")
    most = [max(artefact.throughput.values()) for artefact in found]
    for artefact, rate in zip(found, most, strict=True):
        words = f"at most {rate:,.0f} examples/s, ×{rate / most[0]:.1f}"
        print(f"* {artefact.name}: {words}")
    dense = result.rows[0].accuracy[0]
    for row in result.rows:
        points = 100 * (row.accuracy[0] - dense)
        print(f"* {row.name}: {row.accuracy[0]:.2%} ({points:+.2f} points)")
    print(f"* {time.perf_counter() - began:.0f} s in all", flush=True)


def measure_lenet5(options):
    """Prune, share values, train these: Deep Compression; the file is coded."""
    arrays, test = load(options.data, 28)
    model, began = models.from_linen(LeNet5()), time.perf_counter()
    file = options.out / "lenet5.jkd"
    teacher = train_teacher(model, arrays, 1e-3, options.teacher_steps, file)
    stages = (
        recipes.Prune(0.93, steps=2 * options.steps, learning_rate=1e-3),
        recipes.Cluster(bits=4, steps=options.steps // 4),
    )
    config = recipes.CompressConfig(stages, temperature=2.0)
    task = recipes.Task(model, teacher, arrays, test, about="MNIST")
    result = recipes.compress(config, options.out / "lenet5", task, resume=True)
    print(f"\n## lenet5\n\n{report.markdown_table(result.rows)}\n")
    print(f"* {time.perf_counter() - began:.0f} s in all", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("deploy"))
    parser.add_argument("--networks", nargs="+", default=[*networks(), "lenet5"])
    parser.add_argument("--teacher-steps", type=int, default=400)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.networks:
        measure_lenet5(options) if name == "lenet5" else measure(name, options)


if __name__ == "__main__":
    main()
