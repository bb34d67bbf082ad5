"""The table of the losses that the contract is about, and their inputs.

To add a loss, add its row.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import numpy as jnp

from jaxkd import losses

BATCH, CLASSES, TOP = 6, 5, 3
NOT_LOSSES = {
    "Mean",
    "common_classes",
    "corrected_teacher_logits",
    "masked_mean",
    "reverse_gradient",
    "sequence_mean",
    "standardize",
    "top_k_buckets",
    "weighted_mean",
}


class Row(NamedTuple):
    """One loss, as `fn(student_logits, *rest(teacher_logits, labels), **kwargs)`."""

    fn: Callable[..., jax.Array]
    kwargs: dict[str, Any] = {}
    rest: str = "teacher"  # what follows the student: see `arguments`
    scalar: bool = False  # one number for the whole batch
    couples: bool = False  # an example's value depends on the others
    zero_at_equality: bool = True
    counts_masked: bool = False  # a mean over all classes, masked ones too


def up_to_entropy(fn, **kwargs):
    return Row(fn, kwargs, zero_at_equality=False)


def with_labels(fn, **kwargs):
    return Row(fn, kwargs, rest="teacher labels", zero_at_equality=False)


def sparse(fn, *more, **kwargs):
    return Row(fn, kwargs, " ".join(("ids", *more)), zero_at_equality=False)


def coupled(fn, **kwargs):
    return Row(fn, kwargs, scalar=True, couples=True)


ROWS = {
    "adaptive_kl": Row(losses.adaptive_kl, {"temperature": 2.0}),
    "batch_correlation": coupled(losses.batch_correlation),
    "binary_soft_cross_entropy": Row(
        losses.binary_soft_cross_entropy, zero_at_equality=False, counts_masked=True
    ),
    "class_correlation": coupled(losses.class_correlation)._replace(counts_masked=True),
    "confidence_temperature": Row(
        losses.confidence_temperature, rest="", couples=True, zero_at_equality=False
    ),
    "cross_entropy": Row(losses.cross_entropy, rest="labels", zero_at_equality=False),
    "decoupled_kd": with_labels(losses.decoupled_kd)._replace(zero_at_equality=True),
    "focal_temperature": Row(
        losses.focal_temperature, couples=True, zero_at_equality=False
    ),
    "forward_kl": Row(losses.forward_kl, {"temperature": 2.0}),
    "generalized_jsd": Row(losses.generalized_jsd, {"beta": 0.3, "temperature": 2.0}),
    "hard_target_cross_entropy": up_to_entropy(
        losses.hard_target_cross_entropy, smoothing=0.1
    ),
    "inter_class_relation": Row(
        losses.inter_class_relation, {"temperature": 2.0}, counts_masked=True
    ),
    "intra_class_relation": coupled(
        losses.intra_class_relation, temperature=2.0
    )._replace(counts_masked=True),
    "log_probability_euclidean": Row(losses.log_probability_euclidean),
    "logit_cosine_distance": Row(losses.logit_cosine_distance),
    "logit_euclidean": Row(losses.logit_euclidean),
    "logit_mse": Row(losses.logit_mse, counts_masked=True),
    "normalized_kd": with_labels(losses.normalized_kd, temperature=2.0),
    "renormalized_top_k_kl": sparse(losses.renormalized_top_k_kl, temperature=2.0),
    "rescaled_jsd": Row(losses.rescaled_jsd, {"beta": 0.3}),
    "reverse_kl": Row(losses.reverse_kl, {"temperature": 2.0}),
    "sampled_soft_cross_entropy": sparse(losses.sampled_soft_cross_entropy),
    "self_weighted_cross_entropy": Row(
        losses.self_weighted_cross_entropy,
        rest="labels",
        couples=True,
        zero_at_equality=False,
    ),
    "skewed_forward_kl": Row(losses.skewed_forward_kl, {"temperature": 2.0}),
    "skewed_reverse_kl": Row(losses.skewed_reverse_kl, {"temperature": 2.0}),
    "smoothed_cross_entropy": Row(
        losses.smoothed_cross_entropy, rest="labels", zero_at_equality=False
    ),
    "soft_cross_entropy": up_to_entropy(losses.soft_cross_entropy, temperature=2.0),
    "soft_label_decoupled_kd": Row(
        losses.soft_label_decoupled_kd, rest="teacher soft_labels"
    ),
    "soft_target_kl": Row(losses.soft_target_kl, {"temperature": 2.0}),
    "sorted_probability_distance": Row(losses.sorted_probability_distance),
    "standardized": Row(losses.standardized(losses.soft_target_kl)),
    "symmetric_kl": Row(losses.symmetric_kl, {"reverse_weight": 0.9}),
    "target_enhanced_cross_entropy": with_labels(losses.target_enhanced_cross_entropy),
    "teacher_renormalized_top_k_kl": sparse(
        losses.teacher_renormalized_top_k_kl, temperature=2.0
    ),
    "top_k_disagreement": Row(losses.top_k_disagreement),
    "top_k_kl": sparse(losses.top_k_kl, "total", temperature=2.0),
    "alpha_beta_divergence": Row(
        losses.alpha_beta_divergence,
        {"alpha": 0.3, "beta": 0.8, "temperature": 2.0},
    ),
    "total_variation": Row(losses.total_variation, {"temperature": 2.0}),
    "transformed_teacher_kl": up_to_entropy(losses.transformed_teacher_kl),
    "virtual_teacher_kl": Row(
        losses.virtual_teacher_kl, rest="labels", zero_at_equality=False
    ),
    "weighted_soft_cross_entropy": with_labels(losses.weighted_soft_cross_entropy),
    "weighted_transformed_teacher_kl": up_to_entropy(
        losses.weighted_transformed_teacher_kl
    ),
    "zipf_cross_entropy": with_labels(losses.zipf_cross_entropy),
}
#: Weights or temperatures held constant: finite differences would see through that.
HELD = {
    "adaptive_kl",
    "confidence_temperature",
    "focal_temperature",
    "self_weighted_cross_entropy",
    "weighted_soft_cross_entropy",
}
#: How many arrays of the logits' size may be stored, for the value or the gradient:
#: two, and a half for what is smaller, such as a Gram matrix of the batch.
LIMIT = 2.5
#: Where it takes more, and what for.
ALLOWED = {
    # The gap and the sum of both, and the product with each: classes > examples here.
    "class_correlation": 3.6,
    # Both predictions; XLA on CPU has the temperature in their shape, too.
    "intra_class_relation": 3.1,
    # Both logits standardized; XLA on CPU has the temperature in their shape, too.
    "standardized": 3.1,
    # What is sorted of both, the order to sort the gradient back, and one as below.
    "sorted_probability_distance": 4.1,
    # Both predictions and their slope: exact normalizers keep XLA from fusing them.
    "inter_class_relation": 3.1,
    "total_variation": 3.1,
}


def logits(seed=0, dtype=jnp.float32, scale=1.0):
    s, t = jax.random.split(jax.random.key(seed))
    student, teacher = (scale * jax.random.normal(k, (BATCH, CLASSES)) for k in (s, t))
    return student.astype(dtype), teacher.astype(dtype)


def rest(row, teacher):
    """What a loss takes after the student's logits, made from the teacher's."""
    values, ids = jax.lax.top_k(teacher, TOP)
    made = {
        "teacher": teacher,
        "labels": jnp.array([0, 3, 1, 2, 4, 2]),
        "soft_labels": jax.nn.softmax(teacher[:, ::-1].astype(jnp.float32)).astype(
            teacher.dtype
        ),
        "ids": ids,
        "total": jax.nn.logsumexp(teacher / 2, axis=-1),
    }
    names = row.rest.split()
    if "ids" in names:
        values = jax.nn.softmax(values) if is_sampled(row) else values
        names.insert(1, "values")
        made["values"] = values
    return [made[name] for name in names]


def is_sampled(row):
    return row.fn is losses.sampled_soft_cross_entropy


def inputs(row, **kwargs):
    student, teacher = logits(**kwargs)
    return [student, *rest(row, teacher)]


def call(row, *arguments):
    return row.fn(*arguments, **row.kwargs)


def gradient(row, student, *others):
    return jax.grad(lambda s: jnp.sum(call(row, s, *others)))(student)


def wide_rest(row, teacher):
    values, ids = jax.lax.top_k(teacher, TOP)
    batch = teacher.shape[0]
    made = {
        "teacher": [teacher],
        "labels": [jnp.zeros(batch, int)],
        "soft_labels": [teacher],
        "ids": [ids, values],
        "total": [jnp.zeros(batch)],
    }
    return [x for name in row.rest.split() for x in made[name]]
