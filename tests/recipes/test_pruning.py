"""Lottery tickets and prune-distil rounds, on a small regression."""

import functools
import itertools
import re

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from jaxkd import compress, recipes, trees

X = jax.random.normal(jax.random.key(0), (128, 6))


def apply(p, x):
    x = jax.nn.relu(x @ p["first"]["kernel"] + p["first"]["bias"])
    x = jax.nn.relu(x @ p["second"]["kernel"] + p["second"]["bias"])
    return x @ p["last"]["kernel"]


def initial(seed, widths=(32, 32)):
    keys = jax.random.split(jax.random.key(seed), 3)
    sizes = (6, *widths, 2)
    params = {
        name: {
            "kernel": jax.random.normal(k, (a, b)) * (2 / a) ** 0.5,
            "bias": jnp.zeros(b),
        }
        for name, k, a, b in zip(
            ("first", "second", "last"), keys, sizes, sizes[1:], strict=False
        )
    }
    del params["last"]["bias"]
    return params


TARGETS = apply(initial(7, (8, 8)), X)


def train(params, targets, link=None, steps=150):
    tx = optax.chain(optax.adam(1e-2), link or optax.identity())
    loss = lambda p: jnp.mean((apply(p, X) - targets) ** 2)

    @jax.jit
    def run(params):
        def step(carry, _):
            params, state = carry
            updates, state = tx.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, tx.init(params)), length=steps)[0][0]

    return run(params)


def error(cut):
    return float(jnp.mean((cut.apply(cut.variables, X) - TARGETS) ** 2))


def test_a_ticket_is_rewound_sparse_and_trained():
    seen = []

    def fit(params, masks):
        seen.append((params, masks))
        draw = lambda p, g, s: masks
        return train(params, TARGETS, compress.keep_sparse(0.8, draw=draw))

    start = initial(1)
    ticket = recipes.lottery_ticket(fit, start, sparsity=0.8, rounds=3)
    zeros = [int((~masks["second"]["kernel"]).sum()) for _, masks in seen]
    levels = [0.0, 1 - 0.2 ** (1 / 3), 1 - 0.2 ** (2 / 3), 0.8]
    assert zeros == [round(32 * 32 * s) for s in levels]
    for params, masks in seen:  # every round begins with the same numbers
        for got, want, mask in zip(
            *map(jax.tree.leaves, (params, start, masks)), strict=True
        ):
            np.testing.assert_array_equal(got, np.where(mask, want, 0))
    for (_, before), (_, after) in itertools.pairwise(seen):
        revived = jax.tree.map(lambda a, b: jnp.any(b & ~a), before, after)
        assert not any(jax.tree.leaves(revived))
    jax.tree.map(np.testing.assert_array_equal, ticket.params, seen[-1][0])
    jax.tree.map(np.testing.assert_array_equal, ticket.masks, seen[-1][1])
    # It trains better than as many weights drawn at random.
    scores = compress.random_scores(start, jax.random.key(3))
    drawn = compress.top_masks(scores, 0.8)
    other = fit(compress.apply_masks(start, drawn), drawn)
    assert error(recipes.Cut(apply, ticket.trained)) < 0.8 * error(
        recipes.Cut(apply, other)
    )


def test_a_ticket_prunes_exactly_among_weights_that_are_zero_untrained():
    params = {"kernel": jnp.zeros(8)}
    ticket = recipes.lottery_ticket(lambda p, m: p, params, sparsity=0.5, rounds=2)
    assert int(ticket.masks["kernel"].sum()) == 4


def test_bad_tickets_are_refused():
    params, same = initial(1), lambda p, m: p
    ask = functools.partial(recipes.lottery_ticket, params=params)
    with pytest.raises(ValueError, match=r"`sparsity`.*got 1.0"):
        ask(same, sparsity=1.0, rounds=2)
    with pytest.raises(ValueError, match="`rounds` must be positive, got 0"):
        ask(same, sparsity=0.5, rounds=0)
    with pytest.raises(ValueError, match="'kernl' matches no path"):
        ask(same, sparsity=0.5, rounds=1, where="kernl")
    with pytest.raises(ValueError, match="`fit` revives pruned weights"):
        ask(lambda p, m: params, sparsity=0.5, rounds=1)
    with pytest.raises(ValueError, match="masks of another tree"):
        ask(lambda p, m: {"first": p["first"]}, sparsity=0.5, rounds=1)


@pytest.fixture(scope="module")
def unpruned():
    return recipes.Cut(apply, train(initial(2), TARGETS, steps=400))


def rounds_of(unpruned, *fractions, distil):
    return recipes.prune_and_distil(
        unpruned,
        [X[:1]],
        targets=[compress.params(f) for f in fractions],
        score=lambda cut, groups: compress.l2_importance(cut.variables, groups),
        distil=distil,
        shrink=functools.partial(compress.shrink, round_to=1),
    )


def test_rounds_distil_from_the_unpruned_model(unpruned):
    teachers, students = [], []

    def distil(student, teacher):
        teachers.append(teacher)
        students.append(student)
        return train(student.variables, teacher.apply(teacher.variables, X))

    total = trees.count(unpruned.variables)
    (once,) = rounds_of(unpruned, 0.25, distil=distil)
    twice = rounds_of(unpruned, 0.5, 0.25, distil=distil)
    assert all(teacher is unpruned for teacher in teachers)
    for cut, fraction in ((once, 0.25), (twice[0], 0.5), (twice[1], 0.25)):
        assert 0.9 * fraction * total < trees.count(cut.variables) <= fraction * total
    # The second round cuts what the first has distilled.
    assert students[2].report.before["parameters"] == trees.count(twice[0].variables)
    assert error(once) < 0.3 * error(students[0])
    assert error(twice[1]) < 0.3 * error(students[2])


@pytest.mark.parametrize("kinds", [[], ["latency", "params"]])
def test_targets_that_do_not_go_together_are_refused(unpruned, kinds):
    make = {
        "latency": lambda: compress.latency(0.5, unpruned.variables),
        "params": lambda: compress.params(0.5),
    }
    with pytest.raises(ValueError, match=re.escape("`targets` must hold one target")):
        recipes.prune_and_distil(
            unpruned,
            [X[:1]],
            targets=[make[kind]() for kind in kinds],
            score=lambda cut, groups: {},
            distil=lambda student, teacher: student.variables,
        )


def test_a_target_out_of_reach_ends_before_any_training(unpruned):
    def never(student, teacher):
        raise AssertionError

    with pytest.raises(ValueError, match="cannot be met"):
        rounds_of(unpruned, 0.001, distil=never)
