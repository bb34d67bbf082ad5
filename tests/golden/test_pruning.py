"""Every number of the original pruning implementations, or the reason why not."""

import re

import jax
import numpy as np
import pytest
from compression_cases import load
from evaluate import DIRECTORY, HERE
from pruning_table import ELSEWHERE, ROWS, WITHOUT, Row, row_of

NAMES = [name for name in load(HERE) if isinstance(row_of(name)[0], Row)]


def test_every_case_has_one_place():
    cases = load(HERE)
    assert {name: len(row_of(name)) for name in cases} == dict.fromkeys(cases, 1)
    assert len(NAMES) > 85
    for pattern in [*(row.cases for row in ROWS), *ELSEWHERE]:
        assert any(re.fullmatch(pattern, name) for name in cases)


@pytest.mark.parametrize("name", NAMES)
def test_the_numbers_are_those_of_the_original(name):
    case = load(DIRECTORY)[name]
    (row,) = row_of(name)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        ours = row.ours(case["input"], case["meta"])
    compared = 0
    for path, expected in case["output"].items():
        if path in WITHOUT:
            continue
        got = np.asarray(ours[path])
        assert got.shape == expected.shape, path
        scale = np.abs(expected).max(initial=0.0)
        atol = row.rtol * max(scale, 1e-3)
        np.testing.assert_allclose(got, expected, rtol=0, atol=atol, err_msg=path)
        compared += 1
    assert compared


@pytest.mark.parametrize("output", WITHOUT)
def test_what_is_not_compared_exists(output):
    assert any(output in case["output"] for case in load(HERE).values())
