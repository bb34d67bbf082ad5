"""Interchange with qwix; skipped where it is not installed (the extra `qwix`)."""

import sys

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import compress

FORMATS = [
    compress.INT8,
    compress.INT4,
    compress.INT2,
    compress.AFFINE8,
    compress.AFFINE4,
    compress.NF4,
    compress.Format(3, -4, 3, 3.5),
]


@pytest.fixture(autouse=True)
def free_maths():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def make():
    return jax.random.normal(jax.random.key(0), (16, 6))


@pytest.mark.parametrize("format", FORMATS, ids=str)
@pytest.mark.parametrize(("axis", "tile"), [(-1, None), ((), None), (-1, 4), (0, 3)])
def test_there_and_back(format, axis, tile):
    qwix = pytest.importorskip("qwix")
    small = compress.quantize_array(make(), compress.Scheme(format, axis, tile))
    array = compress.to_qwix(small)
    np.testing.assert_allclose(
        qwix.dequantize(array), compress.dequantize(small), rtol=1e-6, atol=1e-7
    )
    back = compress.from_qwix(array)
    assert (back.axis, back.tile, back.shape) == (small.axis, tile, small.shape)
    np.testing.assert_array_equal(back.integers(), small.integers())
    np.testing.assert_array_equal(compress.dequantize(back), compress.dequantize(small))


@pytest.mark.parametrize("qtype", [jnp.int8, jnp.int4, "int3", "nf4"])
def test_what_qwix_quantizes_is_understood(qtype):
    qwix = pytest.importorskip("qwix")
    array = qwix.quantize(make(), qtype, channelwise_axes=(1,), tiled_axes={0: 4})
    small = compress.from_qwix(array)
    np.testing.assert_array_equal(compress.dequantize(small), qwix.dequantize(array))


def test_what_has_no_counterpart_is_refused():
    qwix = pytest.importorskip("qwix")
    small = compress.quantize_array(make(), compress.Scheme(compress.BINARY))
    with pytest.raises(ValueError, match="qwix has no format"):
        compress.to_qwix(small)
    with pytest.raises(ValueError, match="float8_e4m3fn has no format here"):
        compress.from_qwix(qwix.quantize(make(), jnp.float8_e4m3fn))
    tiled = qwix.quantize(make(), jnp.int8, tiled_axes={0: 4, 1: 3})
    with pytest.raises(ValueError, match="not the last besides the channels"):
        compress.from_qwix(tiled)


def test_without_qwix_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "qwix", None)
    small = compress.quantize_array(make(), compress.Scheme())
    with pytest.raises(ModuleNotFoundError, match=r"-e '\.\[qwix\]'"):
        compress.to_qwix(small)
