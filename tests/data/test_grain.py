import jax
import numpy as np
import pytest
from made_files import write_images

from jaxkd import data
from jaxkd.data import augment


class Source:
    """Ten images that say which were read."""

    def __init__(self, n=10):
        rng = np.random.default_rng(0)
        self.images = rng.uniform(size=(n, 4, 4, 1)).astype(np.float32)
        self.read = []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, place):
        self.read.append(place)
        return {"image": self.images[place], "label": place % 3}


VIEW = augment.compose(augment.flip(), augment.mixup(alpha=1.0))


def in_memory(source, **kwargs):
    arrays = {"image": source.images, "label": np.arange(len(source)) % 3}
    return data.TrainBatches(arrays, batch_size=4, seed=3, **kwargs)


def streamed(source, **kwargs):
    return data.grain_batches(source, batch_size=4, seed=3, **kwargs)


def assert_same(one, other):
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("transform", [None, VIEW])
def test_batches_are_those_of_arrays(transform):
    source = Source()
    expected = in_memory(source, transform=transform)
    batches = streamed(source, transform=transform)
    for _ in range(8):  # 3 epochs
        assert_same(batches.peek(), expected.peek())
        assert_same(next(batches), next(expected))
    assert batches.get_state() == expected.get_state()


@pytest.mark.parametrize("transform", [None, VIEW])
def test_processes_share_them_and_resume_as_others(transform):
    source = Source()
    whole = streamed(source, transform=transform)
    two = [streamed(source, transform=transform, shard=(i, 2)) for i in range(2)]
    four = [streamed(source, transform=transform, shard=(i, 4)) for i in range(4)]

    def check(parts):
        expected = next(whole)
        found = [next(part) for part in parts]
        for name in expected:
            together = np.concatenate([part[name] for part in found])
            np.testing.assert_array_equal(together, expected[name])

    for _ in range(3):
        check(two)
    for part in four:
        part.set_state(two[0].get_state())
    for _ in range(4):
        check(four)
    again = in_memory(source, transform=transform)
    again.set_state(four[0].get_state())
    assert_same(next(again), next(whole))


def test_a_process_reads_its_own_examples():
    source = Source(n=16)
    parts = [streamed(source, shard=(i, 2)) for i in range(2)]
    own = [part.peek()["index"].tolist() for part in parts]
    assert source.read == own[0] + own[1]
    assert not set(own[0]) & set(own[1])


def test_reading_ahead_is_bounded():
    source = Source(n=1000)
    batches = streamed(source)
    next(batches)
    assert len(source.read) <= 4 * 12


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="the dataset is empty"):
        streamed([])
    with pytest.raises(ValueError, match="`batch_size` must be at least 1"):
        data.grain_batches(Source(), batch_size=0, seed=0)
    with pytest.raises(ValueError, match="a batch of 4 cannot be shared by 3"):
        streamed(Source(), shard=(0, 3))
    with pytest.raises(ValueError, match="of batches with seed 3, these have 4"):
        data.grain_batches(Source(), batch_size=4, seed=4).set_state(
            streamed(Source()).get_state()
        )
    ragged = [{"x": np.zeros(1 + i % 2)} for i in range(8)]
    with pytest.raises(ValueError, match=r"'x' of different shapes: \[\(1,\), \(2,\)"):
        next(data.grain_batches(ragged, batch_size=8, seed=0))


def test_prepared_datasets_are_sources(tmp_path):
    write_images(tmp_path / "x")
    data.prepare(tmp_path / "x", tmp_path, name="pets", holdout=0.2)
    source = data.tfds_source("pets", "train", data_dir=tmp_path)
    arrays = data.tfds_arrays("pets", "train", data_dir=tmp_path)
    view = augment.compose(augment.to_float(), augment.pad_crop(padding=1))
    kwargs = {"batch_size": 3, "seed": 0, "transform": view}
    streams = data.grain_batches(source, **kwargs), data.TrainBatches(arrays, **kwargs)
    for _ in range(4):
        assert_same(*map(next, streams))
    assert jax.numpy.asarray(next(streams[0])["image"]).max() <= 1
