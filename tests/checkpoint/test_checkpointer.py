import signal
import subprocess
import sys
import time
import warnings

import chex
import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxkd import checkpoint, models, objectives, train, trees

# Orbax leaves futures and coroutines behind when reading damaged files fails.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
]


def make_state(width=8, tx=None, seed=0):
    student = models.from_linen(models.MLP(hidden=(width,), classes=3))
    batch = {"image": np.ones((4, 6), np.float32), "label": np.zeros(4, np.int32)}
    return train.init_state(
        jax.random.key(seed),
        student,
        None,
        objectives.hard_label(),
        tx or optax.adam(1e-3),
        batch,
    )


def save_three(folder, **kwargs):
    with checkpoint.Checkpointer(folder, keep=5, **kwargs) as checkpointer:
        for step in (1, 2, 3):
            checkpointer.save(step, make_state(seed=step), data={"batches": 10 * step})


def restore(folder, target=None, **kwargs):
    with checkpoint.Checkpointer(folder, **kwargs) as checkpointer:
        return checkpointer.restore(target or make_state())


def data_file(folder):
    """The file that holds most of a checkpoint's arrays."""
    files = [p for p in (folder / "state").rglob("d/*") if p.is_file()]
    return max(files, key=lambda p: p.stat().st_size)


def structure_file(folder):
    return folder / "state" / "_METADATA"


def test_gives_back_every_bit(tmp_path):
    save_three(tmp_path)
    restored = restore(tmp_path)
    assert (restored.step, restored.data) == (3, {"batches": 30})
    chex.assert_trees_all_equal(
        jax.tree.map(np.asarray, restored.state.params),
        jax.tree.map(np.asarray, make_state(seed=3).params),
    )
    assert restored.state.key == make_state(seed=3).key
    assert jax.tree.structure(restored.state) == jax.tree.structure(make_state())


def test_an_empty_folder_holds_nothing(tmp_path):
    assert restore(tmp_path / "new") is None


def test_keeps_the_last_and_the_best(tmp_path):
    with checkpoint.Checkpointer(tmp_path, keep=2, best="accuracy") as checkpointer:
        for step, accuracy in enumerate([0.5, 0.9, 0.1, 0.2, 0.3], start=1):
            checkpointer.save(step, make_state(), metrics={"accuracy": accuracy})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "4", "5"]
    assert restore(tmp_path).metrics == {"accuracy": pytest.approx(0.3)}


def test_half_precision_and_integers_survive(tmp_path):
    state = {"b": jnp.array([1.5, -2.0], jnp.bfloat16), "q": jnp.array([-7], jnp.int8)}
    with checkpoint.Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, state)
    chex.assert_trees_all_equal(restore(tmp_path, state).state, state)


# Damage: each is noticed, the newest whole checkpoint is used, and nothing is lost.


def flip_a_byte(folder):
    file = data_file(folder)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(folder):
    file = data_file(folder)
    file.write_bytes(file.read_bytes()[:100])


def remove_arrays(folder):
    data_file(folder).unlink()


def garble_the_manifest(folder):
    file = folder / "_CHECKPOINT_METADATA"
    file.write_text(file.read_text().replace("batches", "bitches"))


def cut_the_manifest(folder):
    (folder / "_CHECKPOINT_METADATA").write_text('{"item')


DAMAGE = [flip_a_byte, truncate, remove_arrays, garble_the_manifest, cut_the_manifest]


@pytest.mark.parametrize("damage", DAMAGE)
def test_falls_back_to_the_newest_that_is_whole(tmp_path, damage):
    save_three(tmp_path)
    damage(tmp_path / "3")
    with pytest.warns(UserWarning, match=r"3 is damaged.*3\.damaged"):
        restored = restore(tmp_path)
    assert restored.step == 2
    assert (tmp_path / "3.damaged").is_dir()
    with checkpoint.Checkpointer(tmp_path) as checkpointer:  # and the step is free
        checkpointer.save(3, make_state())
    assert restore(tmp_path).step == 3


