"""The methods that benchmarks/zoo.py compares, each with the weight of its paper.

Papers weigh a method against the cross-entropy of the labels; where a paper trains in
two stages, both are given here at once, with the weight of the first.
"""

from jax import numpy as jnp

from jaxkd import losses, objectives

STAGES = ("block1", "block2", "block3")
NORMS = tuple(f"{stage}/norm" for stage in STAGES)
LAST, POOL = "block3", "pool"


def head(variables, x):
    """The teacher's classifier."""
    pooled = x.mean((1, 2)) if x.ndim == 4 else x
    layer = variables.params["head"]
    return pooled @ layer["kernel"] + layer["bias"]


def batchnorm_of(stage):
    """Reads scale and bias of a stage's batch normalization."""

    def read(variables):
        layer = variables.params[stage]["norm"]
        return layer["scale"], layer["bias"]

    return read


def labels(weight, objective, *, label_weight=1.0):
    """The cross-entropy of the labels, and a method."""
    return objectives.combine(
        hard=(label_weight, objectives.hard_label()), method=(weight, objective)
    )


def soft(**terms):
    """Plain distillation with the labels, and more."""
    return objectives.combine(
        hard=(0.1, objectives.hard_label()),
        soft=(0.9, objectives.soft_target(temperature=4.0)),
        **terms,
    )


def on(loss, feature, *, adapter=None, **kwargs):
    """A loss on features of one name on both sides."""
    return objectives.on_features(
        loss, student=feature, teacher=feature, adapter=adapter, **kwargs
    )


def logits(loss, **kwargs):
    """A loss on logits."""
    return objectives.on_logits(loss, **kwargs)


def all_methods(examples):
    """Name to objective; "alone" and "KD" are what the others are measured against.

    Args:
        examples: number of training examples, the size of memories.

    Returns:
        A dict.
    """
    return {
        **on_the_logits(),
        **on_the_features(),
        **on_the_heads(),
        **on_relations(),
        **in_contrast(examples),
    }


def on_the_logits():
    """Methods that need nothing but logits."""
    return {
        "alone": objectives.hard_label(),
        "KD": soft(),
        "KD, hard targets": labels(1.0, logits(losses.hard_target_cross_entropy)),
        "logit MSE": labels(1.0, objectives.logit_mse()),
        "label smoothing": logits(losses.smoothed_cross_entropy, smoothing=0.1),
        "Tf-KD": labels(0.5, logits(losses.virtual_teacher_kl), label_weight=0.5),
        "DKD": labels(1.0, logits(losses.decoupled_kd, temperature=4.0)),
        "NKD": labels(1.0, logits(losses.normalized_kd)),
        "WSLD": labels(2.5, logits(losses.weighted_soft_cross_entropy)),
        "DIST": objectives.combine(
            hard=(1.0, objectives.hard_label()),
            inter=(2.0, logits(losses.inter_class_relation)),
            intra=(2.0, logits(losses.intra_class_relation)),
        ),
        "MLKD": soft(
            classes=(1.0, logits(losses.class_correlation, temperature=4.0)),
            batch=(1.0, logits(losses.batch_correlation, temperature=4.0)),
        ),
        "LSKD": labels(
            9.0,
            logits(losses.standardized(losses.soft_target_kl), temperature=2.0),
            label_weight=0.1,
        ),
        "TTM": labels(45.0, logits(losses.transformed_teacher_kl)),
        "WTTM": labels(4.0, logits(losses.weighted_transformed_teacher_kl)),
        "BKD": labels(1.0, logits(losses.binary_soft_cross_entropy)),
        "CTKD": labels(0.9, objectives.curriculum_temperature(), label_weight=0.1),
        "reverse KL": labels(1.0, logits(losses.reverse_kl)),
        "JSD": labels(1.0, logits(losses.generalized_jsd)),
        "TVD": labels(1.0, logits(losses.total_variation)),
    }


