"""What a step costs in each parallel mode, on 8 emulated devices.

    python benchmarks/parallel.py

Counts FLOPs, bytes and collectives in the compiled programs, and times: each mode, the
same step written by hand, remat and accumulation, one process and two.
Emulated devices share the cores of one CPU, so times between modes are no prediction
for accelerators; the counts are.
"""

import argparse
import functools
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from typing import Any

import jax

jax.config.update("jax_num_cpu_devices", 8)

import numpy as np  # noqa: E402
import optax  # noqa: E402
from jax import numpy as jnp  # noqa: E402
from jax.sharding import NamedSharding, PartitionSpec as P  # noqa: E402

import jaxkd  # noqa: E402
from jaxkd import models, objectives, train, trees  # noqa: E402

CNN = lambda *widths: models.from_linen(models.CNN(widths=widths, classes=10))
MLP = lambda *hidden: models.from_linen(models.MLP(hidden=hidden, classes=10))
PAIRS = {
    "MLP": (MLP(512, 512), MLP(256, 256), (64,)),
    "CNN + BatchNorm": (CNN(32, 64), CNN(16, 32), (16, 16, 3)),
}
COLLECTIVE = re.compile(
    r"= (.*?) (all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute)"
    r"(?:-start)?\("
)


class Case:
    """One student, one teacher, and all that a step takes."""

    def __init__(self, name, rows, *, masked=True, **options):
        self.teacher, self.student, shape = PAIRS[name]
        rng = np.random.default_rng(0)
        self.batch = {
            "image": rng.normal(size=(rows, *shape)).astype(np.float32),
            "label": rng.integers(0, 10, rows).astype(np.int32),
        }
        if masked:
            self.batch["mask"] = np.ones(rows, bool)
        self.student = options.pop("wrap", lambda model: model)(self.student)
        self.variables = self.teacher.init(jax.random.key(1), self.batch)
        if options.pop("baked", False):
            self.teacher = models.bake(self.teacher, self.variables)
            self.variables = models.Variables({})
        objective = objectives.combine(
            soft=(0.9, objectives.soft_target(temperature=4.0)),
            hard=(0.1, objectives.hard_label()),
        )
        tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
        parts = (self.student, self.teacher, objective, tx)
        self.tx = tx
        self.state = train.init_state(jax.random.key(0), *parts, self.batch)
        self.step = train.make_train_step(*parts, **options)


def compiled_modes(case):
    """The programs that the wrappers of jaxkd.train compile."""
    mesh = train.data_mesh()
    whole, rows = NamedSharding(mesh, P()), NamedSharding(mesh, P(mesh.axis_names[0]))
    batch = jax.device_put(case.batch, rows)

    def jitted(rules):
        where = train.state_shardings(case.state, mesh, rules)
        followed = case.variables._asdict()
        followed = train.place(followed, train.shardings(followed, mesh, rules))
        fn = jax.jit(case.step, donate_argnums=0, out_shardings=(where, whole))
        state = train.place(case.state, where)
        return fn.lower(state, models.Variables(**followed), batch)

    axis = mesh.axis_names[0]
    named = functools.partial(case.step, axis_name=axis)
    mapped = jax.shard_map(
        named, mesh=mesh, in_specs=(P(), P(), P(axis)), out_specs=P()
    )
    pmapped = jax.pmap(named, axis_name=axis, in_axes=(None, None, 0), out_axes=None)
    split = {k: x.reshape(8, -1, *x.shape[1:]) for k, x in case.batch.items()}
    same = [train.place(x, whole) for x in (case.state, case.variables)]
    alone = jax.jit(case.step, donate_argnums=0)
    lowered = {
        "jit, 1 device": alone.lower(case.state, case.variables, case.batch),
        "jit, 8 devices": jitted(()),
        "jit, FSDP": jitted(train.fsdp(min_size=1024)),
        "pmap": pmapped.lower(case.state, case.variables, split),
        "shard_map": jax.jit(mapped, donate_argnums=0).lower(*same, batch),
    }
    return {name: program.compile() for name, program in lowered.items()}


