"""All methods on one task: one teacher, one student, one budget, several seeds.

    python benchmarks/zoo.py --data mnist.npz --out zoo

`mnist.npz` holds `train_images`, `train_labels`, `test_images`, `test_labels` (uint8,
`[n, 28, 28]`). Prints a Markdown table, writes it and a plot beside it. A method that
has been measured is not measured again: the run can be stopped and taken up.
"""

import argparse
import json
import pathlib
import statistics
import time

import jax
import numpy as np
import optax
from zoo_methods import all_methods, head

from jaxkd import data, models, objectives, report, train

BATCH, LEARNING_RATE = 64, 0.005
TEACHER, STUDENT = (16, 32, 64), (4, 8, 16)


def load(path):
    """Arrays of both splits: images averaged to 14 x 14, for speed, in [0, 1]."""
    with np.load(path) as found:
        shrink = lambda x: x.reshape(-1, 14, 2, 14, 2, 1).mean((2, 4)) / 255
        split = lambda name: {
            "image": shrink(found[f"{name}_images"]).astype(np.float32),
            "label": found[f"{name}_labels"].astype(np.int32),
        }
        return split("train"), split("test")


class Task:
    """What all methods share."""

    def __init__(self, path, steps):
        cnn = lambda widths: models.from_linen(models.CNN(widths, classes=10))
        self.student, self.teacher = cnn(STUDENT), cnn(TEACHER)
        self.train, self.test = load(path)
        self.steps = steps
        schedule = optax.cosine_decay_schedule(LEARNING_RATE, steps)
        self.tx = optax.adam(schedule)
        self.variables = None

    def batches(self, seed):
        return data.TrainBatches(self.train, batch_size=BATCH, seed=seed)

    def accuracy(self, model):
        step = jax.jit(train.make_eval_step(model))
        test = data.eval_batches(self.test, batch_size=1000)
        return lambda state: train.evaluate(step, state.student, test)["accuracy"]

    def train_teacher(self):
        parts = (self.teacher, None, objectives.hard_label(), self.tx)
        batches = self.batches(0)
        state = train.init_state(jax.random.key(1000), *parts, batches.peek())
        step = jax.jit(train.make_train_step(*parts))
        *_, (state, _) = train.fit(step, state, None, batches, steps=self.steps)
        self.variables = state.student
        return self.accuracy(self.teacher)(state)

    def start(self, objective, seed):
        """The step, and the state in front of the first."""
        parts = (self.student, self.teacher, objective, self.tx)
        state = train.init_state(
            jax.random.key(seed),
            *parts,
            self.batches(seed).peek(),
            teacher_variables=self.variables,
        )
        return train.make_train_step(*parts), state

    def factor_transfer(self):
        """FT: the paraphraser is trained first, for as many steps."""
        step, state = self.start(objectives.paraphrase(teacher="block3"), 0)
        batches, step = self.batches(0), jax.jit(step)
        run = train.fit(step, state, self.variables, batches, steps=self.steps)
        *_, (state, _) = run
        factors = objectives.factor_transfer(
            student="block3",
            teacher="block3",
            paraphraser=state.params["objective"],
        )
        return objectives.combine(
            hard=(1.0, objectives.hard_label()), method=(200.0, factors)
        )

    def reused_head_accuracy(self):
        """Of SimKD's model: student, projector and the teacher's classifier."""
        batch = self.batches(0).peek()
        shape = models.list_features(self.teacher, batch)["block3"].shape
        model = objectives.reused_head_model(
            self.student, feature="block3", shape=shape, head=head
        )
        step = jax.jit(train.make_eval_step(model))
        test = data.eval_batches(self.test, batch_size=1000)

        def accuracy(state):
            parts = {
                "student": state.student,
                "projector": (state.params["objective"], state.objective_state),
                "teacher": self.variables,
            }
            variables = models.Variables(
                {name: part[0] for name, part in parts.items()},
                {name: part[1] for name, part in parts.items()},
            )
            return train.evaluate(step, variables, test)["accuracy"]

        return accuracy


