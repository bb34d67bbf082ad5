import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds
from made_files import pixels, write_image, write_images, write_tar
from PIL import Image

from jaxkd import cli, data


def read(folder, name, split):
    return data.tfds_arrays(name, split, data_dir=folder)


def by_pixels(image, label):
    return sorted((x.tobytes(), int(y)) for x, y in zip(image, label, strict=True))


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_images_with_splits(form, tmp_path):
    write_images(tmp_path / "x", ("train", "validation", "test"), each=4)
    source = tmp_path / "x"
    if form == "tar":
        write_tar(tmp_path / "x", tmp_path / "x.tar.gz", "x")
        source = tmp_path / "x.tar.gz"
    made = data.prepare(source, tmp_path / "tfds", name="pets")
    assert made == tmp_path / "tfds" / "pets" / "1.0.0"
    builder = tfds.builder_from_directory(str(made))
    assert set(builder.info.splits) == {"train", "validation", "test"}
    assert builder.info.features["label"].names == ["cat", "dog"]
    assert builder.info.features["image"].shape == (6, 5, 3)
    for split in builder.info.splits:
        expected = data.read_images(source, split=split, dtype=np.uint8).arrays
        found = read(tmp_path / "tfds", "pets", split)
        assert by_pixels(**found) == by_pixels(**expected)
        examples = builder.as_data_source(split=split)
        assert by_pixels(
            *zip(*((e["image"], e["label"]) for e in examples), strict=True)
        )
    stream = data.from_tfds(
        "pets", "train", batch_size=3, seed=0, data_dir=tmp_path / "tfds"
    )
    assert next(stream)["image"].shape == (3, 6, 5, 3)


def test_a_share_of_each_class_is_held_out(tmp_path):
    write_images(tmp_path / "x", classes=("cat", "dog"), each=10)
    for i in range(3):
        write_image(tmp_path / "x" / "owl" / f"{i}.png", pixels(100 + i))
    prepare = lambda name, **kwargs: data.prepare(
        tmp_path / "x", tmp_path, name=name, **kwargs
    )
    prepare("a", holdout=0.2)
    train, test = read(tmp_path, "a", "train"), read(tmp_path, "a", "test")
    assert np.bincount(test["label"]).tolist() == [2, 2, 1]
    assert np.bincount(train["label"]).tolist() == [8, 8, 2]
    whole = data.read_images(tmp_path / "x", dtype=np.uint8).arrays
    both = by_pixels(**train) + by_pixels(**test)
    assert sorted(both) == by_pixels(**whole)
    prepare("b", holdout=0.2)
    assert by_pixels(**read(tmp_path, "b", "test")) == by_pixels(**test)
    prepare("c", holdout=0.2, seed=1)
    assert by_pixels(**read(tmp_path, "c", "test")) != by_pixels(**test)


def test_images_of_many_kinds(tmp_path):
    for name in ("cat", "dog"):
        write_image(tmp_path / "x" / name / "grey.png", pixels(0, (4, 4, 1)))
        write_image(tmp_path / "x" / name / "photo.jpg", pixels(1, (8, 9, 3)))
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels(2)).save(tmp_path / "x" / name / "turned.png", exif=exif)
        Image.fromarray(pixels(3)).quantize(16).save(
            tmp_path / "x" / name / "palette.png"
        )
    made = data.prepare(tmp_path / "x", tmp_path, name="mixed", holdout=0.5)
    builder = tfds.builder_from_directory(str(made))
    assert builder.info.features["image"].shape == (None, None, 3)
    shapes = sorted(
        example["image"].shape
        for split in ("train", "test")
        for example in builder.as_data_source(split=split)
    )
    assert shapes == sorted(2 * [(4, 4, 3), (5, 6, 3), (6, 5, 3), (8, 9, 3)])
    data.prepare(tmp_path / "x", tmp_path, name="even", shape=(4, 3, 1), holdout=0.5)
    found = read(tmp_path, "even", "train")
    whole = data.read_images(tmp_path / "x", shape=(4, 3, 1), dtype=np.uint8).arrays
    both = by_pixels(**found) + by_pixels(**read(tmp_path, "even", "test"))
    assert sorted(both) == by_pixels(**whole)


@pytest.mark.parametrize("named", ["train_images", "x_train", "image"])
def test_arrays(named, tmp_path):
    images, labels = pixels(0, (12, 5, 4)), np.arange(12) % 3
    arrays = {"image": images, "label": labels}
    if named == "train_images":
        arrays = {"train_images": images[:8], "train_labels": labels[:8]}
        arrays |= {"test_images": images[8:], "test_labels": labels[8:]}
    if named == "x_train":  # as Keras has it
        arrays = {"x_train": images[:8], "y_train": labels[:8]}
        arrays |= {"x_test": images[8:], "y_test": labels[8:]}
    np.savez(tmp_path / "a.npz", **arrays)
    data.prepare(tmp_path / "a.npz", tmp_path, name="digits", holdout=0.25)
    train, test = (read(tmp_path, "digits", split) for split in ("train", "test"))
    assert train["image"].shape[1:] == (5, 4, 1)
    both = by_pixels(**train) + by_pixels(**test)
    assert sorted(both) == by_pixels(images[..., None], labels)
    assert len(test["label"]) == (3 if named == "image" else 4)


