import gzip
import itertools
import pathlib
import sys
import tarfile

import numpy as np
import pytest
from made_files import (
    pixels,
    png_of_size,
    write_image,
    write_images,
    write_tar,
    write_wav,
)
from PIL import Image

from jaxkd import data


@pytest.mark.parametrize("form", ["folder", "tar", "tar with a folder around"])
def test_images_by_class_and_split(form, tmp_path):
    made = write_images(tmp_path / "x", ("train", "test"), each=3)
    source = tmp_path / "x"
    (source / "train" / "README.txt").write_text("no image")
    (source / "train" / "cat" / "._0.png").write_bytes(b"what a Mac leaves in tars")
    if form != "folder":
        source = tmp_path / "x.tar.gz"
        write_tar(tmp_path / "x", source, "." if form == "tar" else "cifar")
    train = data.read_images(source, split="train", dtype=np.uint8)
    expected = [x for path, x in sorted(made.items()) if path.startswith("train")]
    np.testing.assert_array_equal(train.arrays["image"], expected)
    np.testing.assert_array_equal(train.arrays["label"], [0, 0, 0, 1, 1, 1])
    assert train.classes == ("cat", "dog")
    test = data.read_images(source, split="test", classes=train.classes)
    assert test.arrays["image"].dtype == np.float32
    expected = [x for path, x in sorted(made.items()) if path.startswith("test")]
    np.testing.assert_allclose(test.arrays["image"], np.array(expected) / 255)
    batch = next(data.TrainBatches(train.arrays, batch_size=2, seed=0))
    assert set(batch) == {"image", "label", "index", "mask"}


def test_images_are_brought_to_a_shape(tmp_path):
    write_image(tmp_path / "a" / "grey.png", pixels(0, (8, 6, 1)))
    write_image(tmp_path / "a" / "rgb.png", np.full((4, 4, 3), 100, np.uint8))
    write_image(tmp_path / "a" / "rgb.jpg", np.full((9, 3, 3), 100, np.uint8))
    with pytest.raises(ValueError, match=r"rgb.jpg has shape .*grey.png.*`shape`"):
        data.read_images(tmp_path)
    found = data.read_images(tmp_path, shape=(4, 3, 3), dtype=np.uint8).arrays["image"]
    assert found.shape == (3, 4, 3, 3)
    assert (found[0].max(-1) == found[0].min(-1)).all()  # grey
    assert (found[1:] == 100).all()
    grey = data.read_images(tmp_path, shape=(4, 3, 1), dtype=np.uint8).arrays["image"]
    np.testing.assert_array_equal(grey[0], found[0][..., :1])
    means = data.read_images(
        tmp_path,
        shape=(4, 3, 1),
        dtype=np.uint8,
        class_of=lambda path: "x" if path.stem == "grey" else None,
    ).arrays["image"]
    np.testing.assert_array_equal(means, grey[:1])


def test_photos_stand_upright(tmp_path):
    image, exif = Image.fromarray(pixels(0)), Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a" / "1.png", exif=exif)
    found = data.read_images(tmp_path, dtype=np.uint8).arrays["image"][0]
    np.testing.assert_array_equal(found, np.rot90(pixels(0), -1))


def test_what_is_wrong_with_images_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        data.read_images(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"has no files of \.png"):
        data.read_images(tmp_path)
    write_images(tmp_path / "x", ("train", "test"))
    with pytest.raises(ValueError, match=r"split 'dev', has no files"):
        data.read_images(tmp_path / "x", split="dev")
    with pytest.raises(ValueError, match=r"'dog' is none .*given; known are 'cat'"):
        data.read_images(tmp_path / "x", split="test", classes=("cat",))
    with pytest.raises(ValueError, match="`class_of` left out every file"):
        data.read_images(tmp_path / "x", class_of=lambda path: None)
    with pytest.raises(ValueError, match=r"`shape` must be .* got \(4, 4, 2\)"):
        data.read_images(tmp_path / "x", shape=(4, 4, 2))
    with pytest.raises(ValueError, match="must be float32 or uint8, got int32"):
        data.read_images(tmp_path / "x", dtype=np.int32)
    write_image(tmp_path / "flat" / "1.png", pixels(0))
    with pytest.raises(ValueError, match=r"1\.png lies in no folder of a class"):
        data.read_images(tmp_path / "flat")


