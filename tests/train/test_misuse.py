"""What a caller can do wrong: each mistake is named, in every mode."""

import chex
import jax
import numpy as np
import pytest

from jaxkd import train

MODES = {
    "jit": lambda step: train.jit_step(step, train.data_mesh(jax.devices()[:4])),
    "pmap": lambda step: train.pmap_step(step, jax.devices()[:4]),
    "shard_map": lambda step: train.shard_map_step(
        step, train.data_mesh(jax.devices()[:4])
    ),
}
modes = pytest.mark.parametrize("wrap", MODES.values(), ids=MODES)


@modes
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda b: {}, ValueError, "the batch is empty"),
        (lambda b: {k: x[:0] for k, x in b.items()}, ValueError, "the batch is empty"),
        (lambda b: {**b, "label": b["label"][:8]}, ValueError, "different lengths"),
        (lambda b: {**b, "mask": np.ones(8, bool)}, ValueError, "different lengths"),
        (
            lambda b: {**b, "rate": np.float32(1)},
            ValueError,
            r"'rate'\] has shape \(\)",
        ),
        (lambda b: {**b, "ids": [1] * 16}, TypeError, r"'ids'\] is a list"),
        (lambda b: {**b, "sub": {"x": b["image"]}}, TypeError, r"'sub'\] is a dict"),
    ],
)
def test_a_batch_that_is_none(setup, wrap, change, error, message):
    case = setup()
    with pytest.raises(error, match=message):
        wrap(case.step())(case.state(), case.variables, change(case.batch))


@modes
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(("dtype", "shape"), [(np.float32, (13, 2)), (np.int32, (13,))])
def test_masks_of_any_kind_and_typed_keys_are_padded(setup, wrap, parts, dtype, shape):
    case = setup()
    batch = {name: x[:13] for name, x in case.batch.items()}
    batch["mask"] = np.ones(shape, dtype)
    batch["mask"][5] = 0
    batch["key"] = jax.random.split(jax.random.key(0), 13)
    expected, _ = jax.jit(case.step())(case.state(), case.variables, batch)
    step = train.make_train_step(
        case.student, case.teacher, case.objective, case.tx, accumulate=parts
    )
    got, _ = wrap(step)(case.state(), case.variables, batch)
    chex.assert_trees_all_close(got.params, expected.params, atol=1e-6)


def test_stacked_batches_must_divide(setup):
    case = setup()
    scanned = train.jit_step(
        train.scan_steps(case.step()),
        train.data_mesh(jax.devices()[:4]),
        batch_axis=1,
    )
    ragged = {name: x[:13] for name, x in case.batch.items()}
    many = next(train.stacked([ragged] * 2, 2))
    with pytest.raises(ValueError, match="13 examples in each .* divide by 4 devices"):
        scanned(case.state(), case.variables, many)
    padded = next(train.stacked([train.pad_batch(ragged, 4)] * 2, 2))
    state, _ = scanned(case.state(), case.variables, padded)
    assert int(state.step) == 2