def collectives(program):
    """How many there are of each kind, and how many arrays each one carries."""
    found = {}
    for shapes, kind in COLLECTIVE.findall(program.as_text()):
        found.setdefault(kind, []).append(shapes.count("["))
    return "; ".join(
        f"{len(sizes)} {kind} of {', '.join(map(str, sorted(sizes, reverse=True)))}"
        for kind, sizes in found.items()
    )


def print_modes(rows):
    print("| pair | mask | mode | MFLOP a device | MB read and written | collectives |")
    print("| --- | --- | --- | ---: | ---: | --- |")
    for name in PAIRS:
        for masked in (False, True):
            programs = compiled_modes(Case(name, rows, masked=masked))
            for mode, program in programs.items():
                cost = program.cost_analysis()
                megas = [cost[key] / 1e6 for key in ("flops", "bytes accessed")]
                print(
                    f"| {name} | {'yes' if masked else 'no'} | {mode} "
                    f"| {megas[0]:.2f} | {megas[1]:.2f} "
                    f"| {collectives(program) or 'none'} |",
                    flush=True,
                )


def by_hand(case):
    """The step as one would write it without jaxkd, for the MLP, without a mask."""

    def loss_fn(params, followed, batch):
        logits = case.student.apply(params, {}, batch, train=True).logits
        log_q, log_p = jax.nn.log_softmax(logits / 4), jax.nn.log_softmax(followed / 4)
        soft = 16 * jnp.mean(jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1))
        hard = optax.losses.softmax_cross_entropy_with_integer_labels(
            logits, batch["label"]
        ).mean()
        return 0.9 * soft + 0.1 * hard

    def step(params, opt_state, teacher, batch):
        followed = case.teacher.apply(*teacher, batch).logits
        loss, grads = jax.value_and_grad(loss_fn)(params, followed, batch)
        updates, opt_state = case.tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, loss

    return step


def turns(contenders, rounds, calls=8):
    """Seconds for each call of each, which take turns; at most 8 are in flight."""
    times = {name: [] for name in contenders}
    for i in range(rounds + 2):
        for name, call in contenders.items():
            began = time.perf_counter()
            jax.block_until_ready([call() for _ in range(calls)])
            if i >= 2:  # the first compile and warm up
                times[name].append((time.perf_counter() - began) / calls)
    return times


def ratio(times, name, base):
    """The median of the rounds' ratios."""
    pairs = zip(times[name], times[base], strict=True)
    return statistics.median(a / b for a, b in pairs)


def stepper(step, case):
    """Calls a step on its own last state, as a loop does."""
    last = [case.state]

    def call():
        last[0], metrics = step(last[0], case.variables, case.batch)
        return metrics

    return call


def print_times(rows, rounds):
    case = Case("MLP", rows, masked=False)
    mesh = train.data_mesh()
    hand = jax.jit(by_hand(case), donate_argnums=(0, 1))
    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    placed = train.place(case.variables, whole)
    params = train.place(case.state.params["student"], whole)
    own = [(params, train.place(case.tx.init(params), whole))]

    def run_hand():
        batch = jax.device_put(case.batch, split)
        params, opt_state, loss = hand(*own[0], placed, batch)
        own[0] = params, opt_state
        return loss

    step = case.step
    times = turns(
        {
            "by hand, jit on 8 devices": run_hand,
            "jit_step, 8 devices": stepper(train.jit_step(step), case),
            "jit_step, FSDP": stepper(
                train.jit_step(
                    step,
                    rules=train.fsdp(min_size=1024),
                    teacher_rules=train.fsdp(min_size=1024),
                ),
                case,
            ),
            "pmap_step": stepper(train.pmap_step(step), case),
            "shard_map_step": stepper(train.shard_map_step(step), case),
        },
        rounds,
    )
    print("| MLP | ms a step | ratio |\n| --- | ---: | ---: |")
    for name in times:
        print(
            f"| {name} | {1000 * statistics.median(times[name]):.2f} "
            f"| {ratio(times, name, 'by hand, jit on 8 devices'):.2f} |"
        )


