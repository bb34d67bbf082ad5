import itertools

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import data


def make(n=10, batch_size=4, seed=0, **kwargs):
    arrays = {"x": 100 + np.arange(n), "label": np.arange(n) % 3}
    return data.TrainBatches(arrays, batch_size=batch_size, seed=seed, **kwargs)


def take(batches, n):
    return [batch["index"] for batch in itertools.islice(batches, n)]


@pytest.mark.parametrize(("n", "batch_size"), [(10, 4), (8, 4), (3, 7), (5, 1)])
def test_each_example_comes_once_in_each_epoch(n, batch_size):
    stream = np.concatenate(take(make(n, batch_size), 4 * n // batch_size + 4))
    for epoch in range(4):
        part = stream[epoch * n : (epoch + 1) * n]
        np.testing.assert_array_equal(np.sort(part), np.arange(n))


def test_epochs_and_seeds_differ():
    stream = np.concatenate(take(make(50, 50), 2)).reshape(2, 50)
    assert not np.array_equal(stream[0], stream[1])
    assert not np.array_equal(stream[0], take(make(50, 50, seed=1), 1)[0])


def test_batches_hold_the_rows_index_and_mask():
    batch = next(make())
    np.testing.assert_array_equal(batch["x"], 100 + batch["index"])
    np.testing.assert_array_equal(batch["label"], batch["index"] % 3)
    assert batch["index"].dtype == np.int32
    assert batch["mask"].all()


@pytest.mark.parametrize("stop", [0, 1, 2, 3, 9])
def test_resumes_exactly(stop):
    whole = take(make(), 12)
    first = make()
    take(first, stop)
    second = make()
    second.set_state(first.get_state())
    np.testing.assert_array_equal(take(second, 12 - stop), whole[stop:])


def test_transforms_are_keyed_by_seed_and_position():
    def transform(key, batch):
        return {**batch, "noise": jax.random.uniform(key)}

    batches = make(transform=transform)
    drawn = [float(next(batches)["noise"]) for _ in range(3)]
    assert len(set(drawn)) == 3
    again = make(transform=transform)
    again.set_state({**again.get_state(), "batches": 2})
    assert float(next(again)["noise"]) == drawn[2]


def test_peek_does_not_move():
    batches = make()
    np.testing.assert_array_equal(batches.peek()["index"], next(batches)["index"])


def test_position_of_other_batches_is_refused():
    with pytest.raises(ValueError, match="batch_size 5, these have 4"):
        make().set_state(make(batch_size=5).get_state())


@pytest.mark.parametrize("make_batches", [data.eval_batches, data.TrainBatches])
def test_bad_datasets(make_batches):
    kwargs = {"batch_size": 2}
    if make_batches is data.TrainBatches:
        kwargs["seed"] = 0
    with pytest.raises(ValueError, match="the dataset is empty"):
        make_batches({"x": np.zeros((0, 3))}, **kwargs)
    with pytest.raises(ValueError, match="the dataset is empty"):
        make_batches({}, **kwargs)
    with pytest.raises(ValueError, match=r"different lengths: {'x': 3, 'y': 2}"):
        make_batches({"x": np.zeros(3), "y": np.zeros(2)}, **kwargs)
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        make_batches({"x": np.zeros(3)}, **{**kwargs, "batch_size": 0})


def test_labels_out_of_range_are_found_before_training():
    with pytest.raises(ValueError, match=r"label 2 at position 2 is outside \[0, 2\)"):
        make(num_classes=2)


def test_evaluation_covers_all_once_in_order():
    batches = data.eval_batches({"x": np.arange(7)}, batch_size=3)
    assert len(batches) == 3
    for _ in range(2):  # as often as you like
        seen = np.concatenate([b["x"][b["mask"]] for b in batches])
        np.testing.assert_array_equal(seen, np.arange(7))
        assert all(len(b["x"]) == 3 for b in batches)


def test_jax_arrays_will_do():
    batch = next(data.TrainBatches({"x": jnp.arange(3)}, batch_size=2, seed=0))
    assert batch["x"].shape == (2,)


@pytest.mark.parametrize("transform", [None, lambda key, batch: dict(batch)])
def test_processes_share_the_batches_of_one(transform):
    arrays = {"x": np.arange(10)}
    build = lambda **kwargs: data.TrainBatches(
        arrays, batch_size=4, seed=3, transform=transform, **kwargs
    )
    whole, parts = build(), [build(shard=(i, 2)) for i in range(2)]
    for _ in range(6):
        together = np.concatenate([next(part)["x"] for part in parts])
        np.testing.assert_array_equal(together, next(whole)["x"])
    four = [build(shard=(i, 4)) for i in range(4)]
    for part in four:  # resumed with another number of processes
        part.set_state(parts[0].get_state())
    together = np.concatenate([next(part)["x"] for part in four])
    np.testing.assert_array_equal(together, next(whole)["x"])
    with pytest.raises(ValueError, match="a batch of 4 cannot be shared by 3"):
        build(shard=(0, 3))