@pytest.mark.parametrize("pick", [data_file, structure_file])
def test_wherever_a_bit_is_flipped_no_wrong_number_comes_back(tmp_path, pick):
    save_three(tmp_path)
    file = pick(tmp_path / "3")
    whole, fell_back = file.read_bytes(), 0
    digests = {step: trees.digest(make_state(seed=step)) for step in (2, 3)}
    for place in range(0, len(whole), max(1, len(whole) // 16)):
        content = bytearray(whole)
        content[place] ^= 0x10
        file.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            restored = restore(tmp_path)
        # Some bytes are padding: then the numbers are right.
        assert trees.digest(restored.state) == digests[restored.step]
        if restored.step == 2:
            fell_back += 1
            next(tmp_path.glob("3.damaged*")).rename(tmp_path / "3")
    assert fell_back >= 8


def test_an_empty_step_folder_is_no_checkpoint(tmp_path):
    save_three(tmp_path)
    (tmp_path / "9").mkdir()
    with pytest.warns(UserWarning, match="9 is damaged"):
        assert restore(tmp_path).step == 3


def test_when_all_are_damaged_it_says_so(tmp_path):
    save_three(tmp_path)
    for step in "123":
        truncate(tmp_path / step)
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(checkpoint.CheckpointError, match="all 3 checkpoints"),
    ):
        restore(tmp_path)


def test_another_model_optimizer_or_teacher_is_named_and_left_alone(tmp_path):
    save_three(tmp_path, teacher="abc")
    error = checkpoint.CheckpointError
    with pytest.raises(error, match=r"another model.*bias.*float32\[8\].*float32\[9\]"):
        restore(tmp_path, make_state(width=9), teacher="abc")
    with pytest.raises(error, match=r"another model or optimizer.*opt_state"):
        restore(tmp_path, make_state(tx=optax.sgd(0.1)), teacher="abc")
    with pytest.raises(error, match="another teacher"):
        restore(tmp_path, teacher="xyz")
    assert restore(tmp_path, teacher="abc").step == 3


def test_a_state_with_nan_is_not_saved_and_infinities_are(tmp_path):
    state = {"w": jnp.array([1.0, jnp.nan])}
    with (
        checkpoint.Checkpointer(tmp_path) as checkpointer,
        pytest.raises(checkpoint.CheckpointError, match="'w' holds NaN"),
    ):
        checkpointer.save(1, state)
    assert restore(tmp_path, state) is None
    masked = {"w": jnp.array([0.0, -jnp.inf])}
    with checkpoint.Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, masked)
    chex.assert_trees_all_equal(restore(tmp_path, masked).state, masked)


def test_a_step_is_never_overwritten(tmp_path):
    with checkpoint.Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, make_state(seed=1))
        with pytest.raises(checkpoint.CheckpointError, match="cannot save step 1"):
            checkpointer.save(1, make_state(seed=2))


def test_steps_only_go_up(tmp_path):
    save_three(tmp_path)
    with (
        checkpoint.Checkpointer(tmp_path, keep=1) as checkpointer,
        pytest.raises(checkpoint.CheckpointError, match=r"holds step 3\. Restore it"),
    ):
        checkpointer.save(2, make_state())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2", "3"]


def test_the_best_can_be_restored_and_its_metric_must_be_there(tmp_path):
    with checkpoint.Checkpointer(tmp_path, best="accuracy") as checkpointer:
        for step, accuracy in enumerate([0.5, 0.9, 0.1, 0.2], start=1):
            checkpointer.save(step, make_state(), metrics={"accuracy": accuracy})
        for wrong in ({}, {"accuracy": float("nan")}):
            with pytest.raises(checkpoint.CheckpointError, match="'accuracy' chooses"):
                checkpointer.save(5, make_state(), metrics=wrong)
    with checkpoint.Checkpointer(tmp_path, best="accuracy") as checkpointer:
        assert checkpointer.restore(make_state(), best=True).step == 2
        assert checkpointer.restore(make_state()).step == 4


def test_only_jax_arrays_are_saved(tmp_path):
    with checkpoint.Checkpointer(tmp_path) as checkpointer:
        for leaf in (np.ones(3), np.int32(3), 3):
            with pytest.raises(checkpoint.CheckpointError, match="'n' is a "):
                checkpointer.save(1, {"n": leaf})
        with pytest.raises(checkpoint.CheckpointError, match="holds no arrays"):
            checkpointer.save(1, {})


def test_trouble_outside_a_checkpoint_is_no_damage(tmp_path, monkeypatch):
    save_three(tmp_path)

    def fail(*args, **kwargs):
        raise MemoryError("none left")

    monkeypatch.setattr("orbax.checkpoint.v1.load_checkpointables", fail)
    with pytest.raises(checkpoint.CheckpointError, match=r"cannot read .*none left"):
        restore(tmp_path)
    monkeypatch.undo()
    assert restore(tmp_path).step == 3


def test_shapes_of_numpy_will_do_as_a_target(tmp_path):
    with checkpoint.Checkpointer(tmp_path) as checkpointer:
        checkpointer.save(1, {"w": jnp.arange(3.0)})
    restored = restore(tmp_path, {"w": np.zeros(3, np.float32)})
    np.testing.assert_array_equal(restored.state["w"], [0, 1, 2])


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(checkpoint.CheckpointError, match="cannot write checkpoints to"):
        checkpoint.Checkpointer(tmp_path / "file" / "folder")


KILLED = """
import sys, jax.numpy as jnp
from jaxkd import checkpoint
state = {"w": jnp.ones((512, 512))}
with checkpoint.Checkpointer(sys.argv[1], keep=3) as checkpointer:
    for step in range(1, 10_000):
        checkpointer.save(step, {"w": step * state["w"]})
        print(step, flush=True)
"""


@pytest.mark.parametrize(
    "delay", [0.05, *(pytest.param(x, marks=pytest.mark.slow) for x in (0, 0.11, 0.23))]
)
def test_kill_while_saving_leaves_a_whole_checkpoint(tmp_path, delay):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    for _ in range(3):
        process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    written = 3 + len(process.stdout.read().splitlines())
    process.wait()
    process.stdout.close()
    restored = restore(tmp_path, {"w": jnp.zeros((512, 512))})
    assert restored.step >= written - 2
    np.testing.assert_array_equal(restored.state["w"], restored.step)