def measure(task, objective, seeds, accuracy):
    """Last and best accuracy of each seed, and what a step costs."""
    last, best = [], []
    pure, state = task.start(objective, seeds[0])
    batch = task.batches(seeds[0]).peek()
    compiled = jax.jit(pure).lower(state, task.variables, batch).compile()
    for seed in seeds:
        batches = task.batches(seed)
        _, state = task.start(objective, seed)
        watch = train.Best(accuracy, every=max(task.steps // 4, 1))
        *_, (state, _) = train.fit(
            compiled,
            state,
            task.variables,
            batches,
            steps=task.steps,
            hooks=[watch.hook],
        )
        last.append(accuracy(state))
        best.append(watch.value)
    flops = (compiled.cost_analysis() or {})["flops"]
    return {"last": last, "best": best, "flops": flops}


def against_alone(task, objective, rounds=30):
    """Time of a step over that of the student alone; the two take turns."""
    batch, runs = task.batches(0).peek(), []
    for each in (objectives.hard_label(), objective):
        pure, state = task.start(each, 0)
        runs.append((jax.jit(pure), state))
    taken = []
    for _ in range(rounds + 3):
        for step, state in runs:
            start = time.perf_counter()
            jax.block_until_ready(step(state, task.variables, batch))
            taken.append(time.perf_counter() - start)
    pairs = zip(taken[6::2], taken[7::2], strict=True)
    return statistics.median(method / alone for alone, method in pairs)


def table(found):
    """A Markdown table, best first."""
    alone = found["alone"]
    lines = [
        "| method | last, % | best, % | against alone | FLOPs | time |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    order = sorted(found, key=lambda n: -statistics.mean(found[n]["last"]))
    for name in order:
        row = found[name]
        gain = 100 * (statistics.mean(row["last"]) - statistics.mean(alone["last"]))
        lines.append(
            f"| {name} | {report.mean_and_std(row['last'])} "
            f"| {report.mean_and_std(row['best'])} | {gain:+.2f} "
            f"| {row['flops'] / alone['flops']:.2f} × "
            f"| {row['time']:.2f} × |"
        )
    return "\n".join(lines)


def plot(found, file):
    """Accuracy of each method against the cost of its step."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    alone, order = (
        found["alone"],
        sorted(found, key=lambda n: statistics.mean(found[n]["last"])),
    )
    figure, axes = plt.subplots(figsize=(7, 0.2 * len(found) + 1))
    left = 100 * statistics.mean(alone["last"]) - 4
    for y, name in enumerate(order):
        values = [100 * v for v in found[name]["last"]]
        mean = statistics.mean(values)
        color = "tab:orange" if name in ("alone", "KD") else "tab:blue"
        if mean < left:
            axes.text(left + 0.05, y, f"◂ {mean:.1f}", va="center", fontsize=8)
            continue
        axes.plot(values, [y] * len(values), "o", color=color, alpha=0.35, ms=4)
        axes.plot(mean, y, "|", color=color, ms=10, mew=2)
    axes.set(xlim=(left, None), ylim=(-1, len(found)))
    labels = [
        f"{name}  ({found[name]['flops'] / alone['flops']:.1f}×)" for name in order
    ]
    axes.set_yticks(range(len(order)), labels, fontsize=8)
    axes.axvline(100 * statistics.mean(alone["last"]), color="tab:orange", lw=0.8)
    axes.set_xlabel(
        "test accuracy, %: each seed and the mean; in brackets, FLOPs of a "
        "step against alone",
        fontsize=8,
    )
    axes.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    figure.savefig(file, dpi=130)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("zoo"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--only", nargs="*")
    parsed = parser.parse_args()
    parsed.out.mkdir(parents=True, exist_ok=True)
    record = parsed.out / "zoo.json"
    found = json.loads(record.read_text()) if record.exists() else {}
    task = Task(parsed.data, parsed.steps)
    print(f"teacher: {task.train_teacher():.4f}", flush=True)
    methods = all_methods(len(task.train["label"])) | {
        "FT": task.factor_transfer(),
        "SimKD": objectives.reused_head(student="block3", teacher="block3"),
    }
    plain, reused = task.accuracy(task.student), task.reused_head_accuracy()
    for name, objective in methods.items():
        if name in found or (parsed.only and name not in parsed.only):
            continue
        accuracy = reused if name == "SimKD" else plain
        found[name] = measure(task, objective, range(parsed.seeds), accuracy)
        found[name]["time"] = against_alone(task, objective)
        report.write_atomically(record, json.dumps(found))
        print(name, found[name], flush=True)
    text = table(found)
    (parsed.out / "zoo.md").write_text(text + "\n")
    plot(found, parsed.out / "zoo.png")
    print(text)


if __name__ == "__main__":
    main()
