"""Codings and files: back to the same bits, true sizes, and hostile input."""

import hashlib
import json
import os
import struct
import tracemalloc

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from jax import numpy as jnp

from jaxkd import compress
from jaxkd.compress import _coding, _huffman

PREFIX = struct.Struct("<4sHI32s")


def same(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert a.tobytes() == b.tobytes()


def make_tree():
    k = jax.random.split(jax.random.key(0), 3)
    kernel = jax.random.normal(k[0], (40, 20))
    sparse = compress.magnitude_prune({"kernel": kernel}, 0.9)[0]["kernel"]
    return {
        "dense": {"kernel": kernel, "bias": jnp.zeros(20)},
        "sparse": sparse,
        "int8": compress.quantize({"kernel": kernel})["kernel"],
        "int4": compress.quantize({"kernel": kernel}, format=compress.INT4, tile=8),
        "affine": compress.quantize({"kernel": kernel}, format=compress.AFFINE4),
        "normal": compress.quantize({"kernel": kernel}, format=compress.NF4),
        "palette": compress.cluster({"kernel": sparse}),
        "list": [jnp.arange(3), jnp.float32(2.5), jnp.array([True, False])],
        "half": kernel.astype(jnp.bfloat16),
        "empty": jnp.zeros((0, 4)),
    }


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from(["float32", "int8", "uint8", "float64", "int32", "bool"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=40),
        fill=st.just(0),
    )
)
def test_any_array_comes_back_to_the_bit(array):
    same(_coding.decode(_coding.encode(array)), array)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6000),
    st.floats(0, 1),
    st.integers(1, 300),
    st.integers(0, 2**32 - 1),
)
def test_any_sparsity_and_number_of_values(size, density, values, seed):
    rng = np.random.default_rng(seed)
    array = rng.normal(size=values)[rng.zipf(1.5, size) % values].astype(np.float32)
    array[rng.random(size) > density] = 0
    coded = _coding.encode(array)
    same(_coding.decode(coded), array)
    assert coded.num_bytes <= array.nbytes


def test_strange_floats_come_back_to_the_bit():
    nan = np.array([0x7FC00001, 0xFFC12345, 0x80000000, 0x7F800000, 1], np.uint32)
    same(_coding.decode(_coding.encode(nan.view(np.float32))), nan.view(np.float32))


@pytest.mark.parametrize("size", [0, 1, 2, 2047, 2048, 2049, 10_000])
def test_huffman_is_within_one_bit_of_the_entropy(size):
    symbols = np.random.default_rng(0).geometric(0.3, size) - 1
    data = _huffman.encode(symbols)
    np.testing.assert_array_equal(_huffman.decode(data), symbols)
    if size == 10_000:
        p = np.bincount(symbols) / size
        p = p[p > 0]
        entropy = -(p * np.log2(p)).sum()
        assert 8 * len(data) / size < entropy + 0.1


def test_words_of_a_steep_code_are_cut_to_15_bits():
    counts = np.round(1.6 ** np.arange(30)).astype(int)
    symbols = np.repeat(np.arange(30), np.minimum(counts, 300_000))
    lengths = _huffman._word_lengths(np.bincount(symbols))
    assert lengths.max() == 15
    assert (2.0 ** -lengths.astype(float)).sum() == 1
    np.testing.assert_array_equal(_huffman.decode(_huffman.encode(symbols)), symbols)


def choice(array):
    head = _coding.encode(np.asarray(array, np.float32)).head
    return head["positions"], head["values"]


def test_the_smallest_coding_is_chosen():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=10_000)
    few = rng.normal(size=16)
    even, skewed = rng.integers(0, 16, 10_000), rng.geometric(0.5, 10_000) % 16
    half, tenth, rare = (rng.random(10_000) < p for p in (0.5, 0.1, 0.02))
    assert choice(normal) == ("all", "raw")
    assert choice(np.where(half, normal, 0)) == ("mask", "raw")
    assert choice(np.where(rare, normal, 0)) == ("gaps", "raw")
    assert choice(few[even]) == ("all", "packed")
    assert choice(few[skewed]) == ("all", "huffman")
    assert choice(np.where(half, few[even], 0)) == ("mask", "packed")
    assert choice(np.where(tenth, few[skewed], 0)) == ("gaps", "huffman")


