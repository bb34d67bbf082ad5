"""Rows of the losses on features and on dense predictions; see `array_row`."""

from array_row import ArrayRow, normal

from jaxkd import losses

SAME = normal((4, 6, 5), (4, 6, 5))
TOKENS = normal((7, 5), (7, 5))
OTHER = normal((4, 6, 5), (8, 3, 7))  # other sizes and channels


#: Public functions beside the losses, which have no row.
FEATURE_HELPERS = set()

FEATURES = {
    "attention_transfer": ArrayRow(losses.attention_transfer, SAME),
    "attention_transfer, sizes": ArrayRow(
        losses.attention_transfer, OTHER, {"power": 4.0}
    ),
    "attention_transfer, tokens": ArrayRow(losses.attention_transfer, TOKENS),
    "feature_mse": ArrayRow(losses.feature_mse, SAME),
    "feature_mse, tokens": ArrayRow(losses.feature_mse, TOKENS),
    "feature_mse, vectors": ArrayRow(losses.feature_mse, normal((5,), (5,))),
    "feature_squared_distance": ArrayRow(losses.feature_squared_distance, SAME),
    "similarity_preserving": ArrayRow(losses.similarity_preserving, SAME, scalar=True),
    "similarity_preserving, sizes": ArrayRow(
        losses.similarity_preserving, OTHER, scalar=True
    ),
}