def on_the_features():
    """Methods on the maps of the stages."""
    linear = objectives.linear_adapter()
    ends = on(losses.singular_vector_relation, STAGES, adapter=linear)
    return {
        "FitNet": labels(100.0, objectives.hint(student="block2", teacher="block2")),
        "FitNet, weight 1": labels(
            1.0, objectives.hint(student="block2", teacher="block2")
        ),
        "AT": labels(1000.0, on(losses.attention_transfer, STAGES)),
        "AT, weight 10": labels(10.0, on(losses.attention_transfer, STAGES)),
        "SP": labels(3000.0, on(losses.similarity_preserving, LAST)),
        "NST": labels(50.0, on(losses.neuron_selectivity, STAGES)),
        "NST, weight 0.5": labels(0.5, on(losses.neuron_selectivity, STAGES)),
        "FSP": labels(1.0, on(losses.flow_of_solution, STAGES, adapter=linear)),
        "KDSVD": labels(1.0, ends),
        "AB": labels(
            0.003, objectives.activation_boundary(student=NORMS, teacher=NORMS)
        ),
        "OFD": labels(
            1e-3,
            objectives.overhaul(
                student=NORMS,
                teacher=NORMS,
                batchnorm=[batchnorm_of(stage) for stage in STAGES],
            ),
        ),
        "VID": labels(
            1.0, objectives.variational_information(student=STAGES, teacher=STAGES)
        ),
        "ICKD": labels(2.5, on(losses.inter_channel_correlation, LAST, adapter=linear)),
        "affinity": labels(1.0, on(losses.channel_affinity, LAST, adapter=linear)),
        "CWD": labels(
            3.0, on(losses.channel_wise_kl, LAST, adapter=linear, temperature=4.0)
        ),
        "pair-wise": labels(1.0, on(losses.pair_wise_similarity, LAST)),
        "PKD": labels(6.0, on(losses.standardized_feature_mse, LAST, adapter=linear)),
        "FBKD": objectives.combine(
            hard=(1.0, objectives.hard_label()),
            means=(4e-3, on(losses.pooled_feature_distance, LAST, adapter=linear)),
            maps=(7e-5, on(losses.attention_weighted_distance, LAST, adapter=linear)),
        ),
        "ReviewKD": labels(5.0, objectives.review(student=STAGES, teacher=STAGES)),
        "MGD": labels(7e-5, objectives.masked_generation(student=LAST, teacher=LAST)),
    }


def on_the_heads():
    """Methods on the last features and the classifiers behind them."""
    linear = objectives.linear_adapter()
    return {
        "SRRL": labels(
            1.0,
            objectives.representation_regression(student=LAST, teacher=LAST, head=head),
        ),
        "SRD": labels(2.0, objectives.log_power_distance(student=POOL, teacher=POOL)),
        "ITRD": objectives.combine(
            hard=(1.0, objectives.hard_label()),
            correlation=(
                2.0,
                on(losses.representation_correlation, POOL, adapter=linear),
            ),
            information=(
                1.0,
                on(losses.representation_information, POOL, adapter=linear),
            ),
        ),
        "OFA": objectives.combine(
            exits=(1.0, objectives.exits(student=STAGES[:2])),
            last=(1.0, logits(losses.target_enhanced_cross_entropy)),
            hard=(1.0, objectives.hard_label()),
        ),
        "PAD-L2": labels(
            1.0, objectives.uncertainty_weighted(student=POOL, teacher=POOL)
        ),
    }


def on_relations():
    """Methods on how the examples of a batch relate."""

    def of_length_1(student, teacher, **where):
        unit = lambda x: x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-6)
        return losses.gaussian_congruence(unit(student), unit(teacher), **where)

    neighbours = objectives.on_embeddings(
        losses.neighbour_correlation, student=POOL, teacher=POOL
    )
    return {
        "RKD": objectives.combine(
            hard=(1.0, objectives.hard_label()),
            distance=(25.0, on(losses.relational_distance, POOL)),
            angle=(50.0, on(losses.relational_angle, POOL)),
        ),
        "PKT": labels(30000.0, on(losses.probabilistic_knowledge_transfer, POOL)),
        "CC": labels(0.02, neighbours),
        "CCKD": labels(0.02, on(of_length_1, POOL)),
        "SKD": soft(direction=(1.0, logits(losses.similarity_mahalanobis))),
        "DIST+": objectives.combine(
            hard=(1.0, objectives.hard_label()),
            inter=(2.0, logits(losses.inter_class_relation)),
            intra=(2.0, logits(losses.intra_class_relation)),
            channels=(
                1.0,
                on(losses.channel_relation, LAST, adapter=objectives.linear_adapter()),
            ),
            places=(1.0, on(losses.spatial_relation, LAST)),
        ),
    }


def in_contrast(examples):
    """Methods that tell an example from those of a memory."""
    queued = lambda loss: objectives.on_queue(
        loss, student=POOL, teacher=POOL, size=1024
    )
    return {
        "CRD": labels(
            0.8,
            objectives.contrastive_representation(
                student=POOL, teacher=POOL, size=examples, negatives=1024
            ),
        ),
        "SEED": labels(1.0, queued(losses.instance_similarity_cross_entropy)),
        "InfoNCE": labels(1.0, queued(losses.info_nce)),
        "CompRess": labels(1.0, queued(losses.anchor_similarity_kl)),
    }