def test_a_tree_comes_back_to_the_bit(tmp_path):
    tree, file = make_tree(), tmp_path / "params.jkd"
    saved = compress.save_tree(tree, file)
    assert saved.num_bytes == os.path.getsize(file)
    assert os.listdir(tmp_path) == ["params.jkd"]
    back = compress.load_tree(file, like=tree)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    jax.tree.map(same, back, tree)
    nested = compress.load_tree(file)
    same(nested["list"]["1"], tree["list"][1])
    assert nested["int4"]["kernel"].format == compress.INT4
    same(
        compress.dequantize(nested["palette"])["kernel"],
        compress.dequantize(tree["palette"])["kernel"],
    )


def test_doubles_stay_doubles(tmp_path):
    tree = {"x": np.array([1 / 3, 2.0]), "n": np.array([2**40])}
    compress.save_tree(tree, tmp_path / "f")
    jax.tree.map(same, compress.load_tree(tmp_path / "f"), tree)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_typed_keys_come_back(tmp_path, impl):
    keys = jax.random.split(jax.random.key(3, impl=impl), 4)
    tree, file = {"one": keys[0], "many": keys}, tmp_path / "f"
    compress.save_tree(tree, file)
    for back in (compress.load_tree(file), compress.load_tree(file, like=tree)):
        assert back["many"].dtype == keys.dtype
        assert (back["many"] == keys).all()
        assert jax.random.normal(back["one"]) == jax.random.normal(keys[0])
    words = jax.random.key_data(keys[0])
    with pytest.raises(ValueError, match="'one' in the file is not as"):
        compress.load_tree(file, like={"one": words, "many": keys})


def test_pruned_and_clustered_weights_make_small_files(tmp_path):
    params = {"kernel": jax.random.normal(jax.random.key(0), (300, 300))}
    dense = compress.save_tree(params, tmp_path / "dense").num_bytes
    pruned, _ = compress.magnitude_prune(params, 0.9)
    sparse = compress.save_tree(pruned, tmp_path / "sparse").num_bytes
    small = compress.cluster(pruned, bits=4)
    clustered = compress.save_tree(small, tmp_path / "clustered").num_bytes
    restored = compress.dequantize(small)
    assert compress.save_tree(restored, tmp_path / "plain").num_bytes < 1.1 * clustered
    assert 360_000 < dense < 361_000
    assert sparse < dense / 7.5
    assert clustered < dense / 30


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "params.jkd"
    compress.save_tree({"a": jnp.ones(3)}, file)
    before = file.read_bytes()
    with pytest.raises(TypeError, match=r"'a': .* cannot be stored"):
        compress.save_tree({"a": np.array(["word"])}, file)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["params.jkd"]
    with pytest.raises(FileNotFoundError):
        compress.load_tree(tmp_path / "none")


@pytest.mark.parametrize(
    ("like", "words"),
    [
        ({"a": jnp.ones(3), "c": jnp.ones(3)}, "the (file|tree of `like`) has no"),
        ({"a": jnp.ones(3), "b": jnp.ones((1, 3))}, "'b' in the file is not as"),
        ({"a": jnp.ones(3), "b": jnp.ones(3, jnp.int32)}, "'b' in the file is not as"),
    ],
)
def test_another_tree_is_refused(tmp_path, like, words):
    compress.save_tree({"a": jnp.ones(3), "b": jnp.ones(3)}, tmp_path / "f")
    with pytest.raises(ValueError, match=words):
        compress.load_tree(tmp_path / "f", like=like)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    file = tmp_path_factory.mktemp("saver") / "params.jkd"
    compress.save_tree(make_tree(), file)
    return file


def load_bytes(written, data, **more):
    file = written.with_name("other.jkd")
    file.write_bytes(data)
    return compress.load_tree(file, **more)


def test_every_cut_and_many_flips_are_refused(written):
    data = written.read_bytes()
    for cut in [*range(60), *range(60, len(data), 997)]:
        with pytest.raises(compress.CodingError):
            load_bytes(written, data[:cut])
    for place in range(0, len(data), 499):
        flipped = bytearray(data)
        flipped[place] ^= 0x10
        with pytest.raises(compress.CodingError):
            load_bytes(written, bytes(flipped))
    with pytest.raises(compress.CodingError):
        load_bytes(written, data + b"\0")


