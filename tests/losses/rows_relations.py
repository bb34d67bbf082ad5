"""Rows of the losses on relations of examples and in contrast; see `array_row`."""

import jax
from array_row import BATCH, ArrayRow, normal
from jax import numpy as jnp

from jaxkd import losses

SIZE, CHANNELS = 9, 5
SAME = normal((4, 6, 5), (4, 6, 5))
VECTORS = normal((CHANNELS,), (CHANNELS,))
WIDTHS = normal((5,), (7,))


def of_memory(key):
    """What CRD takes: embeddings, where they and others are, and a memory."""
    student, teacher = VECTORS(key)
    index = jnp.arange(BATCH) * 2
    negatives = losses.uniform_negatives(key, index, size=SIZE, number=6)
    memory = losses.contrast_memory(jax.random.key(7), size=SIZE, channels=CHANNELS)
    return student, teacher, index, negatives, memory


def anchors(seed, channels):
    queue = losses.embedding_queue(jax.random.key(seed), size=SIZE, channels=channels)
    return queue.embeddings


def with_anchors(make, *widths):
    """A maker of embeddings, and of anchors for each side that has its own."""
    found = [anchors(8 + i, channels) for i, channels in enumerate(widths)]
    return lambda key: (*make(key), *found)


def coupled(fn, make=VECTORS, **more):
    return ArrayRow(fn, make, scalar=True, **more)


#: Public names beside the losses, which have no row.
RELATION_HELPERS = {
    "ContrastMemory",
    "EmbeddingQueue",
    "calibrate_memory",
    "contrast_memory",
    "embedding_queue",
    "layer_maps",
    "uniform_negatives",
    "update_memory",
    "update_queue",
}

RELATIONS = {
    "anchor_similarity_kl": ArrayRow(
        losses.anchor_similarity_kl,
        with_anchors(WIDTHS, 5, 7),
        {"temperature": 0.5},
        roles="student teacher record record",
        zero_at_equality=False,
    ),
    "anchor_similarity_kl, the teacher's": ArrayRow(
        losses.anchor_similarity_kl,
        lambda key: (*VECTORS(key), anchors(8, 5), anchors(8, 5)),
        roles="student teacher record record",
    ),
    "bilinear_congruence": coupled(losses.bilinear_congruence),
    "bilinear_congruence, widths": coupled(
        losses.bilinear_congruence, WIDTHS, zero_at_equality=False
    ),
    "channel_relation": ArrayRow(losses.channel_relation, SAME),
    "channel_relation, vectors": ArrayRow(losses.channel_relation, VECTORS),
    "contrastive_representation": ArrayRow(
        losses.contrastive_representation,
        of_memory,
        roles="student teacher rows rows record",
        zero_at_equality=False,
    ),
    "gaussian_congruence": coupled(losses.gaussian_congruence),
    "gaussian_congruence, widths": coupled(
        losses.gaussian_congruence,
        WIDTHS,
        kwargs={"gamma": 0.1, "order": 1},
        zero_at_equality=False,
    ),
    "info_nce": ArrayRow(
        losses.info_nce,
        with_anchors(VECTORS, 5),
        roles="student teacher record",
        zero_at_equality=False,
    ),
    "instance_similarity_cross_entropy": ArrayRow(
        losses.instance_similarity_cross_entropy,
        with_anchors(VECTORS, 5),
        {"teacher_temperature": 0.1},
        roles="student teacher record",
        zero_at_equality=False,
    ),
    "neighbour_correlation": coupled(losses.neighbour_correlation, ordered=True),
    "probabilistic_knowledge_transfer": coupled(
        losses.probabilistic_knowledge_transfer
    ),
    "probabilistic_knowledge_transfer, widths": coupled(
        losses.probabilistic_knowledge_transfer, WIDTHS, zero_at_equality=False
    ),
    "relational_angle": coupled(losses.relational_angle),
    "relational_angle, widths": coupled(
        losses.relational_angle, WIDTHS, zero_at_equality=False
    ),
    "relational_distance": coupled(losses.relational_distance),
    "relational_distance, widths": coupled(
        losses.relational_distance, WIDTHS, zero_at_equality=False
    ),
    "similarity_mahalanobis": coupled(losses.similarity_mahalanobis),
    "similarity_mahalanobis, widths": coupled(
        losses.similarity_mahalanobis, WIDTHS, zero_at_equality=False
    ),
    "spatial_relation": coupled(losses.spatial_relation, SAME),
    "spatial_relation, widths": coupled(
        losses.spatial_relation, normal((3, 5), (3, 7)), zero_at_equality=False
    ),
}