@pytest.mark.parametrize("how", ["cut", "text", "empty", "large", "deep"])
def test_unreadable_images_are_named(how, tmp_path):
    write_images(tmp_path)
    bad = tmp_path / "cat" / "2.png"
    whole = bad.read_bytes()
    message = "it is no PNG or JPEG, or damaged"
    if how == "deep":
        Image.fromarray(pixels(0, (4, 4)).astype(np.uint16)).save(bad)
        message = "it has more than 8 bits a channel"
    elif how == "large":
        bad.write_bytes(png_of_size(20_000, 10_000))
        message = "it has too many pixels"
    else:
        content = {"cut": whole[: len(whole) // 2], "text": b"hello", "empty": b""}
        bad.write_bytes(content[how])
    with pytest.raises(ValueError, match=rf"cannot read cat/2\.png: {message}"):
        data.read_images(tmp_path)


def test_damaged_tars_are_named(tmp_path):
    write_images(tmp_path / "x")
    write_tar(tmp_path / "x", tmp_path / "x.tar.gz")
    whole = (tmp_path / "x.tar.gz").read_bytes()
    for content in (whole[: len(whole) // 2], b"hello"):
        (tmp_path / "x.tar.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot read .*x\.tar\.gz as a tar"):
            data.read_images(tmp_path / "x.tar.gz")


def test_tars_write_nothing(tmp_path):
    write_image(tmp_path / "1.png", pixels(0))
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "1.png", "../../evil/1.png")
    before = set(tmp_path.parent.rglob("*"))
    assert data.read_images(tmp_path / "x.tar").classes == ("evil",)
    assert set(tmp_path.parent.rglob("*")) == before


WIDTHS = {1: "u1", 2: "<i2", 3: None, 4: "<i4"}


@pytest.mark.parametrize("width", WIDTHS)
def test_recordings(width, tmp_path):
    wanted = np.array([0.0, 0.5, -1.0, -0.25], np.float32)
    whole = (wanted * 2 ** (8 * width - 1)).astype(np.int64)
    if width == 1:
        whole += 128
    raw = b"".join(
        int(x).to_bytes(width, "little", signed=width > 1) for x in whole.tolist()
    )
    write_wav(tmp_path / "long" / "1.wav", raw, width=width)
    write_wav(tmp_path / "short" / "1.wav", raw[: 2 * width], width=width)
    write_wav(tmp_path / "stereo" / "1.wav", raw, width=width, channels=2)
    found = data.read_audio(tmp_path, rate=8000)
    expected = [wanted, [0, 0.5, 0, 0], [0.25, -0.625, 0, 0]]
    np.testing.assert_array_equal(found.arrays["audio"], expected)
    assert found.arrays["audio"].dtype == np.float32
    np.testing.assert_array_equal(found.arrays["length"], [4, 2, 2])
    assert found.classes == ("long", "short", "stereo")
    cut = data.read_audio(tmp_path, rate=8000, length=3).arrays
    np.testing.assert_array_equal(cut["audio"], np.array(expected)[:, :3])
    np.testing.assert_array_equal(cut["length"], [3, 2, 2])


def test_classes_in_the_names_of_recordings(tmp_path):
    for digit, i in itertools.product("12", range(3)):
        write_wav(tmp_path / f"{digit}_theo_{i}.wav", bytes(2 * (i + 1)))
    is_test = lambda path: path.stem.endswith("_0")
    class_of = lambda path: None if is_test(path) else path.stem.split("_")[0]
    train = data.read_audio(tmp_path, rate=8000, class_of=class_of)
    assert train.classes == ("1", "2")
    np.testing.assert_array_equal(train.arrays["length"], [2, 3, 2, 3])


def test_what_is_wrong_with_recordings_is_said(tmp_path):
    write_wav(tmp_path / "a" / "1.wav", bytes(8), rate=16000)
    message = r"cannot read a/1\.wav: it has 16000 samples per second, `rate` is 8000"
    with pytest.raises(ValueError, match=message):
        data.read_audio(tmp_path, rate=8000)
    with pytest.raises(ValueError, match="`length` must be positive, got 0"):
        data.read_audio(tmp_path, rate=16000, length=0)
    whole = (tmp_path / "a" / "1.wav").read_bytes()
    for content in (b"hello", b"", whole[:-3]):
        (tmp_path / "a" / "1.wav").write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot read a/1\.wav: it "):
            data.read_audio(tmp_path, rate=16000)
    write_wav(tmp_path / "a" / "1.wav", b"", rate=16000)
    with pytest.raises(ValueError, match="ends early or is empty"):
        data.read_audio(tmp_path, rate=16000)


def test_texts_of_lines(tmp_path):
    file = tmp_path / "train"
    # \x85 is a line end to Python's splitlines, but not in these files.
    file.write_bytes("1 na\xefve\x85 joy\r\n0 dull\n\n".encode("latin-1"))
    found = data.read_text(file, encoding="latin-1")
    assert found.arrays["text"].tolist() == ["na\xefve\x85 joy", "dull"]
    assert found.arrays["label"].tolist() == [1, 0]
    assert found.classes == ("0", "1")
    with pytest.raises(ValueError, match=r"train is not utf-8.*`encoding`"):
        data.read_text(file)
    with pytest.raises(ValueError, match=r"line 1, has no '\\t'"):
        data.read_text(file, encoding="latin-1", separator="\t")
    with pytest.raises(ValueError, match="'1' is none of the classes"):
        data.read_text(file, encoding="latin-1", classes=("0",))
    file.write_text("\n")
    with pytest.raises(ValueError, match="the dataset is empty"):
        data.read_text(file)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        data.read_text(tmp_path / "test")


def test_texts_of_folders(tmp_path):
    for name in ("bad", "good"):
        (tmp_path / "x" / "train" / name).mkdir(parents=True)
        (tmp_path / "x" / "train" / name / "1.txt").write_text(f"{name}\nfilm")
    write_tar(tmp_path / "x", tmp_path / "x.tgz")
    for source in ("x", "x.tgz"):
        found = data.read_text(tmp_path / source, split="train")
        assert found.arrays["text"].tolist() == ["bad\nfilm", "good\nfilm"]
        assert found.classes == ("bad", "good")


@pytest.fixture
def tokenizer():
    tokenizers = pytest.importorskip("tokenizers", reason="needs the extra text")
    words = {"[PAD]": 7, "[CLS]": 1, "[SEP]": 2, "a": 3, "b": 4, "?": 0}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return made


def test_tokens(tokenizer, tmp_path):
    tokenizer.enable_padding(length=100, pad_id=9)  # as files of tokenizers have it
    found = data.tokenize(["a b", "a b c a", ""], tokenizer, max_length=5)
    expected = [[1, 3, 4, 2, 9], [1, 3, 4, 0, 2], [1, 2, 9, 9, 9]]
    np.testing.assert_array_equal(found["tokens"], expected)
    assert found["tokens"].dtype == np.int32
    np.testing.assert_array_equal(found["attention_mask"].sum(1), [4, 5, 2])
    assert tokenizer.padding["length"] == 100  # as it was
    tokenizer.no_padding()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    strings = np.array(["a"], object)
    found = data.tokenize(strings, tmp_path / "tokenizer.json", max_length=4)
    np.testing.assert_array_equal(found["tokens"], [[1, 3, 2, 7]])
    pairs = data.tokenize([("a", "b")], tokenizer, max_length=6)
    np.testing.assert_array_equal(pairs["tokens"], [[1, 3, 2, 4, 2, 7]])


def test_what_is_wrong_with_tokens_is_said(tokenizer, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no tokenizer"):
        data.tokenize(["a"], tmp_path / "tokenizer.json", max_length=4)
    with pytest.raises(ValueError, match="more than the 2 special tokens, got 2"):
        data.tokenize(["a"], tokenizer, max_length=2)
    with pytest.raises(ValueError, match="`texts` is empty"):
        data.tokenize([], tokenizer, max_length=4)


def idx(code, array, dtype):
    head = bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return head + array.astype(dtype).tobytes()


def test_idx(tmp_path):
    images = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    labels = np.array([3, 0, 1, 2], np.uint8)
    for part, rows in {"train": slice(0, 3), "t10k": slice(3, 4)}.items():
        stem = f"{tmp_path}/{part}"
        pathlib.Path(f"{stem}-images-idx3-ubyte").write_bytes(
            idx(8, images[rows], ">u1")
        )
        with gzip.open(f"{stem}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(idx(12, labels[rows], ">i4"))
    train = data.read_idx(tmp_path)
    np.testing.assert_array_equal(train.arrays["image"], images[:3])
    np.testing.assert_array_equal(train.arrays["label"], labels[:3])
    assert (train.arrays["image"].dtype, train.arrays["label"].dtype) == ("u1", "i4")
    test = data.read_idx(tmp_path, split="test", classes=("a", "b", "c"))
    assert test.arrays["label"].tolist() == [2]
    assert test.classes == ("a", "b", "c")
    with pytest.raises(ValueError, match=r"label 3 at position 0 is outside \[0, 3\)"):
        data.read_idx(tmp_path, classes=("a", "b", "c"))
    with pytest.raises(ValueError, match="must be 'train' or 'test', got 'valid'"):
        data.read_idx(tmp_path, split="valid")


def test_idx_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*, nor train-images.*\.gz"):
        data.read_idx(tmp_path)
    image, label = (
        tmp_path / f"train-{x}-ubyte" for x in ("images-idx3", "labels-idx1")
    )
    whole = idx(8, np.zeros((2, 2, 2)), ">u1")
    label.write_bytes(idx(8, np.zeros(3), ">u1"))
    for content in (whole[:-1], whole + b"0", whole[:7], b"\0\0\7\1", b"hello", b""):
        image.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot read .*images-idx3-ubyte: it "):
            data.read_idx(tmp_path)
    image.write_bytes(whole)
    with pytest.raises(ValueError, match=r"train: .*different lengths"):
        data.read_idx(tmp_path)
    image.unlink()
    packed = image.with_name(f"{image.name}.gz")
    for content in (gzip.compress(whole)[:-9], b"hello"):
        packed.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot read .*ubyte\.gz"):
            data.read_idx(tmp_path)


def test_npz(tmp_path):
    file = tmp_path / "a.npz"
    x, names = np.arange(6.0).reshape(3, 2), np.array(["b", "a", "b"])
    np.savez(file, train_x=x, train_y=names, number=np.arange(3), odd=np.zeros(2))
    found = data.read_npz(file, columns={"x": "train_x", "label": "train_y"})
    np.testing.assert_array_equal(found.arrays["x"], x)
    np.testing.assert_array_equal(found.arrays["label"], [1, 0, 1])
    assert found.classes == ("a", "b")
    found = data.read_npz(file, columns=["number"])
    assert list(found.arrays) == ["number"]
    assert found.classes == ()
    with pytest.raises(ValueError, match=r"different lengths.*`columns` chooses"):
        data.read_npz(file)
    with pytest.raises(KeyError, match=r"has no 'train_z'; did you mean .*'train_x'"):
        data.read_npz(file, columns=["train_z"])
    with pytest.raises(ValueError, match=r"label 2 at position 2 is outside \[0, 2\)"):
        data.read_npz(file, columns={"label": "number"}, classes=("a", "b"))
    with pytest.raises(ValueError, match="'a' is none of the classes given"):
        data.read_npz(file, columns={"label": "train_y"}, classes=("b",))


def test_npz_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        data.read_npz(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", x=np.array([{"run": "me"}]))
    with pytest.raises(ValueError, match=r"a\.npz: array 'x': Object arrays cannot be"):
        data.read_npz(tmp_path / "a.npz")
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(ValueError, match="it holds one array, not named ones"):
        data.read_npz(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", x=np.zeros(100))
    whole = (tmp_path / "a.npz").read_bytes()
    for content in (whole[:200], b"hello", b""):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot read .*a\.npz"):
            data.read_npz(tmp_path / "a.npz")


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
    from pyarrow import parquet

    file = tmp_path / "a.parquet"
    columns = {
        "age": [3, 4, 5],
        "tall": [True, False, True],
        "text": ["x", "longer", ""],
        "kind": pyarrow.array(["b", "a", "b"]).dictionary_encode(),
        "pair": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]],
        "ragged": [[1.0], [3.0, 4.0], []],
        "gaps": [1, None, 3],
        "record": [{"a": 1}, {"a": 2}, {"a": 3}],
    }
    parquet.write_table(pyarrow.table(columns), file)
    chosen = {x: x for x in ("age", "tall", "text", "pair")}
    found = data.read_parquet(file, columns={**chosen, "label": "kind"})
    assert found.classes == ("a", "b")
    np.testing.assert_array_equal(found.arrays["label"], [1, 0, 1])
    for name in chosen:
        np.testing.assert_array_equal(found.arrays[name], columns[name])
    kinds = {name: found.arrays[name].dtype.kind for name in chosen}
    assert kinds == {"age": "i", "tall": "b", "text": "O", "pair": "f"}
    with pytest.raises(ValueError, match=r"'gaps' has 1 gaps"):
        data.read_parquet(file, columns=["gaps"])
    with pytest.raises(KeyError, match="did you mean 'age'"):
        data.read_parquet(file, columns=["agee"])
    for name in ("ragged", "record"):
        with pytest.raises(ValueError, match=rf"column '{name}', of \w+<"):
            data.read_parquet(file, columns=[name])
    file.write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"cannot read .*a\.parquet"):
        data.read_parquet(file)


@pytest.mark.parametrize(
    ("module", "read", "extra"),
    [
        ("PIL.Image", lambda x: data.read_images(x), "data"),
        ("pyarrow", lambda x: data.read_parquet(x / "cat" / "0.png"), "parquet"),
        ("tokenizers", lambda x: data.tokenize(["a"], x, max_length=3), "text"),
    ],
)
def test_missing_extras_are_named(module, read, extra, tmp_path, monkeypatch):
    write_images(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=rf"-e '\.\[{extra}\]'"):
        read(tmp_path)