def test_a_newer_version_is_named(written):
    data = bytearray(written.read_bytes())
    data[4] = 9
    with pytest.raises(compress.CodingError, match="version 9; this reads 1"):
        load_bytes(written, bytes(data))


def signed(head, payload):
    """A file whose checksum is right, whatever it says."""
    head = head if isinstance(head, bytes) else json.dumps(head).encode()
    digest = hashlib.sha256(head + payload).digest()
    return PREFIX.pack(b"JKDT", 1, len(head), digest) + head + payload


def parts(written):
    data = written.read_bytes()
    length = PREFIX.unpack_from(data)[2]
    start = PREFIX.size + length
    return json.loads(data[PREFIX.size : start]), data[start:]


def entry(**fields):
    head = {"dtype": "float32", "shape": [1], "positions": "all", "values": "raw"}
    head |= {"lengths": [0, 0, 4]} | fields
    return {"leaves": [{"path": ["a"], "record": [], "arrays": {"array": head}}]}


@pytest.mark.parametrize(
    "fields",
    [
        {"shape": [2**40]},
        {"shape": [2**31, 2**31]},
        {"shape": [-1]},
        {"shape": [1.5]},
        {"shape": ["1"]},
        {"shape": [0, 2**60]},
        {"shape": [1] * 40},
        {"dtype": "object"},
        {"dtype": "O"},
        {"dtype": ["float32"]},
        {"positions": "eval"},
        {"positions": {}},
        {"values": "huffman"},
        {"values": "packed"},
        {"positions": "gaps"},
        {"lengths": [0, 0, 10**12]},
        {"lengths": [0, 0, 2**63]},
        {"lengths": [4]},
        {"more": 1},
    ],
    ids=str,
)
def test_hostile_heads_are_refused_before_memory_is_taken(written, fields):
    tracemalloc.start()
    try:
        with pytest.raises(compress.CodingError):
            load_bytes(written, signed(entry(**fields), b"\0\0\0\0"))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "head",
    [
        *(b"", b"{", b"[]", b"[" * 100_000, b"\xff"),
        *(b'{"leaves": 3}', b'{"leaves": [3]}', b'{"leaves": [{"arrays": []}]}'),
        b'{"leaves": [{"arrays": {"a": null}}]}',
    ],
    ids=lambda h: str(h[:12]),
)
def test_heads_that_are_no_json_of_ours_are_refused(written, head):
    with pytest.raises(compress.CodingError):
        load_bytes(written, signed(head, b""))


def test_a_bomb_is_refused(written):
    packed = {"values": "packed", "lengths": [0, 4, 0], "shape": [256 * 5]}
    small = load_bytes(written, signed(entry(**packed), b"\0\0\0\0"))
    assert small["a"].shape == (1280,)  # the most that 4 bytes may stand for
    bomb = signed(entry(**packed | {"shape": [256 * 5 + 1]}), b"\0\0\0\0")
    with pytest.raises(compress.CodingError, match="cannot come from 4 bytes"):
        load_bytes(written, bomb)
    with pytest.raises(compress.CodingError, match="more than `max_bytes`"):
        load_bytes(written, written.read_bytes(), max_bytes=1000)


def leaves(value):
    """Every place in a JSON value."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from leaves(value[key])


WORDS = ["float64", "raw", "huffman", "gaps", "mask", "palette", [], {}, ""]
NUMBERS = st.integers(-3, 300) | st.integers() | st.floats()
STRANGE = NUMBERS | st.none() | st.booleans() | st.sampled_from(WORDS)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_fuzzed_files_load_or_are_refused(written, data):
    head, payload = parts(written)
    payload = bytearray(payload)
    for _ in range(data.draw(st.integers(0, 3))):
        places = list(leaves(head))
        node, key = places[data.draw(st.integers(0, len(places) - 1))]
        node[key] = data.draw(STRANGE)
    for _ in range(data.draw(st.integers(0, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(
            st.integers(1, 255)
        )
    tracemalloc.start()
    try:
        load_bytes(written, signed(head, bytes(payload)), max_bytes=2**22)
    except compress.CodingError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 2**26
