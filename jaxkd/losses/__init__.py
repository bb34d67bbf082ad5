"""Losses: pure functions from arrays to one value per example."""

from jaxkd.losses import layer_maps
from jaxkd.losses._activations import (
    activation_boundary,
    batchnorm_margin,
    overhaul_distance,
)
from jaxkd.losses._attention import (
    attention_map_cross_entropy,
    attention_map_kl,
    attention_score_mse,
    token_relation_kl,
    token_similarity_mse,
)
from jaxkd.losses._batches import (
    log_power_distance,
    representation_correlation,
    representation_information,
    similarity_preserving,
)
from jaxkd.losses._channels import (
    channel_affinity,
    inter_channel_correlation,
    neuron_selectivity,
    singular_vector_relation,
)
from jaxkd.losses._congruence import (
    bilinear_congruence,
    channel_relation,
    gaussian_congruence,
    similarity_mahalanobis,
    spatial_relation,
)
from jaxkd.losses._contrast import (
    ContrastMemory,
    calibrate_memory,
    contrast_memory,
    contrastive_representation,
    uniform_negatives,
    update_memory,
)
from jaxkd.losses._correlations import (
    batch_correlation,
    class_correlation,
    inter_class_relation,
    intra_class_relation,
)
from jaxkd.losses._decoupled import (
    decoupled_kd,
    normalized_kd,
    soft_label_decoupled_kd,
    zipf_cross_entropy,
)
from jaxkd.losses._dense import (
    attention_weighted_distance,
    channel_wise_kl,
    pair_wise_similarity,
    pooled_feature_distance,
    standardized_feature_mse,
)
from jaxkd.losses._distances import (
    log_probability_euclidean,
    logit_cosine_distance,
    logit_euclidean,
    sorted_probability_distance,
    top_k_disagreement,
)
from jaxkd.losses._divergences import (
    adaptive_kl,
    common_classes,
    forward_kl,
    reverse_kl,
    symmetric_kl,
)
from jaxkd.losses._features import (
    factor_transfer,
    feature_mse,
    feature_squared_distance,
    uncertainty_weighted_mse,
    unit_feature_distance,
    variational_information,
)
from jaxkd.losses._generation import (
    channel_mask,
    position_mask,
    token_mask,
)
from jaxkd.losses._labels import (
    cross_entropy,
    hard_target_cross_entropy,
    smoothed_cross_entropy,
    virtual_teacher_kl,
)
from jaxkd.losses._logits import (
    binary_soft_cross_entropy,
    logit_mse,
    soft_cross_entropy,
    soft_target_kl,
)
from jaxkd.losses._maps import (
    attention_distance,
    attention_transfer,
    class_attention,
    flow_of_solution,
    hierarchical_context,
)
from jaxkd.losses._mixtures import (
    generalized_jsd,
    rescaled_jsd,
    skewed_forward_kl,
    skewed_reverse_kl,
    total_variation,
)
from jaxkd.losses._queues import (
    EmbeddingQueue,
    anchor_similarity_kl,
    embedding_queue,
    info_nce,
    instance_similarity_cross_entropy,
    update_queue,
)
from jaxkd.losses._reduce import (
    Mean,
    masked_mean,
    sequence_mean,
    weighted_mean,
)
from jaxkd.losses._relations import (
    neighbour_correlation,
    probabilistic_knowledge_transfer,
    relational_angle,
    relational_distance,
)
from jaxkd.losses._sparse import (
    renormalized_top_k_kl,
    sampled_soft_cross_entropy,
    teacher_renormalized_top_k_kl,
    top_k_buckets,
    top_k_kl,
)
from jaxkd.losses._targets import (
    corrected_teacher_logits,
    self_weighted_cross_entropy,
    target_enhanced_cross_entropy,
    transformed_teacher_kl,
    weighted_soft_cross_entropy,
    weighted_transformed_teacher_kl,
)
from jaxkd.losses._temperatures import (
    confidence_temperature,
    focal_temperature,
    reverse_gradient,
    standardize,
    standardized,
)
from jaxkd.losses._tokens import (
    feature_cosine_distance,
    patient_distance,
)

__all__ = [
    "ContrastMemory",
    "EmbeddingQueue",
    "Mean",
    "activation_boundary",
    "adaptive_kl",
    "anchor_similarity_kl",
    "attention_distance",
    "attention_map_cross_entropy",
    "attention_map_kl",
    "attention_score_mse",
    "attention_transfer",
    "attention_weighted_distance",
    "batch_correlation",
    "batchnorm_margin",
    "bilinear_congruence",
    "binary_soft_cross_entropy",
    "calibrate_memory",
    "channel_affinity",
    "channel_mask",
    "channel_relation",
    "channel_wise_kl",
    "class_attention",
    "class_correlation",
    "common_classes",
    "confidence_temperature",
    "contrast_memory",
    "contrastive_representation",
    "corrected_teacher_logits",
    "cross_entropy",
    "decoupled_kd",
    "embedding_queue",
    "factor_transfer",
    "feature_cosine_distance",
    "feature_mse",
    "feature_squared_distance",
    "flow_of_solution",
    "focal_temperature",
    "forward_kl",
    "gaussian_congruence",
    "generalized_jsd",
    "hard_target_cross_entropy",
    "hierarchical_context",
    "info_nce",
    "instance_similarity_cross_entropy",
    "inter_channel_correlation",
    "inter_class_relation",
    "intra_class_relation",
    "layer_maps",
    "log_power_distance",
    "log_probability_euclidean",
    "logit_cosine_distance",
    "logit_euclidean",
    "logit_mse",
    "masked_mean",
    "neighbour_correlation",
    "neuron_selectivity",
    "normalized_kd",
    "overhaul_distance",
    "pair_wise_similarity",
    "patient_distance",
    "pooled_feature_distance",
    "position_mask",
    "probabilistic_knowledge_transfer",
    "relational_angle",
    "relational_distance",
    "renormalized_top_k_kl",
    "representation_correlation",
    "representation_information",
    "rescaled_jsd",
    "reverse_gradient",
    "reverse_kl",
    "sampled_soft_cross_entropy",
    "self_weighted_cross_entropy",
    "sequence_mean",
    "similarity_mahalanobis",
    "similarity_preserving",
    "singular_vector_relation",
    "skewed_forward_kl",
    "skewed_reverse_kl",
    "smoothed_cross_entropy",
    "soft_cross_entropy",
    "soft_label_decoupled_kd",
    "soft_target_kl",
    "sorted_probability_distance",
    "spatial_relation",
    "standardize",
    "standardized",
    "standardized_feature_mse",
    "symmetric_kl",
    "target_enhanced_cross_entropy",
    "teacher_renormalized_top_k_kl",
    "token_mask",
    "token_relation_kl",
    "token_similarity_mse",
    "top_k_buckets",
    "top_k_disagreement",
    "top_k_kl",
    "total_variation",
    "transformed_teacher_kl",
    "uncertainty_weighted_mse",
    "uniform_negatives",
    "unit_feature_distance",
    "update_memory",
    "update_queue",
    "variational_information",
    "virtual_teacher_kl",
    "weighted_mean",
    "weighted_soft_cross_entropy",
    "weighted_transformed_teacher_kl",
    "zipf_cross_entropy",
]
