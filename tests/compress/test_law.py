"""Smaller equals zeroed, for every family of models in every library."""

import jax
import numpy as np
import pytest
from structures_families import FAMILIES, family
from structures_libraries import HEAD, LIBRARIES
from structures_plain import find

from jaxkd import compress


@pytest.fixture(autouse=True)
def lenient():  # the models of others promote freely
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def halves(name, groups):
    """Half of each group of which the removal is exact."""
    # Attention divides by the root of a head's width.
    free = [g for g in groups if g.exact and not (g.size == HEAD and "coder" in name)]
    return {group.name: group.size // 2 for group in free}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", FAMILIES)
def test_half_of_the_units_gone_equals_half_of_them_zeroed(name, library):
    case = family(name, library)
    groups = find(case)
    units = halves(name, groups)
    widths = set(FAMILIES[name][2].values())
    assert {groups[k].size for k in units} >= widths - (
        {4} if name == "decoder" else set()
    )
    smaller, report = compress.shrink(
        case.variables,
        groups,
        compress.random_importance(groups, jax.random.key(1)),
        target=units,
        rebuild=case.rebuild,
    )
    assert report.inexact == ()
    zeroed = compress.zero_units(case.variables, groups, report.kept)
    apply = jax.jit(case.apply)
    expected = apply(zeroed, *case.inputs)
    scale = np.abs(expected).max()
    assert scale > 0.1
    dense = apply(case.variables, *case.inputs)
    assert np.abs(dense - expected).max() > 1e-3 * scale  # something was removed
    got = jax.jit(report.apply)(smaller, *case.inputs)
    np.testing.assert_allclose(got / scale, expected / scale, atol=1e-5)
    for group in units:
        assert report.kept[group].sum() == units[group] == groups[group].size // 2
