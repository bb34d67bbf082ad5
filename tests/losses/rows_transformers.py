"""Rows of the losses on attention, hidden states and tokens; see `array_row`."""

from array_row import ArrayRow, normal

from jaxkd import losses

SCORES = normal((2, 3, 5), (2, 3, 5))
TOKENS = normal((7, 5), (7, 5))
LAYERS = "student student teacher teacher"
TWO_LAYERS = normal((3, 4), (5, 4), (3, 4), (5, 4))
TWO_WIDTHS = normal((3, 4), (5, 4), (3, 6), (5, 6))

TRANSFORMERS = {
    "attention_map_cross_entropy": ArrayRow(
        losses.attention_map_cross_entropy, SCORES, zero_at_equality=False
    ),
    "attention_map_kl": ArrayRow(losses.attention_map_kl, SCORES),
    "attention_score_mse": ArrayRow(losses.attention_score_mse, SCORES),
    "feature_cosine_distance": ArrayRow(losses.feature_cosine_distance, TOKENS),
    "feature_cosine_distance, vectors": ArrayRow(
        losses.feature_cosine_distance, normal((5,), (5,))
    ),
    "patient_distance": ArrayRow(losses.patient_distance, TOKENS),
    "token_relation_kl": ArrayRow(
        losses.token_relation_kl, TWO_LAYERS, {"heads": 2}, roles=LAYERS
    ),
    "token_relation_kl, widths": ArrayRow(
        losses.token_relation_kl,
        TWO_WIDTHS,
        {"heads": 2},
        roles=LAYERS,
        zero_at_equality=False,
    ),
    "token_similarity_mse": ArrayRow(
        losses.token_similarity_mse, TWO_LAYERS, roles=LAYERS
    ),
    "token_similarity_mse, widths": ArrayRow(
        losses.token_similarity_mse, TWO_WIDTHS, roles=LAYERS, zero_at_equality=False
    ),
}
