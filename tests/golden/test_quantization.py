"""Every number of the original quantizers, or the reason why not."""

import re

import jax
import numpy as np
import pytest
from compression_cases import load
from evaluate import DIRECTORY, HERE
from quantization_table import (
    DEFECTS,
    ELSEWHERE,
    ON_THE_EDGE,
    ROWS,
    WITHOUT,
    Row,
    error_of_group8,
    places_of,
)

NAMES = [name for name in load(HERE) if isinstance(places_of(name)[0], Row)]


def test_every_case_has_one_place():
    cases = load(HERE)
    assert {name: len(places_of(name)) for name in cases} == dict.fromkeys(cases, 1)
    assert len(NAMES) == 44
    for pattern in [*(row.cases for row in ROWS), *DEFECTS, *ELSEWHERE]:
        assert any(re.fullmatch(pattern, name) for name in cases)


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_are_those_of_the_original(name):
    case = load(DIRECTORY)[name]
    (row,) = places_of(name)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        ours = row.ours(case["input"], case["meta"])
    compared = 0
    on_the_edge = edge(case, ours) if re.fullmatch(ON_THE_EDGE, name) else None
    for path, expected in case["output"].items():
        if path in WITHOUT:
            continue
        got = np.asarray(ours[path], np.float64)
        assert got.shape == expected.shape, path
        if on_the_edge is not None and got.shape == on_the_edge.shape:
            got, expected = got[~on_the_edge], expected[~on_the_edge]
        atol = row.rtol * np.abs(expected).max(initial=0.0)
        np.testing.assert_allclose(got, expected, rtol=0, atol=atol, err_msg=path)
        compared += 1
    assert compared


def edge(case, ours):
    """Where the integers may differ by one, since the quotient ends in a half."""
    x, scale = case["input"][""].astype(np.float64), case["output"]["scale"]
    for axis in (0, 1):
        scale = np.repeat(scale, x.shape[axis] // scale.shape[axis], axis)
    half = np.abs(np.abs(x / scale) % 1 - 0.5) < 1e-4
    apart = np.abs(np.asarray(ours["qvalue"], int) - case["output"]["qvalue"])
    assert apart.max() <= 1
    assert half.sum() <= 0.25 * x.size
    return half


def test_where_the_scales_of_groups_are_stale_ours_are_not():
    case = load(DIRECTORY)["qwix.gptq/int4_group8"]
    (theirs, ours), small = error_of_group8(case)
    # The first group has no weights before it, so there both must agree.
    np.testing.assert_array_equal(small.scale[0], case["output"]["scale"][:, 0])
    np.testing.assert_array_equal(
        small.integers()[:8].T, case["output"]["qvalue"][:, :8]
    )
    assert ours < 1.1 * theirs


@pytest.mark.parametrize("output", WITHOUT)
def test_what_is_not_compared_exists(output):
    assert any(output in case["output"] for case in load(HERE).values())
