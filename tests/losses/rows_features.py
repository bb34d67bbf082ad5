"""Rows of the losses on features and on dense predictions; see `array_row`."""

import jax
from array_row import ArrayRow, normal
from jax import numpy as jnp

from jaxkd import losses

SAME = normal((4, 6, 5), (4, 6, 5))
TOKENS = normal((7, 5), (7, 5))
VECTORS = normal((5,), (5,))
CHANNELS = normal((4, 6, 5), (4, 6, 7))  # other channels
SIZES = normal((4, 6, 5), (8, 3, 5))  # other positions
OTHER = normal((4, 6, 5), (8, 3, 7))  # both
LAYERS = "student student teacher teacher"
TWO_LAYERS = normal((6, 4, 5), (3, 4, 7), (6, 4, 5), (3, 4, 7))


def with_channels(make, numbers):
    """A maker of two arrays and of one number for each channel."""

    def make_with(key):
        student, teacher = make(key)
        drawn = jax.random.normal(jax.random.fold_in(key, 1), student.shape[-1:])
        return student, teacher, numbers(drawn)

    return make_with


#: Public functions beside the losses, which have no row.
FEATURE_HELPERS = {"batchnorm_margin", "channel_mask", "position_mask", "token_mask"}

FEATURES = {
    "activation_boundary": ArrayRow(
        losses.activation_boundary, SAME, zero_at_equality=False
    ),
    "attention_distance": ArrayRow(losses.attention_distance, SAME),
    "attention_distance, sizes": ArrayRow(
        losses.attention_distance, OTHER, zero_at_equality=False
    ),
    "attention_transfer": ArrayRow(losses.attention_transfer, SAME),
    "attention_transfer, power": ArrayRow(
        losses.attention_transfer, TOKENS, {"power": 1.0}
    ),
    "attention_transfer, sizes": ArrayRow(
        losses.attention_transfer, OTHER, {"power": 4.0}, zero_at_equality=False
    ),
    "attention_weighted_distance": ArrayRow(
        losses.attention_weighted_distance, SAME, held=True
    ),
    "channel_affinity": ArrayRow(losses.channel_affinity, SAME),
    "channel_affinity, sizes": ArrayRow(
        losses.channel_affinity, SIZES, zero_at_equality=False
    ),
    "channel_wise_kl": ArrayRow(losses.channel_wise_kl, SAME),
    "class_attention": ArrayRow(losses.class_attention, SAME),
    "class_attention, raw": ArrayRow(
        losses.class_attention, TOKENS, {"normalize": False}
    ),
    "class_attention, sizes": ArrayRow(
        losses.class_attention, SIZES, {"size": 3}, zero_at_equality=False
    ),
    "factor_transfer": ArrayRow(losses.factor_transfer, SAME),
    "factor_transfer, power": ArrayRow(losses.factor_transfer, SAME, {"power": 2.0}),
    "feature_mse": ArrayRow(losses.feature_mse, SAME),
    "feature_mse, tokens": ArrayRow(losses.feature_mse, TOKENS),
    "feature_mse, vectors": ArrayRow(losses.feature_mse, VECTORS),
    "feature_squared_distance": ArrayRow(losses.feature_squared_distance, SAME),
    "flow_of_solution": ArrayRow(losses.flow_of_solution, TWO_LAYERS, roles=LAYERS),
    "hierarchical_context": ArrayRow(losses.hierarchical_context, SAME),
    "hierarchical_context, tokens": ArrayRow(losses.hierarchical_context, TOKENS),
    "inter_channel_correlation": ArrayRow(losses.inter_channel_correlation, SAME),
    "inter_channel_correlation, sizes": ArrayRow(
        losses.inter_channel_correlation, SIZES, zero_at_equality=False
    ),
    "log_power_distance": ArrayRow(
        losses.log_power_distance, SAME, scalar=True, zero_at_equality=False
    ),
    "neuron_selectivity": ArrayRow(losses.neuron_selectivity, SAME),
    "neuron_selectivity, positions": ArrayRow(
        losses.neuron_selectivity, normal((2, 2, 6), (3, 3, 5)), zero_at_equality=False
    ),
    "overhaul_distance": ArrayRow(
        losses.overhaul_distance,
        with_channels(SAME, lambda drawn: -jnp.abs(drawn)),
        roles="student teacher shared",
    ),
    "pair_wise_similarity": ArrayRow(losses.pair_wise_similarity, SAME),
    "pair_wise_similarity, all positions": ArrayRow(
        losses.pair_wise_similarity, CHANNELS, {"window": 0.0}, zero_at_equality=False
    ),
    "pooled_feature_distance": ArrayRow(losses.pooled_feature_distance, SAME),
    "representation_correlation": ArrayRow(
        losses.representation_correlation, VECTORS, scalar=True, zero_at_equality=False
    ),
    "representation_information": ArrayRow(
        losses.representation_information,
        normal((5,), (7,)),
        scalar=True,
        zero_at_equality=False,
    ),
    "similarity_preserving": ArrayRow(losses.similarity_preserving, SAME, scalar=True),
    "similarity_preserving, sizes": ArrayRow(
        losses.similarity_preserving, OTHER, scalar=True, zero_at_equality=False
    ),
    "singular_vector_relation": ArrayRow(
        losses.singular_vector_relation, TWO_LAYERS, roles=LAYERS
    ),
    "singular_vector_relation, rank": ArrayRow(
        losses.singular_vector_relation, TWO_LAYERS, {"rank": 2}, roles=LAYERS
    ),
    "standardized_feature_mse": ArrayRow(
        losses.standardized_feature_mse, SAME, scalar=True
    ),
    "standardized_feature_mse, sizes": ArrayRow(
        losses.standardized_feature_mse, SIZES, scalar=True, zero_at_equality=False
    ),
    "uncertainty_weighted_mse": ArrayRow(
        losses.uncertainty_weighted_mse,
        normal((4, 5), (4, 5), (4, 5)),
        roles="student teacher student",
        zero_at_equality=False,
    ),
    "unit_feature_distance": ArrayRow(losses.unit_feature_distance, SAME),
    "variational_information": ArrayRow(
        losses.variational_information,
        with_channels(SAME, jnp.exp),
        roles="student teacher shared",
        zero_at_equality=False,
    ),
}
