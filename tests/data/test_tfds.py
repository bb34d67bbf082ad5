import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from jaxkd import data


class Tiny(tfds.core.GeneratorBasedBuilder):
    """Twelve examples, made here."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                "label": tfds.features.ClassLabel(num_classes=3),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(12):
            yield i, {"image": np.full(4, i, np.float32), "label": i % 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    Tiny(data_dir=str(folder), file_format="array_record").download_and_prepare()
    return folder


def batches(folder, split="train", batch_size=5):
    return data.from_tfds("tiny", split, batch_size=batch_size, seed=0, data_dir=folder)


def test_a_builder_of_ones_own(folder):
    stream = batches(folder)
    seen = [next(stream) for _ in range(12)]
    for batch in seen:
        assert set(batch) == {"image", "label", "index", "mask"}
        assert batch["image"].shape == (5, 4)
        assert batch["mask"].all()
        np.testing.assert_array_equal(batch["label"], batch["image"][:, 0] % 3)
    index = np.concatenate([batch["index"] for batch in seen])[:60]
    np.testing.assert_array_equal(np.bincount(index), np.full(12, 5))  # 5 epochs


def test_index_is_the_place_in_the_split(folder):
    arrays = data.tfds_arrays("tiny", "train", data_dir=folder)
    assert sorted(arrays["image"][:, 0]) == list(range(12))
    batch = next(batches(folder))
    np.testing.assert_array_equal(batch["image"], arrays["image"][batch["index"]])


def test_resumes_exactly(folder):
    stream = batches(folder)
    for _ in range(3):
        next(stream)
    state = stream.get_state()
    expected = [next(stream)["index"] for _ in range(4)]
    other = batches(folder)
    other.set_state(state)
    np.testing.assert_array_equal([next(other)["index"] for _ in range(4)], expected)


def test_slices_of_splits(folder):
    assert len(data.tfds_arrays("tiny", "train[:50%]", data_dir=folder)["label"]) == 6


def test_official_builders_with_mocked_data():
    with tfds.testing.mock_data(num_examples=8):
        stream = data.from_tfds("mnist", "train", batch_size=4, seed=0)
        batch = next(stream)
    assert batch["image"].shape == (4, 28, 28, 1)
    assert batch["label"].shape == (4,)


def test_what_is_not_prepared_is_not_downloaded(tmp_path):
    for name in ("mnist", "no_such_data"):
        with pytest.raises(FileNotFoundError, match=rf"{name} is not .* never down"):
            data.from_tfds(name, "train", batch_size=4, seed=0, data_dir=tmp_path)
        with pytest.raises(FileNotFoundError, match=rf"tfds\.builder\('{name}'"):
            data.tfds_arrays(name, "train", data_dir=tmp_path)


def test_unknown_split_and_too_large_a_batch(folder):
    with pytest.raises(ValueError, match=r"split 'test' of tiny.*\['train'\]"):
        batches(folder, split="test")
    with pytest.raises(ValueError, match="more than the 12 examples"):
        batches(folder, batch_size=13)


CODE = """
import sys
from jaxkd import data
batches = data.from_tfds("tiny", "train", batch_size=2, seed=0, data_dir=sys.argv[1])
next(batches)
assert "tensorflow" not in sys.modules
"""


def test_tensorflow_is_never_imported(folder):
    subprocess.run([sys.executable, "-c", CODE, str(folder)], check=True, timeout=120)
