"""Contrast: what the memories hold, and the losses by loops."""

import collections

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from jaxkd import losses

SIZE, CHANNELS, DEVICES = 20, 4, 4


def normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def close(a, b, rtol=2e-5, atol=1e-6):
    np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.fixture
def memory():
    return losses.contrast_memory(jax.random.key(0), size=SIZE, channels=CHANNELS)


@pytest.fixture
def batch():
    index = jnp.array([3, 0, 19, 7, 4, 5, 6, 12])
    negatives = losses.uniform_negatives(jax.random.key(1), index, size=SIZE, number=5)
    return normal(2, 8, CHANNELS), normal(3, 8, CHANNELS), index, negatives


def shards(tree):
    return jax.tree.map(lambda x: x.reshape(DEVICES, -1, *x.shape[1:]), tree)


def over_devices(fn, where, arguments):
    """The function of memory, mask and batch on each device; the results agree."""
    mapped = jax.vmap(lambda w, a: fn(w, *a), axis_name="i")
    results = mapped(shards(where), shards(arguments))
    jax.tree.map(lambda x: close(x[1:], jnp.stack([x[0]] * 3), rtol=0, atol=0), results)
    return jax.tree.map(lambda x: x[0], results)


def test_no_negative_is_the_example_itself():
    index = jnp.arange(5)
    drawn = losses.uniform_negatives(jax.random.key(0), index, size=5, number=400)
    assert not jnp.any(drawn == index[:, None])
    counts = np.bincount(np.asarray(drawn).ravel(), minlength=5)
    close(counts / 400, np.ones(5), rtol=0.15)
    with pytest.raises(ValueError, match="size - 1"):
        losses.uniform_negatives(jax.random.key(0), index, size=1, number=2)


def test_contrast_by_loops(memory, batch):
    memory = losses.calibrate_memory(memory, *batch)
    expected = []
    z_student, z_teacher = np.exp(memory.log_normalizers)
    for s, t, i, others in zip(*map(np.asarray, batch), strict=True):
        total = 0.0
        for x, held, z in (
            (s, memory.teacher, z_student),
            (t, memory.student, z_teacher),
        ):
            e = [np.exp(unit(x) @ held[j] / 0.07) / z for j in (i, *others)]
            noise = len(others) / SIZE
            total -= np.log(e[0] / (e[0] + noise))
            total -= sum(np.log(noise / (x + noise)) for x in e[1:])
        expected.append(total)
    close(losses.contrastive_representation(*batch, memory), expected, rtol=1e-4)


def test_the_first_batch_fixes_the_normalizers(memory, batch):
    student, teacher, index, negatives = batch
    first = losses.calibrate_memory(memory, *batch)
    assert first.calibrated
    chosen = jnp.concatenate([index[:, None], negatives], axis=1)
    scores = jnp.einsum("bkc,bc->bk", memory.teacher[chosen], unit(student))
    close(np.exp(first.log_normalizers[0]), SIZE * np.exp(scores / 0.07).mean(), 1e-4)
    again = losses.calibrate_memory(first, -student, teacher, index, negatives)
    np.testing.assert_array_equal(again.log_normalizers, first.log_normalizers)


def test_a_batch_of_which_nothing_counts_does_not_calibrate(memory, batch):
    nothing = jnp.zeros(8, bool)
    spoiled = (jnp.full((8, CHANNELS), jnp.nan), *batch[1:])
    same = losses.calibrate_memory(memory, *spoiled, where=nothing)
    assert not same.calibrated
    np.testing.assert_array_equal(same.log_normalizers, memory.log_normalizers)
    updated = losses.update_memory(memory, *spoiled[:3], where=nothing)
    jax.tree.map(np.testing.assert_array_equal, updated, memory)


def test_the_memory_moves_where_the_batch_is(memory, batch):
    student, teacher, index, _ = batch
    where = jnp.arange(8) != 2
    new = losses.update_memory(
        memory, student, teacher, index, momentum=0.3, where=where
    )
    expected = np.array(memory.student)
    for k in np.flatnonzero(where):
        moved = 0.3 * expected[index[k]] + 0.7 * unit(student[k])
        expected[index[k]] = unit(moved)
    close(new.student, expected)
    np.testing.assert_array_equal(new.teacher[19], memory.teacher[19])
    assert new.calibrated == memory.calibrated


def test_of_an_example_that_occurs_twice_the_last_counts(memory, batch):
    student, teacher, index, _ = batch
    index = index.at[jnp.array([1, 5])].set(index[3])
    new = losses.update_memory(memory, student, teacher, index, momentum=0.0)
    close(new.student[index[3]], unit(student[5]))
    where = jnp.arange(8) != 5
    new = losses.update_memory(
        memory, student, teacher, index, momentum=0.0, where=where
    )
    close(new.student[index[3]], unit(student[3]))


def test_memories_are_the_same_on_all_devices(memory, batch):
    where = jnp.arange(8) % 5 != 2
    calibrated = over_devices(
        lambda w, *a: losses.calibrate_memory(memory, *a, where=w, axis_name="i"),
        where,
        batch,
    )
    jax.tree.map(
        close, calibrated, losses.calibrate_memory(memory, *batch, where=where)
    )
    updated = over_devices(
        lambda w, *a: losses.update_memory(memory, *a, where=w, axis_name="i"),
        where,
        batch[:3],
    )
    expected = losses.update_memory(memory, *batch[:3], where=where)
    jax.tree.map(close, updated, expected)


