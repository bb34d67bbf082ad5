"""One of several processes that train together; run by test_processes.py.

python two_processes.py MODE FOLDER PORT PROCESSES PROCESS DEVICES STEPS EVERY

It says so when it has done five updates and when a save begins, saves every so many
updates and at the end, and stops early if it is told to.
"""

import json
import pathlib
import sys

import jax

mode, folder, port, *numbers = sys.argv[1:]
processes, process, devices, steps, every = map(int, numbers)
jax.config.update("jax_num_cpu_devices", devices)

from jaxkd import checkpoint, data, models, objectives, train, trees  # noqa: E402

if processes > 1:
    train.initialize_distributed(f"localhost:{port}", processes, process, timeout_s=60)

import numpy as np  # noqa: E402
import optax  # noqa: E402

rng = np.random.default_rng(0)
arrays = {"image": rng.normal(size=(50, 4, 4, 1)).astype("float32")}
arrays["label"] = rng.integers(0, 3, 50).astype("int32")
batches = data.TrainBatches(arrays, batch_size=16, seed=0, shard=(process, processes))
student = models.from_linen(models.CNN(widths=(4, 8), classes=3))
teacher = models.from_linen(models.CNN(widths=(8, 8), classes=3))
objective = objectives.combine(
    soft=(0.9, objectives.soft_target(temperature=4.0)),
    hard=(0.1, objectives.hard_label()),
)
tx = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9))
variables = teacher.init(jax.random.key(1), batches.peek())
state = train.init_state(
    jax.random.key(0), student, teacher, objective, tx, batches.peek()
)
pure = train.make_train_step(student, teacher, objective, tx)
mesh = train.data_mesh()
rules = train.fsdp(min_size=8) if mode == "fsdp" else ()
wrapped = {
    "jit": lambda: train.jit_step(pure, mesh),
    "fsdp": lambda: train.jit_step(pure, mesh, rules=rules, teacher_rules=rules),
    "shard_map": lambda: train.shard_map_step(pure, mesh),
    "pmap": lambda: train.pmap_step(pure),
}
step, found = wrapped[mode](), {}

with (
    train.stop_on_signal() as stop,
    checkpoint.Checkpointer(pathlib.Path(folder) / "checkpoints") as checkpointer,
):
    target = train.place(state, train.state_shardings(state, mesh, rules))
    restored = checkpointer.restore(target)
    if restored is not None:
        state = restored.state
        batches.set_state(restored.data)
        found["restored"] = trees.digest(state)
    last, metrics = state, {}

    def save(state, metrics):
        print("save", int(state.step), flush=True)
        checkpointer.save(int(state.step), state, data=batches.get_state())

    run = train.fit(
        step,
        state,
        variables,
        batches,
        steps=steps,
        hooks=[train.Hook(every, save)],
        stop=stop,
        max_in_flight=1,
    )
    for now in run:
        last, metrics = now
        if int(last.step) == 5:
            print("five", flush=True)

found["step"] = int(last.step)
found["saved"] = trees.digest(last)
found["metrics"] = {name: float(value) for name, value in metrics.items()}
file = f"{mode}-{processes}x{devices}-{process}.json"
(pathlib.Path(folder) / file).write_text(json.dumps(found))
