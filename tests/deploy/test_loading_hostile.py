"""Whatever bytes an artefact holds, its loader raises one error, in little memory."""

import contextlib
import json
import resource
import struct
import tracemalloc

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tampering import replace_file, reseal

from jaxkd import deploy, models

INPUTS = {"image": np.ones((2, 4), np.float32)}
KINDS = {"stablehlo": deploy.export, "safetensors": deploy.export_safetensors}
NATIVE = {
    "onnx": (deploy.export_onnx, "onnxruntime", "InferenceSession"),
    "litert": (deploy.export_litert, "ai_edge_litert.interpreter", "Interpreter"),
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["F32", "batch", "stablehlo", "weights.safetensors", "I4"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner)
    ),
    max_leaves=8,
)


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / request.param
    model = models.from_linen(models.MLP(hidden=(8,), classes=3))
    variables = model.init(jax.random.key(0), INPUTS)
    KINDS[request.param](model, variables, INPUTS, folder)
    return folder


@pytest.fixture(scope="module", params=NATIVE)
def native(request, tmp_path_factory):
    """An artefact that a runtime in C++ runs, and where that runtime is called."""
    export, module, name = NATIVE[request.param]
    for needed in ("jax2onnx", "onnx") if request.param == "onnx" else ():
        pytest.importorskip(needed, reason="the extra 'onnx' is not installed")
    if request.param == "litert":
        pytest.importorskip("litert_converter", reason="the extra 'litert'")
    runtime = pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("hostile") / request.param
    model = models.from_linen(models.MLP(hidden=(8,), classes=3))
    variables = model.init(jax.random.key(0), INPUTS)
    export(model, variables, INPUTS, folder)
    return folder, runtime, name


@pytest.fixture
def original(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def restore(folder, original):
    for file in folder.iterdir():
        if file.name not in original:
            file.unlink()
    for name, content in original.items():
        (folder / name).write_bytes(content)


def safetensors(head, body=b"", length=None):
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def entry(shape, offsets, dtype="F32"):
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


HEADS = {
    "empty": b"",
    "short": b"\0" * 7,
    "length of the head": safetensors(b"{}", length=2**63),
    "length beyond the file": safetensors(b"{}", length=3),
    "no JSON": safetensors(b"\xff\xfe"),
    "a list": safetensors([1]),
    "deep": safetensors(b"[" * 100_000),
    "zip bomb": safetensors(entry([2**40], [0, 2**42])),
    "huge product": safetensors(entry([2**62, 2**62], [0, 4]), b"\0" * 4),
    "many axes": safetensors(entry([1] * 100, [0, 4]), b"\0" * 4),
    "negative offsets": safetensors(entry([1], [-4, 0])),
    "negative shape": safetensors(entry([-1], [0, 4]), b"\0" * 4),
    "backwards": safetensors(entry([1], [4, 0]), b"\0" * 4),
    "text offsets": safetensors(entry([1], ["0", "4"]), b"\0" * 4),
    "float offsets": safetensors(entry([1], [0.0, 4.0]), b"\0" * 4),
    "three offsets": safetensors(entry([1], [0, 4, 8]), b"\0" * 4),
    "unknown dtype": safetensors(entry([1], [0, 4], "F4"), b"\0" * 4),
    "a dtype that is a list": safetensors(entry([1], [0, 4], ["F32"]), b"\0" * 4),
    "bytes left over": safetensors(entry([1], [0, 4]), b"\0" * 5),
    "overlap": safetensors(
        {"a": entry([2], [0, 8])["w"], "b": entry([1], [4, 8])["w"]}, b"\0" * 8
    ),
    "no entry": safetensors({"w": None}),
    "no offsets": safetensors({"w": {"dtype": "F32", "shape": [1]}}, b"\0" * 4),
}


@pytest.mark.parametrize("case", HEADS)
def test_hostile_heads_of_weights(folder, original, case):
    try:
        replace_file(folder, "weights.safetensors", HEADS[case])
        tracemalloc.start()
        with pytest.raises(deploy.ArtefactError, match=r"weights\.safetensors is dam"):
            deploy.load(folder)
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()
        restore(folder, original)


def test_a_file_of_a_terabyte_is_not_read(folder, original):
    try:
        with (folder / "weights.safetensors").open("r+b") as stream:
            stream.truncate(2**40)  # sparse: it takes no room on the disk
        with pytest.raises(deploy.ArtefactError, match="has changed since"):
            deploy.load(folder)
        manifest = json.loads(original["manifest.json"])
        manifest["files"]["weights.safetensors"]["bytes"] = 2**40
        reseal(folder, manifest)
        with pytest.raises(deploy.ArtefactError, match="more than `max_bytes`"):
            deploy.load(folder)
    finally:
        restore(folder, original)


def attempt(folder):
    """Loads; whatever is refused is refused in one of two ways."""
    with contextlib.suppress(deploy.ArtefactError, FileNotFoundError):
        deploy.load(folder)


def damage(data, content):
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(0, len(content) - 1)))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "repeat"]))
        if kind == "flip" and content:
            content[place] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del content[place : place + data.draw(st.integers(1, 64))]
        elif kind == "insert":
            content[place:place] = data.draw(st.binary(max_size=16))
        else:
            content[place:place] = content[place : place + 32] * 2
    return bytes(content)