def test_a_memory_may_be_in_half_precision(memory, batch):
    half = memory._replace(
        student=memory.student.astype(jnp.bfloat16),
        teacher=memory.teacher.astype(jnp.bfloat16),
    )
    value = losses.contrastive_representation(*batch, half)
    assert value.dtype == jnp.float32
    close(value, losses.contrastive_representation(*batch, memory), rtol=0.1)
    assert losses.update_memory(half, *batch[:3]).student.dtype == jnp.bfloat16


def test_the_chosen_rows_are_never_all_in_memory():
    memory = losses.contrast_memory(jax.random.key(0), size=4096, channels=128)
    index, embedding = jnp.arange(16), jnp.ones((16, 128))
    negatives = jnp.zeros((16, 2047), int)
    loss = lambda s: losses.contrastive_representation(
        s, embedding, index, negatives, memory
    ).sum()
    compiled = jax.jit(jax.value_and_grad(loss)).lower(embedding).compile()
    analysis = compiled.memory_analysis()
    assert analysis is not None
    assert analysis.temp_size_in_bytes < 16 * 2048 * 128 * 4 / 8


@pytest.mark.own_checks
def test_what_does_not_fit_the_memory_is_named(memory, batch):
    student, teacher, index, negatives = batch
    loss = losses.contrastive_representation
    with pytest.raises(ValueError, match=r"`index` must be in \[0, 20\)"):
        loss(student, teacher, index.at[0].set(20), negatives, memory)
    with pytest.raises(ValueError, match=r"`student` must have shape .* channels"):
        loss(student[:, :2], teacher, index, negatives, memory)
    with pytest.raises(TypeError, match="`negatives` must be integers"):
        loss(student, teacher, index, negatives.astype(float), memory)
    with pytest.raises(ValueError, match="`momentum`"):
        losses.update_memory(memory, student, teacher, index, momentum=1.5)


def test_a_queue_forgets_the_oldest():
    queue = losses.embedding_queue(jax.random.key(0), size=7, channels=CHANNELS)
    held = collections.deque(map(np.asarray, queue.embeddings), maxlen=7)
    update = jax.jit(losses.update_queue)
    for step, number in enumerate((3, 5, 1, 9, 4)):
        new = normal(step, number, CHANNELS)
        where = jnp.arange(number) % 3 != 1
        held.extend(unit(np.asarray(new[where])))
        queue = update(queue, new.at[~where].set(jnp.nan), where=where)
        in_order = jnp.roll(queue.embeddings, -queue.place, axis=0)
        close(in_order, np.stack(held))


def test_queues_are_the_same_on_all_devices():
    queue = losses.embedding_queue(jax.random.key(0), size=7, channels=CHANNELS)
    new, where = normal(1, 8, CHANNELS), jnp.arange(8) % 5 != 2
    updated = over_devices(
        lambda w, x: losses.update_queue(queue, x, where=w, axis_name="i"),
        where,
        (new,),
    )
    jax.tree.map(close, updated, losses.update_queue(queue, new, where=where))


def test_similarities_by_loops():
    student, teacher, anchors = normal(0, 3, 4), normal(1, 3, 4), unit(normal(2, 6, 4))
    for b in range(3):
        s, t = unit(student[b]), unit(teacher[b])
        both = np.concatenate([t[None], anchors])
        p, q = (jax.nn.softmax(both @ x / tau) for x, tau in ((t, 0.01), (s, 0.2)))
        value = losses.instance_similarity_cross_entropy(student, teacher, anchors)[b]
        close(value, -(p * jnp.log(q)).sum(), rtol=1e-4)


def test_a_teacher_without_doubts_contrasts():
    student, teacher, anchors = normal(0, 3, 4), normal(1, 3, 4), unit(normal(2, 6, 4))
    sure = losses.instance_similarity_cross_entropy(
        student, teacher, anchors, temperature=0.07, teacher_temperature=1e-5
    )
    close(sure, losses.info_nce(student, teacher, anchors))


def test_the_students_own_anchors_may_be_wider():
    student, teacher = normal(0, 3, 4), normal(1, 3, 5)
    of_student, of_teacher = unit(normal(2, 6, 4)), unit(normal(3, 6, 5))
    q = jax.nn.log_softmax(unit(student) @ of_student.T / 0.04)
    p = jax.nn.log_softmax(unit(teacher) @ of_teacher.T / 0.04)
    value = losses.anchor_similarity_kl(student, teacher, of_student, of_teacher)
    close(value, (jnp.exp(p) * (p - q)).sum(-1), rtol=1e-4)


@pytest.mark.own_checks
def test_anchors_of_other_sizes_are_refused():
    student, teacher = normal(0, 3, 4), normal(1, 3, 5)
    of_student, of_teacher = normal(2, 6, 4), normal(3, 6, 5)
    with pytest.raises(ValueError, match="one size"):
        losses.anchor_similarity_kl(student, teacher, of_student, of_teacher[:5])
    with pytest.raises(ValueError, match="one batch"):
        losses.anchor_similarity_kl(student[:2], teacher, of_student, of_teacher)
