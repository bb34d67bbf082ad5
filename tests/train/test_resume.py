import jax
import numpy as np
import optax
import pytest

from jaxkd import checkpoint, compress, data, models, train, trees


def run(case, folder, steps, *, wrap, save_every=5):
    """Trains to `steps`, from the last checkpoint in the folder if there is one."""
    batches = data.TrainBatches(case.batch, batch_size=6, seed=3)
    state = case.state()
    with checkpoint.Checkpointer(folder, keep=9) as checkpointer:
        restored = checkpointer.restore(state)
        if restored is not None:
            state = restored.state
            batches.set_state(restored.data)

        def save(state, metrics):
            position = batches.get_state()
            checkpointer.save(int(state.step), state, data=position)

        hooks = [train.Hook(save_every, save)]
        step = wrap(case.step())
        *_, (state, metrics) = train.fit(
            step, state, case.variables, batches, steps=steps, hooks=hooks
        )
        return state, jax.device_get(metrics)


@pytest.mark.parametrize("wrap", [train.jit_step, train.pmap_step])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(setup, tmp_path, wrap):
    student = models.from_linen(models.MLP(hidden=(8,), classes=3, dropout=0.3))
    schedule = compress.cubic(0.6, begin=2, end=15)
    tx = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(optax.cosine_decay_schedule(0.01, 20)),
        compress.keep_sparse(schedule, every=3),
    )
    case = setup(tx=tx, student=student)
    whole, metrics = run(case, tmp_path / "whole", 20, wrap=wrap)
    run(case, tmp_path / "parts", 7, wrap=wrap)
    # Lost: the two updates after the last checkpoint but one.
    resumed, same = run(case, tmp_path / "parts", 20, wrap=wrap)
    assert trees.digest(resumed) == trees.digest(whole)
    assert same == metrics
    kernel = np.asarray(resumed.params["student"]["dense1"]["kernel"])
    assert (kernel == 0).sum() == round(0.6 * kernel.size)
