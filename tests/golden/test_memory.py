"""What the table cannot say: CRD's second step, RKD's other rows, layer maps."""

import json

import jax
import numpy as np
from evaluate import DIRECTORY, derived, inputs, load, value_and_gradients
from numerics_relations import BOTH, PAIR

from jaxkd import losses


def test_second_step_and_memories_of_the_original():
    case = load(DIRECTORY, "methods")["CRD"]
    with jax.enable_x64(True):
        names = derived(inputs(case, "float64"), {}, "")
        memory, batch = names["memory"], names["batch"]
        memory = losses.update_memory(memory, *batch[:3])
        again = losses.contrastive_representation(*batch, memory).mean()
        memory = jax.tree.map(np.asarray, memory)
    close = np.testing.assert_allclose
    close(np.exp(memory.log_normalizers), case["aux_Z"], rtol=1e-9)
    close(memory.student, case["aux_mem1_after"], rtol=1e-9, atol=1e-12)
    close(memory.teacher, case["aux_mem2_after"], rtol=1e-9, atol=1e-12)
    close(again, case["aux_loss_second_call"][0], rtol=1e-9)


def test_only_the_gradient_of_equal_rows_differs():
    case = load(DIRECTORY, "methods")["RKD_duplicate_rows"]
    with jax.enable_x64(True):
        loss, slopes = value_and_gradients(
            case, {}, BOTH.format(PAIR, PAIR), "1", "float64"
        )
    # The original adds 1e-12 to squared distances: equal rows are 1e-6 apart.
    np.testing.assert_allclose(loss, case["loss"], rtol=1e-7)
    slope, original = slopes["student"], case["grad_student"]
    np.testing.assert_allclose(slope[2:], original[2:], rtol=1e-5, atol=1e-7)
    assert np.abs(original[:2]).max() > 1e9
    assert np.abs(slope[:2]).max() < 1


def test_as_coded_the_channels_have_the_other_sign():
    case = load(DIRECTORY, "methods")["DISTPlus_as_coded"]
    coded = (
        "2 * losses.inter_class_relation(student_1, teacher_1).mean()"
        " + 2 * losses.intra_class_relation(student_1, teacher_1)"
        " + 1 - losses.channel_relation(student_0, teacher_0).mean()"
        " + losses.spatial_relation(student_0, teacher_0)"
    )
    with jax.enable_x64(True):
        loss, slopes = value_and_gradients(case, {}, coded, "1", "float64")
    # The original adds 1e-8 to the norms.
    np.testing.assert_allclose(loss, case["loss"], rtol=1e-7)
    for name, slope in slopes.items():
        want = case[f"grad_{name}"]
        np.testing.assert_allclose(slope, want, rtol=1e-5, atol=1e-6)


def test_layer_maps_of_the_original():
    recorded = json.loads(str(load(DIRECTORY, "llm")["layer_map"]["distil_whisper"]))
    for key, expected in recorded.items():
        student, teacher = map(int, key.split("<-"))
        assert losses.layer_maps.uniform(student, teacher) == tuple(expected.values())
