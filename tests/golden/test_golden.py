"""Every number of the original implementations, or the reason why not.

The values are read from `JAXKD_GOLDEN_DIR` when it is set; nothing here knows them.
"""

import jax
import numpy as np
import pytest
from evaluate import DIRECTORY, HERE, load, value_and_gradients
from numerics_page import PAGE, render
from numerics_table import DEFECTS, FILES

ROWS = [
    pytest.param(file, case, row, id=case)
    for file, (rows, _) in FILES.items()
    for row in rows
    for case in row.cases
]


@pytest.mark.parametrize("file", FILES)
def test_no_case_is_silently_skipped(file):
    rows, elsewhere = FILES[file]
    reproduced = [case for row in rows for case in row.cases]
    defects = [d.case for d in DEFECTS if d.case in load(HERE, file)]
    named = [*reproduced, *defects, *elsewhere]
    assert len(named) == len(set(named))
    assert set(named) == set(load(HERE, file))
    assert set(load(DIRECTORY, file)) <= set(named)


@pytest.mark.parametrize(("file", "name", "row"), ROWS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_loss_and_gradient_are_those_of_the_original(file, name, row, dtype):
    case = load(DIRECTORY, file)[name]
    double = dtype == "float64"
    with jax.enable_x64(double):
        loss, gradients = value_and_gradients(
            case, row.cases[name], row.call, row.factor, dtype
        )
    suffix = "_f64" if double else "_f32"
    expected = case.get(f"loss{suffix}", case["loss"])
    rtol = (row.rtol or 1e-9) if ran_in_double(case) and double else 1e-5
    np.testing.assert_allclose(loss, expected, rtol=rtol, atol=rtol * 1e-2)
    for leaf, gradient in gradients.items():
        want = expected_gradient(case, leaf, double)
        scale = np.abs(want).max(initial=0.0)
        if leaf == "global_T" and not double:
            rtol = 1e-3  # in float32, on both sides: a hundredth of the terms it sums
        np.testing.assert_allclose(gradient, want, rtol=rtol, atol=rtol * scale)


def ran_in_double(case):
    """Not where the original casts to float32 inside, whatever it stores."""
    loss = case.get("loss_f64", case["loss"])
    name = min(name for name in case if name.startswith("grad_student"))
    gradient = case.get("grad_student_f64", case[name])
    return loss.dtype == gradient.dtype == np.float64


def expected_gradient(case, leaf, double):
    name = f"grad_{leaf}" if f"grad_{leaf}" in case else f"aux_grad_{leaf}"
    return case.get(f"{name}_f64", case[name]) if double else case[name]


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: d.case)
def test_where_the_original_errs_jaxkd_has_a_right_value(defect):
    (case,) = (load(DIRECTORY, f)[defect.case] for f in FILES if has(f, defect.case))
    with jax.enable_x64(True):
        loss, gradients = value_and_gradients(
            case, defect.params, defect.right, "1", "float64"
        )
    assert loss > 0
    assert np.isfinite(loss)
    assert all(np.isfinite(g).all() for g in gradients.values())
    original = case.get("loss_f64", case["loss"])
    other_slopes = (
        not np.allclose(gradient, expected_gradient(case, leaf, True), rtol=1e-3)
        for leaf, gradient in gradients.items()
    )
    assert not np.isclose(loss, original, rtol=1e-3) or any(other_slopes)


def has(file, case):
    return case in load(DIRECTORY, file)


def test_where_the_original_is_nan_the_other_rows_agree():
    case = load(DIRECTORY, "methods")["DKD_extreme"]
    (defect,) = (d for d in DEFECTS if d.case == "DKD_extreme")
    with jax.enable_x64(True):
        _, gradients = value_and_gradients(
            case, defect.params, defect.right, "1", "float64"
        )
    rows = np.isfinite(case["grad_student"]).all(axis=1)
    assert rows.sum() == len(rows) - 1
    np.testing.assert_allclose(
        gradients["student"][rows], case["grad_student"][rows], rtol=1e-9, atol=1e-11
    )


def test_the_published_page_is_this_table():
    assert PAGE.read_text() == render(), "run python tests/golden/numerics_page.py"