def test_arrays_of_features_and_names(tmp_path):
    x = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    names = np.array(["no", "yes"])[np.arange(10) % 2]
    np.savez(tmp_path / "a.npz", x=x, label=names, weight=np.arange(10.0))
    made = data.prepare(tmp_path / "a.npz", tmp_path, name="table", holdout=0.2)
    builder = tfds.builder_from_directory(str(made))
    assert builder.info.features["label"].names == ["no", "yes"]
    train, test = (read(tmp_path, "table", split) for split in ("train", "test"))
    for name, expected in {"x": x, "label": np.arange(10) % 2}.items():
        both = np.concatenate([train[name], test[name]])
        order = np.concatenate([train["weight"], test["weight"]]).argsort()
        np.testing.assert_array_equal(both[order], expected)


def test_labels_that_are_no_classes_are_arrays(tmp_path):
    label = np.random.default_rng(0).integers(0, 2, (10, 4))  # several at once
    np.savez(tmp_path / "a.npz", x=np.arange(10.0), label=label)
    data.prepare(tmp_path / "a.npz", tmp_path, name="many", holdout=0.3)
    train, test = (read(tmp_path, "many", split) for split in ("train", "test"))
    assert (len(train["x"]), len(test["x"])) == (7, 3)
    for part in (train, test):
        np.testing.assert_array_equal(part["label"], label[part["x"].astype(int)])


def test_what_is_wrong_is_said_before_anything_is_written(tmp_path):
    write_images(tmp_path / "x")
    out = tmp_path / "out"
    prepare = lambda source="x", **kwargs: data.prepare(
        tmp_path / source, out, **{"name": "pets", **kwargs}
    )
    with pytest.raises(ValueError, match=r"`name` must be small letters.*'My pets'"):
        prepare(name="My pets")
    with pytest.raises(ValueError, match="`holdout` must be strictly between 0 and 1"):
        prepare(holdout=1.0)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        prepare("y")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty has no files of"):
        prepare("empty")
    write_images(tmp_path / "split", ("train",))
    write_images(tmp_path / "split", ("test",), classes=("cat", "owl"))
    with pytest.raises(ValueError, match=r"'owl' is in test .*not in train.* cat, dog"):
        prepare("split")
    write_image(tmp_path / "split" / "other" / "cat" / "1.png", pixels(0))
    with pytest.raises(ValueError, match=r"other/cat/1\.png lies outside the folders"):
        prepare("split")
    (tmp_path / "x" / "cat" / "1.png").write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"cannot read cat/1\.png"):
        prepare()
    np.savez(tmp_path / "a.npz", train_x=np.zeros((2, 3)), test_x=np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"test has .*\[4\].*, but train has .*\[3\]"):
        prepare("a.npz")
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3)), label=np.array([-1, 0]))
    with pytest.raises(ValueError, match="too few examples"):
        prepare("a.npz")
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 3)), label=np.array([-1, 0, -1, 0]))
    with pytest.raises(ValueError, match="labels must be 0 or more, got -1"):
        prepare("a.npz")
    with pytest.raises(ValueError, match="`shape` is of image files"):
        prepare("a.npz", shape=(3, 3, 1))
    assert not out.exists()


def test_what_is_there_is_never_overwritten(tmp_path):
    write_images(tmp_path / "x")
    made = data.prepare(tmp_path / "x", tmp_path, name="pets")
    before = {file: file.read_bytes() for file in made.rglob("*") if file.is_file()}
    with pytest.raises(FileExistsError, match="exists already"):
        data.prepare(tmp_path / "x", tmp_path, name="pets")
    assert {f: f.read_bytes() for f in made.rglob("*") if f.is_file()} == before
    assert {file.name for file in tmp_path.iterdir()} == {"x", "pets"}


SLOW = """
import sys, time
from jaxkd.data import _prepare_images
stored = _prepare_images._stored
def slow(*args):
    print("writing", file=sys.__stdout__, flush=True)
    time.sleep(0.2)
    return stored(*args)
_prepare_images._stored = slow
from jaxkd import data
data.prepare(sys.argv[1], sys.argv[2], name="pets")
"""


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_nothing_half_written_is_taken_for_a_dataset(sign, tmp_path):
    write_images(tmp_path / "x", each=20)
    out = tmp_path / "out"
    words = [sys.executable, "-c", SLOW, str(tmp_path / "x"), str(out)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stdout.readline() == b"writing\n"
        time.sleep(0.3)
        os.kill(run.pid, sign)
        run.communicate(timeout=60)
    assert not (out / "pets").exists()
    if sign == signal.SIGINT:
        assert not list(out.iterdir())
    with pytest.raises(FileNotFoundError, match="is not prepared"):
        read(out, "pets", "train")
    data.prepare(tmp_path / "x", out, name="pets")
    assert len(read(out, "pets", "train")["label"]) == 36


def test_the_command_line(tmp_path, capsys):
    write_images(tmp_path / "x" / "My Pets")
    run = lambda *words: cli.main(["data", "prepare", *map(str, words)])
    source, out = tmp_path / "x" / "My Pets", tmp_path / "out"
    assert run(source, "--out", out, "--shape", "3,2,1", "--holdout", "0.4") == 0
    assert capsys.readouterr().out.strip() == str(out / "my_pets" / "1.0.0")
    assert read(out, "my_pets", "train")["image"].shape == (6, 3, 2, 1)
    assert run(source, "--out", out) == 1
    assert "exists already" in capsys.readouterr().err
    assert run(source, "--out", out, "--name", "a", "--shape", "3x2") == 2
    assert "--shape must be height,width,channels" in capsys.readouterr().err
    assert run(tmp_path / "nowhere", "--out", out) == 2
    assert run(source) == 2