def print_memory(rows):
    keep_dots = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    variants = {
        "as it is": {},
        "remat": {"wrap": models.remat},
        "remat, dots kept": {"wrap": functools.partial(models.remat, policy=keep_dots)},
        "accumulate 4": {"accumulate": 4},
        "accumulate 4, remat": {"accumulate": 4, "wrap": models.remat},
    }
    print("| CNN, 1 device | peak temporary MB | GFLOP |\n| --- | ---: | ---: |")
    for name, options in variants.items():
        case = Case("CNN + BatchNorm", rows, **options)
        lowered = jax.jit(case.step).lower(case.state, case.variables, case.batch)
        program = lowered.compile()
        known: Any = program.memory_analysis(), program.cost_analysis()
        memory, gigas = known[0].temp_size_in_bytes / 1e6, known[1]["flops"] / 1e9
        print(f"| {name} | {memory:.2f} | {gigas:.3f} |", flush=True)


def kept_megas(model, variables, batch):
    """What the forward pass keeps for the gradient, besides the parameters."""

    def forward(params):
        return model.apply(params, variables.state, batch, train=True).logits

    _, backward = jax.eval_shape(lambda p: jax.vjp(forward, p), variables.params)
    arrays = jax.tree.leaves(backward)
    return (trees.num_bytes(arrays) - trees.num_bytes(variables.params)) / 1e6


def print_kept():
    """Of a transformer: 8 blocks of width 128, 32 sequences of 64 tokens."""
    sizes = {"vocabulary": 100, "classes": 2, "depth": 8}
    batch = {"tokens": np.ones((32, 64), np.int32)}
    make = lambda **options: models.from_linen(
        models.Transformer(**sizes, **options), inputs=("tokens",)
    )
    plain = make()
    variables = plain.init(jax.random.key(0), batch)
    variants = {
        "as it is": plain,
        "models.remat": models.remat(plain),
        "Transformer(remat=True)": make(remat=True),
    }
    print("| transformer | MB kept for the gradient |\n| --- | ---: |")
    for name, model in variants.items():
        print(f"| {name} | {kept_megas(model, variables, batch):.1f} |")


def one_of_several(port, processes, process, name, rows, rounds):
    """A process of the weak scaling, with rows, a device and a core of its own."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[process]})
    jax.config.update("jax_num_cpu_devices", 1)
    if processes > 1:
        train.initialize_distributed(f"localhost:{port}", processes, process)
    case = Case(name, rows)
    step = train.jit_step(case.step)
    times = turns({"step": stepper(step, case)}, rounds)["step"]
    print(json.dumps(statistics.median(times)))


def seconds_of_several(processes, name, rows, rounds):
    """The slowest process's time for a step."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    running = [
        subprocess.Popen(
            [sys.executable, __file__, "--one-of-several"]
            + [str(x) for x in (port, processes, number, name, rows, rounds)],
            stdout=subprocess.PIPE,
        )
        for number in range(processes)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in running]
    return max(json.loads(output.split()[-1]) for output in outputs)


def print_scaling(rows, rounds):
    print("| pair | rows each | 1 process, ms a step | 2 processes | efficiency |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in PAIRS:
        for own in (rows, 8 * rows):
            one, two = (seconds_of_several(n, name, own, rounds) for n in (1, 2))
            print(
                f"| {name} | {own} | {1000 * one:.2f} | {1000 * two:.2f} "
                f"| {one / two:.2f} |",
                flush=True,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--one-of-several", nargs=6, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.one_of_several:
        port, processes, process, name, rows, rounds = parsed.one_of_several
        own = int(port), int(processes), int(process)
        one_of_several(*own, name, int(rows), int(rounds))
        return
    device = jax.devices()[0].device_kind
    print(f"jaxkd {jaxkd.__version__}, jax {jax.__version__}, {device}, ", end="")
    print(f"{parsed.rows} rows, {parsed.rounds} rounds of 8 steps")
    print("\n## Programs\n")
    print_modes(parsed.rows)
    print("\n## Times\n")
    print_times(parsed.rows, parsed.rounds)
    print("\n## Memory\n")
    print_memory(parsed.rows)
    print()
    print_kept()
    print("\n## From one process to two\n")
    print_scaling(parsed.rows, parsed.rounds)


if __name__ == "__main__":
    main()
