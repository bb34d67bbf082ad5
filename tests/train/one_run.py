"""A run that can be killed and started again; run by test_faults.py.

python one_run.py FOLDER STEPS EVERY

Says each update when it is done and each save when it begins, on a line of its own, so
that whoever kills it knows where it was; at the end the digest of the state.
"""

import sys

import jax
import numpy as np
import optax

from jaxkd import checkpoint, data, models, objectives, train, trees

folder, steps, every = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)
arrays = {"image": rng.normal(size=(50, 8)).astype("float32")}
arrays["label"] = rng.integers(0, 3, 50).astype("int32")
batches = data.TrainBatches(arrays, batch_size=16, seed=0)
# What may be lost: keys, moments, a schedule, an average, a projector, the data.
student = models.from_linen(models.MLP(hidden=(128,), classes=3, dropout=0.3))
teacher = models.from_linen(models.MLP(hidden=(32,), classes=3))
objective = objectives.combine(
    soft=(0.9, objectives.soft_target(temperature=4.0)),
    hint=(0.1, objectives.hint(student="dense1", teacher="dense1")),
)
tx = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(optax.cosine_decay_schedule(0.01, 200)),
    train.average_params(0.9),
)
followed = teacher.init(jax.random.key(1), batches.peek())
state = train.init_state(
    jax.random.key(0), student, teacher, objective, tx, batches.peek()
)
step = train.jit_step(train.make_train_step(student, teacher, objective, tx))


def say(*words):
    print(*words, flush=True)


with (
    train.stop_on_signal() as stop,
    checkpoint.Checkpointer(
        folder, keep=3, teacher=trees.digest(followed)
    ) as checkpointer,
):
    restored = checkpointer.restore(state)
    if restored is not None:
        state = restored.state
        batches.set_state(restored.data)
        say("restored", restored.step)

    def save(state, metrics):
        say("save", int(state.step))
        checkpointer.save(int(state.step), state, data=batches.get_state())

    if int(state.step) < steps:
        hooks = [train.Hook(every, save)]
        run = train.fit(
            step, state, followed, batches, steps=steps, hooks=hooks, stop=stop
        )
        for state, _ in run:
            say("update", int(state.step))
say("end", int(state.step), trees.digest(state))