def run_damage(native, examples):
    """No byte reaches the runtime unless all are as they were written."""
    folder, runtime, name = native
    original = {file.name: file.read_bytes() for file in folder.iterdir()}

    @settings(max_examples=examples, deadline=None, database=None)
    @given(st.data())
    def try_one(data):
        file = data.draw(st.sampled_from(sorted(original)))
        content = damage(data, original[file])
        try:
            (folder / file).write_bytes(content)
            if content != original[file] and not same_json(content, original[file]):
                with pytest.raises(deploy.ArtefactError):
                    deploy.load(folder)
                assert called == []
        finally:
            restore(folder, original)

    called = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, name, lambda *args, **kwargs: called.append(args))
        try_one()
    deploy.load(folder)


def same_json(content, other):
    """Whether only blanks were changed, which are not part of the checksum."""
    try:
        return json.loads(content) == json.loads(other)
    except (ValueError, RecursionError):
        return False


def test_damage_never_reaches_a_native_runtime(native):
    run_damage(native, 100)


@pytest.mark.slow
def test_damage_never_reaches_a_native_runtime_for_longer(native):
    run_damage(native, 10_000)


LENGTHS = [
    *([], [4], [0, 1], [-1, 1], [1, 10**9], [1, "4"], [True], "1", 1, None, {}),
    *([1, 1.5], [[1]], list(range(1, 10_000))),
]


@pytest.mark.parametrize("native", ["litert"], indirect=True)  # others have none
@pytest.mark.parametrize("lengths", LENGTHS, ids=lambda x: str(x)[:20])
def test_hostile_entrances_of_a_native_program(native, lengths):
    folder, *_ = native
    whole = (folder / "manifest.json").read_text()
    try:
        reseal(folder, {**json.loads(whole), "lengths": lengths})
        with pytest.raises(deploy.ArtefactError, match="is no program for this LiteRT"):
            deploy.load(folder)
    finally:
        (folder / "manifest.json").write_text(whole)


SPECS = {
    "another shape": {"shape": ["batch", 5]},
    "another rank": {"shape": ["batch", 4, 1]},
    "another dtype": {"dtype": "int32"},
    "a gigabyte": {"shape": ["batch", 2**28]},
    "more than that": {"shape": ["batch", 2**40]},
    "more than memory": {"shape": ["batch", 2**62, 2**62]},
    "no batch": {"shape": [4]},
    "nothing": {"shape": []},
    "negative": {"shape": ["batch", -4]},
    "objects": {"dtype": "O"},
}


def check_spec(folder, case):
    """A shape that the program does not have is refused before anything is made."""
    whole = (folder / "manifest.json").read_text()
    manifest = json.loads(whole)
    spec = {**manifest["inputs"]["image"], **SPECS[case]}
    try:
        reseal(folder, {**manifest, "inputs": {"image": spec}})
        with pytest.raises(deploy.ArtefactError, match=r"otherwise|damaged|no prog"):
            deploy.load(folder)
    finally:
        (folder / "manifest.json").write_text(whole)


@pytest.mark.parametrize("case", SPECS)
def test_hostile_inputs_of_a_native_program(native, case):
    check_spec(native[0], case)


@pytest.mark.parametrize("folder", ["stablehlo"], indirect=True)
@pytest.mark.parametrize("case", SPECS)
def test_hostile_inputs(folder, case):
    check_spec(folder, case)


@pytest.mark.parametrize("kind", ["pickle", "", None, ["onnx"], "safetensors", "onnx "])
def test_unknown_kinds(native, kind):
    folder, *_ = native
    whole = (folder / "manifest.json").read_text()
    try:
        reseal(folder, {**json.loads(whole), "kind": kind})
        with pytest.raises(deploy.ArtefactError, match=r"version reads|damaged"):
            deploy.load(folder)
    finally:
        (folder / "manifest.json").write_text(whole)


def fuzz(folder, data, original):
    name = data.draw(st.sampled_from(sorted(original)))
    content = damage(data, original[name])
    what = data.draw(st.sampled_from(["raw", "sealed", "head", "manifest", "field"]))
    if what == "raw" or (what == "sealed" and name == "manifest.json"):
        (folder / name).write_bytes(content)  # the checksums no longer fit
    elif what == "sealed":
        replace_file(folder, name, content)
    elif what == "head":
        replace_file(folder, "weights.safetensors", safetensors(data.draw(JSON)))
    else:
        reseal(folder, foreign_manifest(data, original, whole=what == "manifest"))


def foreign_manifest(data, original, whole):
    if whole:
        return data.draw(st.dictionaries(st.text(max_size=8), JSON))
    manifest = json.loads(original["manifest.json"])
    inner = data.draw(st.sampled_from([manifest, manifest["inputs"]["image"]]))
    inner[data.draw(st.sampled_from(sorted(inner)))] = data.draw(JSON)
    return manifest


def run_fuzz(folder, original, examples):
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=checks,
    )
    @given(st.data())
    def try_one(data):
        try:
            fuzz(folder, data, original)
            attempt(folder)
        finally:
            restore(folder, original)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try_one()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 512 * 1024  # kB
    deploy.load(folder)


def test_fuzz(folder, original):
    run_fuzz(folder, original, 60)


@pytest.mark.slow
def test_fuzz_for_longer(folder, original):
    run_fuzz(folder, original, 6000)
